"""The engines that the contract is held against."""

import os

import pytest

from tests.groups.members import new_prefix
from tests.groups.redis_server import SERVER, redis_server

needs_redis = pytest.mark.skipif(
    not SERVER and not os.environ.get('REQUIRE_REDIS'),
    reason='Groups over Redis are tested with a real one: install redis-server or valkey-server.',
)


@pytest.fixture(scope='session')
def shared_redis(tmp_path_factory):
    """A Redis that nobody kills."""
    with redis_server(tmp_path_factory.mktemp('redis')) as server:
        yield server


@pytest.fixture
def redis(tmp_path):
    """A Redis of one test, which may do with it what it likes."""
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture(params=['memory', pytest.param('redis', marks=needs_redis)])
def engine(request):
    """The URL and the prefix of an engine, as arguments of a process."""
    if request.param == 'memory':
        return {'url': None}
    return {'url': request.getfixturevalue('shared_redis').url, 'prefix': new_prefix()}
