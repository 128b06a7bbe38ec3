"""One session is one server and one history, alive as long as bytes come: each on a real Redis."""

import asyncio
import contextlib

import pytest

from apistar_ws import GroupsUnavailable, PositionLost
from apistar_ws.groups.hubs import Hubs
from apistar_ws.groups.payload import encode
from apistar_ws.groups.redis.engine import RedisEngine
from apistar_ws.groups.redis.scripts import ENTER
from apistar_ws.groups.redis.server import Server, connection_pool
from apistar_ws.groups.redis.session import Session
from tests.groups.members import PATIENCE, Inbox, new_prefix, process, sent, tick
from tests.groups.redis_server import Proxy, RedisServer, redis_server, until
from tests.groups.test_faults import LOST, Publishing, Witness, check, members_are, opened
from tests.needs import needs_redis

pytestmark = needs_redis


@contextlib.contextmanager
def two_servers(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir(), two.mkdir()
    with redis_server(one) as first, redis_server(two) as second:
        yield first, second


async def follow(replica: RedisServer, port: int):
    """Make a server the replica of the one at ``port``, and return when it has its data."""
    replica.command('REPLICAOF', '127.0.0.1', str(port))
    await until(lambda: b'master_link_status:up' in replica.command('INFO', 'replication'), 'the replica')


def redis_session(url):
    """Return a session that nobody has opened, and how to open it with connections to URLs."""
    session = Session(engine_of(url)._names, PATIENCE, lambda channel, data: None)
    server = Server(url)

    async def open_session(*urls):
        async def connections():
            return [connection_pool(url).make_connection() for url in urls]

        server.connections = connections
        await session.open(server, 0)

    return session, open_session


def engine_of(url):
    return RedisEngine(url, Hubs(None, {'prefix': new_prefix()}, 'test')._namespaces, None)


class TestOneServer:
    """The three connections of a session reach one server, or there is no session."""

    @pytest.mark.parametrize('odd', [0, 1, 2])
    async def test_two_servers_are_no_session(self, tmp_path, odd):
        """Whichever of the three connections has reached another server."""
        with two_servers(tmp_path) as (first, second):
            session, open_session = redis_session(first.url)
            urls = [second.url if number == odd else first.url for number in range(3)]
            with pytest.raises(ConnectionError, match='different servers'):
                await open_session(*urls)
            await session.close()

    async def test_replica_promoted_later_is_no_session(self, tmp_path):
        """A probe alone would be fooled: a subscriber on a replica gets what its primary publishes."""
        with two_servers(tmp_path) as (primary, replica):
            await follow(replica, primary.port)
            async with Proxy(primary.port) as proxy:
                proxy.targets = [primary.port, primary.port, replica.port]
                hubs = Hubs(proxy.url, {'prefix': new_prefix(), 'history': 10}, 'test')
                with pytest.raises(GroupsUnavailable):
                    await hubs.current().engine.ready()
                replica.command('REPLICAOF', 'NO', 'ONE')
                await until(lambda: hubs.current().engine.state == 'open', 'a session with one server')
                assert proxy.targets == [] and proxy.accepted >= 6
                await hubs.stop()

    async def test_failed_probe_is_no_session(self, redis):
        """What is published does not come to the subscriber: the session does not begin."""
        session, open_session = redis_session(redis.url)
        await open_session(*[redis.url] * 3)
        redis.command('ACL', 'SETUSER', 'default', '-publish')
        with pytest.raises(TimeoutError, match='does not come back'):
            await session.begin([], 0.2)
        await session.close()


class TestOneHistory:
    """An epoch belongs to a history: whatever may have lost messages begins another one."""

    async def test_fail_over_and_back_is_told(self, tmp_path):
        """The first server never restarted and has its run id, but not what it had sent last."""
        with two_servers(tmp_path) as (first, second):
            async with Proxy(first.port) as link, process(first.url, history=100) as groups:
                await follow(second, link.port)
                await groups.send('a', 'kept')
                await until(lambda: b'offset' in second.command('INFO', 'replication'), 'it to be copied')
                link.passes_answers = link.passes_commands = False
                since = await groups.send('a', 'lost')
                second.command('REPLICAOF', 'NO', 'ONE')
                await follow(first, second.port)
                first.command('REPLICAOF', 'NO', 'ONE')
                for number in range(3):
                    await sent_at_last(groups, 'a', str(number))
                with pytest.raises(PositionLost):
                    async with groups.join('a', Inbox(), since=since):
                        """It is not entered."""

    async def test_first_replica_loses_nobody(self, tmp_path):
        """It changes the replication id, and no message is lost."""
        with two_servers(tmp_path) as (first, second):
            async with process(first.url, history=10) as groups:
                since = await groups.send('a', '0')
                await follow(second, first.port)
                groups._hub.engine._keeper.session.fail(OSError('for the test'))
                await until(lambda: groups.stats()['gaps'] == 1 and groups.stats()['engine'] == 'open', 'a session')
                await groups.send('a', '1')
                assert [message.data for message in await groups.history('a', since=since)] == ['1']

    async def test_outdated_token_changes_nothing(self, redis):
        """Whoever has lost the history is refused by each script, before it does anything."""
        async with process(redis.url, prefix='p', history=10) as groups:
            await groups.send('a', '0')
            session = groups._hub.engine._keeper.session
            redis.command('HSET', 'p:history', 'token', 'another')
            with pytest.raises(GroupsUnavailable) as caught:
                await groups.send('a', '1')
            assert not caught.value.maybe_sent and 'OTHERHISTORY' in str(session.failure)
            assert redis.command('XLEN', 'p:stream:a') == b':1\r\n'
            await sent(groups, 'a', '2')

    async def test_missing_history_is_another(self, redis):
        """Whoever finds no key of the history makes one, and its generation is above all that were seen."""
        witness = Witness()
        async with process(redis.url, prefix='p', history=10) as groups:
            async with groups.join('a', witness, on_lost=witness.on_lost):
                await groups.send('a', '0')
                before = groups._hub.engine._keeper.session.generation
                redis.command('DEL', 'p:history')
                await sent(groups, 'a', '1')
                await witness.until('0', LOST, '1')
                assert groups._hub.engine._keeper.session.generation == before + 1

    async def test_older_generation_is_another_history(self, redis):
        """A server whose history is older than the one that this process has seen was restored from a copy."""
        async with process(redis.url, prefix='p', history=10) as groups:
            since = await groups.send('a', '0')
            groups._hub.engine._generation += 5
            generation = groups._hub.engine._generation
            groups._hub.engine._keeper.session.fail(OSError('for the test'))
            await until(lambda: groups._hub.engine._generation == generation + 1, 'a new history')
            await opened(groups)
            with pytest.raises(PositionLost):
                await groups.history('a', since=since)

    async def test_open_at_limit_of_memory(self, redis):
        """A session begins where nothing has changed, since nothing is written then."""
        async with process(redis.url, history=10) as groups:
            redis.command('CONFIG', 'SET', 'maxmemory', '1')
            groups._hub.engine._keeper.session.fail(OSError('for the test'))
            await until(lambda: groups.stats()['gaps'] == 1 and groups.stats()['engine'] == 'open', 'a session')
            redis.command('CONFIG', 'SET', 'maxmemory', '0')


async def sent_at_last(groups, name, data):
    """Send until it is accepted; it may have been sent before."""
    while True:
        try:
            return await groups.send(name, data)
        except GroupsUnavailable:
            await asyncio.sleep(0.01)


class TestLife:
    """Each connection has traffic in each tick; a byte that was read is life, ten seconds without one are death."""

    @pytest.mark.parametrize('part', ['publishing', 'asking', 'subscriber'])
    async def test_dead_connection_is_found(self, redis, part):
        """Whichever of the three passes nothing, although it is open."""
        async with process(redis.url, lease=1.0) as groups:
            session = groups._hub.engine._keeper.session
            await tick(groups)
            getattr(session, part).wire.connection._reader._transport.pause_reading()
            await until(lambda: session.failure is not None, 'it to be found', 12.0)
            assert isinstance(session.failure, TimeoutError)

    async def test_each_connection_has_traffic(self, redis):
        """So that no time limit of Redis or of a firewall finds one idle."""
        async with process(redis.url) as groups:
            session = groups._hub.engine._keeper.session
            before = [wire.read_at for wire in session._wires]
            await tick(groups)
            await until(lambda: all(w.read_at > at for w, at in zip(session._wires, before)), 'bytes on each')

    async def test_idle_limit_of_redis_ends_nothing(self, redis):
        """A member that only receives uses no connection for questions; its probe does."""
        redis.command('CONFIG', 'SET', 'timeout', '2')
        async with process(redis.url, lease=1.0) as groups:
            ticks = groups._hub.engine.ticks
            await until(lambda: groups._hub.engine.ticks >= ticks + 8, 'twice the limit')
            assert groups.stats()['gaps'] == 0

    async def test_bytes_are_life(self, redis, monkeypatch):
        """A subscriber that lags behind reads: its probe is late, and the session goes on."""
        for name, value in (('SILENCE', 0.3), ('PROBE_TIMEOUT', 0.2)):
            monkeypatch.setattr('apistar_ws.groups.redis.session.' + name, value)
        async with process(redis.url, lease=0.2) as groups:
            session = groups._hub.engine._keeper.session
            session._probe_channel = b'another one'
            ticks = groups._hub.engine.ticks
            while groups._hub.engine.ticks < ticks + 10:
                session.subscriber.wire.read_at = asyncio.get_running_loop().time()
                await asyncio.sleep(0.01)
            assert session.failure is None and len(session._probes) >= 10

    async def test_lost_probe_ends_session(self, redis, monkeypatch):
        """The connections are alive, and what is sent does not come back for a minute."""
        monkeypatch.setattr('apistar_ws.groups.redis.session.LOST_PROBE', 0.3)
        async with process(redis.url, lease=0.2) as groups:
            session = groups._hub.engine._keeper.session
            session._probe_channel = b'another one'
            await until(lambda: session.failure is not None, 'the session to end')
            assert 'does not come back' in str(session.failure)

    async def test_late_answer_fails_its_caller(self, redis):
        """The session goes on, and later answers are those of later questions."""
        async with process(redis.url, publish_timeout=0.2) as groups:
            await groups.count('a')
            session = groups._hub.engine._keeper.session
            transport = session.asking.wire.connection._reader._transport
            transport.pause_reading()
            with pytest.raises(GroupsUnavailable, match='did not answer in time'):
                await groups.count('a')
            transport.resume_reading()
            async with groups.join('a', Inbox(), info='ann'):
                assert [member.info for member in await groups.members('a')] == ['ann']
            assert session.failure is None and groups.stats()['gaps'] == 0

    async def test_late_subscription_fails_its_caller(self, redis):
        """A subscriber that lags behind confirms late; others keep their session."""
        async with process(redis.url, publish_timeout=0.2) as groups:
            inbox = Inbox()
            session = groups._hub.engine._keeper.session
            transport = session.subscriber.wire.connection._reader._transport
            transport.pause_reading()
            with pytest.raises(GroupsUnavailable, match='did not answer in time'):
                async with groups.join('a', inbox):
                    """It is not entered."""
            transport.resume_reading()
            async with groups.join('a', inbox):
                await groups.send('a', '1')
                await inbox.until('1')
            assert session.failure is None

    async def test_stalled_primary_and_moved_address(self, tmp_path):
        """A primary stalls, its replica is promoted, the address moves: nothing is lost silently."""
        with two_servers(tmp_path) as (primary, replica):
            await follow(replica, primary.port)
            witness = Witness()
            async with Proxy(primary.port) as proxy, process(proxy.url, history=100, publish_timeout=1.0) as groups:
                async with groups.join('a', witness, on_lost=witness.on_lost), Publishing(groups) as publishing:
                    await publishing.more()
                    primary.freeze()
                    replica.command('REPLICAOF', 'NO', 'ONE')
                    proxy._target = replica.port
                    await until(lambda: groups.stats()['engine'] == 'away', 'the stall to be noticed')
                    primary.thaw()
                    await publishing.more()
                    last = publishing.accepted[-1]
                    await until(lambda: last in witness.messages, 'what was sent last')
                assert check(witness.messages, publishing)


class TestPresence:
    """One process is listed once, for as long as it lives."""

    async def test_member_is_counted_once_when_connections_break(self, redis):
        async with process(redis.url, prefix='p') as groups, process(redis.url, prefix='p') as looking:
            async with groups.join('a', Inbox(), info='ann'):
                for _ in range(10):
                    groups._hub.engine._keeper.session.fail(OSError('for the test'))
                    lease = groups._hub.engine.presence.lease
                    while groups._hub.engine.presence.lease == lease or not groups._hub.engine.presence.is_listed:
                        assert await looking.count('a') == 1
                assert groups._hub.engine.presence.lease.id == lease.id

    async def test_late_command_of_an_earlier_session_is_ignored(self, redis):
        """It would make a ghost that lives as long as the process."""
        async with process(redis.url, prefix='p') as groups:
            await until(lambda: groups._hub.engine.presence.is_listed, 'the lease')
            presence, session = groups._hub.engine.presence, groups._hub.engine._keeper.session
            lease = presence.lease
            await session.change(ENTER, ['p:sessions'], 'p', lease.id, lease.session + 1, 10_000, 10_000)
            await presence.announce('a', [])
            assert redis.keys('p:present') == []
            await tick(groups)
            assert await session.ask(ENTER, ['p:sessions'], 'p', *lease, 10_000, 10_000) == []

    @pytest.mark.parametrize('keys', [['sessions'], ['lease:%s'], ['present:a'], ['members:%s:a'], ['groups:%s']])
    async def test_deleted_keys_are_mended(self, redis, keys):
        """Each of them alone, by the next tick."""
        async with process(redis.url, prefix='p') as groups:
            async with groups.join('a', Inbox(), info='ann'):
                lease = groups._hub.engine.presence.lease
                for key in keys:
                    redis.command('DEL', 'p:' + (key % lease if '%' in key else key))
                await tick(groups)
                await members_are(groups, 'a', 'ann')
            await members_are(groups, 'a')
            assert redis.keys('p:present') == redis.keys('p:groups') == []

    async def test_unconfirmed_leave_is_made_good(self, redis):
        """Its answer is late: the session goes on, and the next tick sees to it."""
        async with process(redis.url, prefix='p', publish_timeout=0.2) as groups:
            async with groups.join('a', Inbox(), info='ann'):
                redis.command('ACL', 'SETUSER', 'default', '-hdel')
            await tick(groups)
            redis.command('ACL', 'SETUSER', 'default', '+hdel')
            assert await groups.count('a') == 1
            await tick(groups)
            assert await groups.count('a') == 0

    async def test_many_groups_are_listed_again(self, redis):
        """In batches, whatever was deleted or left meanwhile."""
        async with process(redis.url, prefix='p') as groups, contextlib.AsyncExitStack() as stack:
            for number in range(250):
                await stack.enter_async_context(groups.join('room:%d' % number, Inbox(), info=number))
            many = [await stack.enter_async_context(groups.join('room:7', Inbox())) for _ in range(600)]
            redis.command('EVAL', "for _, k in ipairs(redis.call('KEYS', 'p:[!h]*')) do redis.call('DEL', k) end", '0')
            await tick(groups)
            assert await groups.count('room:7') == len(many) + 1
            assert [await groups.count('room:%d' % number) for number in (0, 99, 100, 249)] == [1] * 4


async def test_messages_of_nobody_are_dropped(redis):
    """What comes for a group that was left a moment before is nobody's."""
    async with process(redis.url, prefix='p') as groups:
        engine, hub = groups._hub.engine, groups._hub
        await engine.subscribe('a')
        engine._groups.clear()
        await engine.publish([encode(hub.codec, 'a', '1')])
        await tick(groups)
        assert hub.counters.queued == 0


@pytest.mark.parametrize('policy', ['allkeys-lru', 'volatile-ttl', 'volatile-lru'])
async def test_every_evicting_policy_is_warned_of(tmp_path, caplog, policy):
    with redis_server(tmp_path, '--maxmemory-policy', policy) as server:
        async with process(server.url):
            """It works."""
    assert 'Redis has the policy %s' % policy in caplog.text and 'Use noeviction.' in caplog.text
