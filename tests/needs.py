"""What some tests need beside Python. Where it is missing they are skipped; where all is required they fail."""

import importlib.util
import os
import shutil
import sys
from typing import Any, Optional

import pytest

#: Set by ``make coverage``, where a test that is skipped would be a line that is not covered.
REQUIRED = bool(os.environ.get('REQUIRE_ALL'))


def program(*names: str) -> Optional[str]:
    """Return the path of the first of some programs that is installed."""
    return next(filter(None, map(shutil.which, names)), None)


def packages(*names: str) -> bool:
    """Tell whether Python packages are installed."""
    return all(map(importlib.util.find_spec, names))


def needs(what: str, found: Any) -> Any:
    """Return the mark of tests that need something; the summary at the end counts what is missing."""
    return pytest.mark.skipif(not found and not REQUIRED, reason=what)


REDIS = program('redis-server', 'valkey-server')
CHROMIUM = program('chromium', 'chromium-browser', 'google-chrome')
CHROMEDRIVER = program('chromedriver')

needs_redis = needs('redis-server', REDIS)
needs_browser = needs('chromium', CHROMIUM and CHROMEDRIVER)
needs_sphinx = needs('sphinx', packages('sphinx', 'furo', 'sphinx_copybutton'))
needs_uvloop = needs('uvloop', packages('uvloop'))
needs_starlette = needs('starlette', packages('starlette') and (packages('httpx') or packages('httpx2')))
needs_make = needs('make', program('make'))


def needs_python(*version: int) -> Any:
    """Return the mark of tests of what older versions of Python do not have."""
    return pytest.mark.skipif(sys.version_info < version, reason='Python %d.%d' % version)
