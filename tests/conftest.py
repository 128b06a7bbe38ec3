"""What all tests share."""

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import chromium
from tests.groups.redis_server import redis_server

# The machines are noisy: how long an example takes says nothing.
settings.register_profile('tests', deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile('tests')


@pytest.fixture(scope='session')
def shared_redis(tmp_path_factory):
    """A Redis that nobody kills."""
    with redis_server(tmp_path_factory.mktemp('redis')) as server:
        yield server


@pytest.fixture(scope='session')
def browser(tmp_path_factory):  # pragma: no cover
    """A browser that all tests share; each opens tabs of its own."""
    with chromium(tmp_path_factory.mktemp('profile')) as running:
        yield running
