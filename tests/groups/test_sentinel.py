"""A Redis that a real Sentinel watches: fail-overs, a stall, and Sentinels that do not answer."""

import asyncio
import contextlib
import re
import socket

import pytest
from apistar.exceptions import ConfigurationError

from apistar_ws import Groups, GroupsComponent, GroupsUnavailable
from apistar_ws.groups.redis.sentinel import SentinelServer
from tests.groups.members import Inbox, new_prefix, process
from tests.groups.redis_server import RedisServer, until
from tests.groups.test_faults import Publishing, Witness, check, opened
from tests.groups.test_sessions import follow
from tests.needs import needs_redis
from tests.servers import free_port

pytestmark = needs_redis

NAME = 'mymaster'


class Watched:
    """A primary, a replica, and a Sentinel that watches them."""

    def __init__(self, directory, *options):
        self.servers = [RedisServer(made(directory / name)) for name in ('one', 'two')]
        self.directory, self.options = made(directory / 'sentinel'), options
        self.sentinel = None

    async def __aenter__(self):
        for server in self.servers:
            server.start()
        await follow(self.servers[1], self.servers[0].port)
        port = free_port()
        config = self.directory / 'sentinel.conf'
        config.write_text(
            'sentinel monitor %s 127.0.0.1 %d 1\nsentinel down-after-milliseconds %s 1000\n'
            'sentinel failover-timeout %s 3000\n%s\n'
            % (NAME, self.servers[0].port, NAME, NAME, '\n'.join(self.options))
        )
        self.sentinel = RedisServer(self.directory, port=port, config=config)
        self.sentinel.start()
        await until(lambda: self.said('num-slaves') == '1', 'the Sentinel to know the replica')
        return self

    async def __aexit__(self, *exc_info):
        for server in [*self.servers, self.sentinel]:
            server.stop()

    @property
    def url(self):
        return 'redis+sentinel://127.0.0.1:%d/%s/0' % (self.sentinel.port, NAME)

    def said(self, field):
        """Return what the Sentinel says of the primary."""
        answer = self.sentinel.command('SENTINEL', 'MASTER', NAME, until=b'parallel-syncs').decode()
        return re.search(r'\r\n%s\r\n\$\d+\r\n([^\r]*)\r\n' % re.escape(field), answer)[1]

    @property
    def primary(self):
        return next(server for server in self.servers if str(server.port) == self.said('port'))

    async def fail_over(self):
        """Have the Sentinel promote the replica, and return when it has."""
        before = self.said('port')
        await until(lambda: self.sentinel.command('SENTINEL', 'FAILOVER', NAME) == b'+OK\r\n', 'the order', 60)
        await until(lambda: self.said('port') != before, 'the promotion', 60)


def made(directory):
    directory.mkdir()
    return directory


async def test_three_fail_overs_lose_nothing_silently(tmp_path):
    witness, options = Witness(), {'prefix': new_prefix(), 'history': 10_000}
    async with Watched(tmp_path) as watched:
        async with process(watched.url, **options) as receiving, process(watched.url, **options) as sending:
            async with receiving.join('a', witness, on_lost=witness.on_lost), Publishing(sending) as publishing:
                for _ in range(3):
                    await publishing.more()
                    await watched.fail_over()
                    await opened(sending)
                    await publishing.more()
                last = publishing.accepted[-1]
                await until(lambda: last in witness.messages, 'what was sent last')
            assert check(witness.messages, publishing)


async def test_stalled_primary_is_left_at_the_promotion(tmp_path):
    """Its connections are open; the Sentinel says that another server is the primary."""
    witness = Witness()
    async with Watched(tmp_path) as watched:
        async with process(watched.url, history=10_000, publish_timeout=60) as groups:
            async with groups.join('a', witness, on_lost=witness.on_lost), Publishing(groups) as publishing:
                await publishing.more()
                session, stalled = groups._hub.engine._keeper.session, watched.primary
                stalled.freeze()
                await until(lambda: session.failure is not None, 'the promotion', 60)
                assert 'promoted another primary' in str(session.failure)
                await publishing.more()
                stalled.thaw()
                await publishing.more()
                last = publishing.accepted[-1]
                await until(lambda: last in witness.messages, 'what was sent last')
            assert check(witness.messages, publishing)


async def test_silent_sentinel_costs_half_a_second(tmp_path):
    """The next one is asked, once."""
    with contextlib.closing(socket.create_server(('127.0.0.1', 0))) as silent:
        async with Watched(tmp_path) as watched:
            hosts = '127.0.0.1:%d,127.0.0.1:%d' % (silent.getsockname()[1], watched.sentinel.port)
            async with process('redis+sentinel://%s/%s' % (hosts, NAME)) as groups:
                inbox = Inbox()
                async with groups.join('a', inbox):
                    await groups.send('a', '1')
                    await inbox.until('1')


async def test_sentinel_with_a_password(tmp_path):
    """It is for the Sentinels only."""
    async with Watched(tmp_path, 'user eve on >secret ~* &* +@all') as watched:
        login = '?sentinel_username=eve&sentinel_password='
        async with process(watched.url + login + 'secret') as groups:
            assert await groups.count('a') == 0
        with pytest.raises(GroupsUnavailable):
            async with Groups.connect(watched.url + login + 'wrong'):
                """It is not entered."""


async def test_unknown_primary_is_waited_for(tmp_path, caplog):
    async with Watched(tmp_path) as watched:
        with pytest.raises(GroupsUnavailable):
            async with Groups.connect(watched.url.replace(NAME, 'other')):
                """It is not entered."""
    assert "No Sentinel names a primary 'other'" in caplog.text


async def test_replica_behind_a_sentinel_is_waited_for(tmp_path):
    """What is refused for good at a fixed address is promoted soon behind a Sentinel."""
    server = SentinelServer('redis+sentinel://a,b:1/%s' % NAME)
    assert isinstance(server.explained(ConfigurationError('a replica')), ConnectionError)
    assert isinstance(server.explained(OSError('x')), OSError)
    assert server._addresses == [('a', 26379), ('b', 1)] and server.database == 0


@pytest.mark.parametrize('url', ['redis+sentinel://a', 'redis+sentinel:///name/0', 'redis+sentinel://a:x/name/0'])
def test_incomplete_url_is_refused(url):
    with pytest.raises(ConfigurationError, match='Sentinel'):
        GroupsComponent(url)


def test_options_of_the_url_reach_both():
    url = 'rediss+sentinel://ann:pw@a:1,b:2/%s/3?ssl_ca_certs=/ca.pem&sentinel_username=eve&sentinel_password=x' % NAME
    server = SentinelServer(url)
    options = server._pool.connection_kwargs
    assert (options['username'], options['password'], server.database) == ('ann', 'pw', 3)
    assert server._pool_of_sentinels.connection_kwargs['ssl_ca_certs'] == options['ssl_ca_certs'] == '/ca.pem'
    assert server._login == {'username': 'eve', 'password': 'x'}


def listeners(redis):
    """Return how many listen to promotions."""
    return int(redis.command('PUBSUB', 'NUMSUB', '+switch-master', until=b'\r\n:').rpartition(b':')[2])


async def test_other_events_of_a_sentinel_end_nothing(redis):
    """A fail-over of another primary, or to the server that is used already."""
    server, failures = SentinelServer('redis+sentinel://127.0.0.1:%d/%s' % (redis.port, NAME)), []
    server._address = ('10.0.0.2', 6379)
    watching = asyncio.ensure_future(server.watch(failures.append))
    await until(lambda: listeners(redis) == 1, 'it to listen')
    for text in ('other 10.0.0.1 6379 10.0.0.3 6379', NAME + ' 10.0.0.1 6379 10.0.0.2 6379'):
        redis.command('PUBLISH', '+switch-master', text)
    redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
    await until(lambda: listeners(redis) == 0, 'the connection to end')
    await until(lambda: listeners(redis) == 1, 'it to listen')
    redis.command('PUBLISH', '+switch-master', NAME + ' 10.0.0.2 6379 10.0.0.3 6379')
    await until(lambda: failures, 'the promotion')
    assert len(failures) == 1
    watching.cancel()
    await asyncio.wait({watching})
