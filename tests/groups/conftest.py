"""The engines that the contract is held against."""

import pytest

from tests.groups.members import new_prefix
from tests.groups.redis_server import redis_server
from tests.needs import needs_redis


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
