"""What is public is what is documented, and nothing else."""

import re

import pytest

from apistar_ws import WebSocket, testing
from tests.servers import ROOT

REFERENCE = (ROOT / 'docs' / 'reference.rst').read_text(encoding='utf-8')


def documented(name):
    """Return the members of a class that the reference lists."""
    block = re.search(r'autoclass:: %s\n   :members:(.*?)\n\n' % re.escape(name), REFERENCE, re.DOTALL)
    return {member.strip() for member in block[1].split(',')}


def public(cls, *attributes):
    return {name for name in dir(cls) if not name.startswith('_')} | set(attributes)


@pytest.mark.parametrize(
    'name, found',
    [
        ('apistar_ws.WebSocket', public(WebSocket)),
        ('apistar_ws.testing.Connection', public(testing.Connection, 'subprotocol', 'headers')),
    ],
)
def test_public_names_are_the_documented_ones(name, found):
    assert found == documented(name)
