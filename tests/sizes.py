"""How much a test does: as much as shows the fault where the behaviour is broken, or far more where ``SOAK`` is set.

``make test-soak`` and ``.ci/run`` set it, and run the tests that are marked with it.
"""

import os
from typing import Any, Callable

import pytest
from hypothesis import settings

SOAK = bool(os.environ.get('SOAK'))

soak = pytest.mark.soak


def size(usual: int, soaked: int) -> int:
    """Return how often a test does something."""
    return soaked if SOAK else usual


def examples(usual: int, soaked: int, **options: Any) -> Callable[[Any], Any]:
    """Give a test of hypothesis so many examples."""

    def decorate(test: Any) -> Any:
        return soak(settings(max_examples=size(usual, soaked), **options)(test))

    return decorate
