"""What all tests share."""

import collections
import os

import pytest
from hypothesis import HealthCheck, settings

from tests.browser.chromium import chromium
from tests.groups.redis_server import redis_server
from tests.needs import REQUIRED
from tests.sizes import size

# The machines are noisy: how long an example takes says nothing.
settings.register_profile(
    'tests',
    max_examples=size(30, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    # Where coverage is asked for, the examples are the same each time: what is covered is no matter of chance.
    derandomize=REQUIRED,
)
settings.load_profile('tests')


@pytest.fixture(scope='session')
def shared_redis(tmp_path_factory):
    """A Redis that nobody kills."""
    with redis_server(tmp_path_factory.mktemp('redis')) as server:
        yield server


@pytest.fixture(scope='session')
def browser(tmp_path_factory):
    """A browser that all tests share; each opens tabs of its own."""
    with chromium(tmp_path_factory.mktemp('profile')) as running:
        yield running


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """Run twice as many processes as there are processors, since many tests mostly wait."""
    return 2 * (os.cpu_count() or 1)


def pytest_terminal_summary(terminalreporter):
    """Say in one line how many tests were skipped, and what brings them."""
    reasons = [report.longrepr[2].removeprefix('Skipped: ') for report in terminalreporter.stats.get('skipped', ())]
    if reasons:
        missing = ', '.join('%d need %s' % (count, what) for what, count in collections.Counter(reasons).most_common())
        terminalreporter.write_line('Skipped tests: %s. See docs/contributing.rst.' % missing)
