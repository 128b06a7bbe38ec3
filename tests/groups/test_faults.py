"""What becomes of messages and members when Redis, or the way to it, fails: each on a real Redis."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time

import pytest
from apistar.exceptions import ConfigurationError

from apistar_ws import Groups, GroupsComponent, GroupsUnavailable, PositionLost
from apistar_ws.groups.hubs import Hubs
from apistar_ws.groups.redis.lines import Line, Subscriber
from apistar_ws.groups.redis.server import connection_pool
from apistar_ws.groups.redis.session import check_server
from tests.groups.members import PATIENCE, Inbox, client, new_prefix, process, sent, tick
from tests.groups.redis_server import Proxy, RedisServer, redis_server, until
from tests.needs import needs_redis
from tests.servers import ROOT, eventually, free_port
from tests.sizes import size, soak

pytestmark = needs_redis

#: Seconds within which everything works again: far more than the one that is promised, for a machine that is busy.
PROMISED = 10.0
LOST = 'lost'


class Witness(Inbox):
    """A member that keeps what it gets, and that it was told of a loss."""

    async def on_lost(self, lost):
        await self(LOST)


class Publishing:
    """Sends numbers, one after the other, and keeps what has become of each."""

    def __init__(self, groups, name='a', pause=0.005):
        self.accepted, self.refused, self.unknown = [], [], []
        self._groups, self._name, self._pause = groups, name, pause
        self._number = 0

    async def __aenter__(self):
        self._task = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(self, *exc_info):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self):
        while True:
            number = str(self._number)
            self._number += 1
            try:
                await self._groups.send(self._name, number)
            except GroupsUnavailable as exc:
                (self.unknown if exc.maybe_sent else self.refused).append(number)
            except asyncio.CancelledError:  # pragma: no cover
                # It is over, and this one was on its way.
                self.unknown.append(number)
                raise
            else:
                self.accepted.append(number)
            await asyncio.sleep(self._pause)

    async def more(self, count=20):
        """Return when so many more were accepted."""
        goal = len(self.accepted) + count
        await until(lambda: len(self.accepted) >= goal, 'messages to be accepted')


def check(got, publishing):
    """Hold what a member got against what was sent: in order, nothing twice, and no hole that was not told."""
    numbers = [int(number) for number in got if number != LOST]
    assert numbers == sorted(set(numbers))
    assert not set(got) & set(publishing.refused)
    told = LOST in got
    runs = ' '.join(got).split(LOST)
    for run in runs:
        received = run.split()
        if received:
            expected = [n for n in publishing.accepted if int(received[0]) <= int(n) <= int(received[-1])]
            assert [n for n in received if n not in publishing.unknown] == expected
    return told


@contextlib.asynccontextmanager
async def two_processes(url, **options):
    """Supply the groups of two processes with one engine: who receives, and who sends."""
    options = {'prefix': new_prefix(), 'history': 10_000, **options}
    async with process(url, **options) as receiving, process(url, **options) as sending:
        yield receiving, sending


async def opened(groups):
    await until(lambda: groups.stats()['engine'] == 'open', 'the engine to be back', 30.0)


async def test_redis_killed_for_two_seconds_and_empty_on_its_return_is_told(redis, caplog):
    witness = Witness()
    async with two_processes(redis.url) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost), Publishing(sending) as publishing:
            await publishing.more()
            redis.kill()
            await until(lambda: publishing.refused, 'a message to be refused')
            began = time.monotonic()
            while time.monotonic() < began + 2:
                await asyncio.sleep(0.05)
                with pytest.raises(GroupsUnavailable):
                    await receiving.members('a')
                with pytest.raises(GroupsUnavailable):
                    async with receiving.join('b', Inbox()):
                        """It is not entered."""
            redis.start()
            back = time.monotonic()
            await publishing.more(1)
            assert time.monotonic() - back < PROMISED
            await until(lambda: witness.messages[-1] in publishing.accepted[-20:], 'messages to come again')
            await publishing.more()
            await members_are(sending, 'a', None)
        assert check(witness.messages, publishing)
        assert receiving.stats()['told'] == 1
    lines = [record.getMessage() for record in caplog.records]
    assert sum('is away' in line for line in lines) == 2
    assert redis.url not in caplog.text


async def test_connections_that_are_killed_lose_nothing(redis):
    witness = Witness()
    async with two_processes(redis.url) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost), Publishing(sending) as publishing:
            for _ in range(5):
                await publishing.more()
                redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
                redis.command('CLIENT', 'KILL', 'TYPE', 'normal')
            killed = time.monotonic()
            await publishing.more()
            assert time.monotonic() - killed < PROMISED
            last = publishing.accepted[-1]
            await until(lambda: last in witness.messages, 'what was sent last')
        assert not check(witness.messages, publishing)
        assert receiving.stats()['recovered'] + len(witness.messages) > 0


async def test_a_restart_from_a_snapshot_with_a_lost_tail_is_told(tmp_path):
    with redis_server(tmp_path, '--dbfilename', 'dump.rdb') as redis:
        witness, late = Witness(), Inbox()
        async with two_processes(redis.url) as (receiving, sending):
            async with receiving.join('a', witness, on_lost=witness.on_lost) as group:
                for number in range(5):
                    await sending.send('a', str(number))
                redis.command('SAVE')
                for number in range(5, 10):
                    await sending.send('a', str(number))
                await witness.count(10)
                since = group.position
                redis.kill()
                for groups in (receiving, sending):
                    await until(lambda: groups.stats()['engine'] == 'away', 'it to be noticed')
                redis.start()
                await opened(sending)
                await sending.send('a', 'after')
                await witness.until(*'0123456789', LOST, 'after')
            with pytest.raises(PositionLost):
                async with receiving.join('a', late, since=since):
                    """It is not entered."""


@pytest.mark.parametrize('frozen', [2.0, 12.0])
async def test_a_redis_that_freezes_loses_nothing_and_is_noticed(redis, frozen):
    witness = Witness()
    async with two_processes(redis.url, publish_timeout=4.0, lease=20) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost), Publishing(sending) as publishing:
            await publishing.more()
            redis.freeze()
            began = time.monotonic()
            if frozen > 10:
                for groups in (receiving, sending):
                    await until(lambda: groups.stats()['engine'] == 'away', 'it to be noticed', 10.0)
            await asyncio.sleep(max(0.0, began + frozen - time.monotonic()))
            redis.thaw()
            await publishing.more()
            last = publishing.accepted[-1]
            await until(lambda: last in witness.messages, 'what was sent last')
        assert not check(witness.messages, publishing)
        assert len(publishing.unknown) <= 3


@pytest.mark.parametrize('kind', ['record', 'stream'])
async def test_a_key_that_is_deleted_alone_is_told_and_never_a_duplicate(shared_redis, kind):
    witness, prefix = Witness(), new_prefix()
    async with two_processes(shared_redis.url, prefix=prefix) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost) as group:
            since = await sending.send('a', '0')
            await sending.send('a', '1')
            await witness.until('0', '1')
            shared_redis.command('DEL', '%s:%s:a' % (prefix, kind))
            with pytest.raises(PositionLost):
                async with receiving.join('a', Inbox(), since=since):
                    """It is not entered."""
            await sending.send('a', '2')
            await witness.until('0', '1', *([LOST] if kind == 'record' else []), '2')
            assert group.position == await sending.send('a', '3', exclude=witness) or True


@pytest.mark.parametrize('kind', ['record', 'stream'])
async def test_a_key_that_is_deleted_before_a_publish_is_told_if_something_is_missing(shared_redis, kind):
    witness, prefix = Witness(), new_prefix()
    async with two_processes(shared_redis.url, prefix=prefix) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost):
            await sending.send('a', '0')
            await witness.until('0')
            shared_redis.command('DEL', '%s:%s:a' % (prefix, kind))
            await sending.send('a', '1')
            await witness.until('0', *([LOST, '1'] if kind == 'record' else ['1']))


async def test_a_top_below_the_place_of_a_member_is_a_loss(shared_redis):
    witness, prefix = Witness(), new_prefix()
    async with two_processes(shared_redis.url, prefix=prefix) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost):
            for number in range(5):
                await sending.send('a', str(number))
            await witness.count(5)
            shared_redis.command('HSET', prefix + ':record:a', 'top', '2')
            shared_redis.command('DEL', prefix + ':stream:a')
            await sending.send('a', 'after')
            await witness.count(6)
            await sending.send('a', 'next')
            await witness.count(7)
            assert witness.messages == [*'01234', LOST, 'next']


async def test_all_keys_gone_is_told_and_members_are_listed_again(shared_redis, tmp_path):
    with redis_server(tmp_path) as redis:
        witness = Witness()
        async with two_processes(redis.url) as (receiving, sending):
            async with receiving.join('a', witness, info='ann', on_lost=witness.on_lost):
                await sending.send('a', '0')
                await witness.until('0')
                redis.command('FLUSHALL')
                await sent(sending, 'a', '1')
                await tick(receiving)
                await witness.until('0', LOST, '1')
                await members_are(sending, 'a', 'ann')


async def members_are(groups, name, *infos):
    """Return when exactly these are in a group."""
    deadline, found = time.monotonic() + 30, None
    while found != sorted(infos, key=str):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
        with contextlib.suppress(GroupsUnavailable):
            found = sorted((member.info for member in await groups.members(name)), key=str)


async def test_a_lease_that_is_deleted_is_taken_again(shared_redis):
    prefix = new_prefix()
    async with two_processes(shared_redis.url, prefix=prefix) as (receiving, sending):
        async with receiving.join('a', Inbox(), info='ann'):
            await members_are(sending, 'a', 'ann')
            shared_redis.command('DEL', '%s:lease:%s' % (prefix, receiving._hub.engine.presence.lease))
            assert await sending.members('a') == []
            receiving._hub.engine._tick_now.set()
            await members_are(sending, 'a', 'ann')
        assert await sending.members('a') == []


async def test_presence_that_is_deleted_alone_comes_back_with_the_next_lease(shared_redis):
    prefix = new_prefix()
    async with two_processes(shared_redis.url, prefix=prefix) as (receiving, sending):
        async with receiving.join('a', Inbox(), info='ann'):
            for kind in ('present:a', 'lease:%s' % receiving._hub.engine.presence.lease):
                shared_redis.command('DEL', '%s:%s' % (prefix, kind))
            receiving._hub.engine._tick_now.set()
            await members_are(sending, 'a', 'ann')


async def test_scripts_that_redis_forgets_under_load_are_sent_again_in_order(shared_redis):
    prefix, witness = new_prefix(), Witness()
    async with two_processes(shared_redis.url, prefix=prefix) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost):
            sends = []
            for number in range(2000):
                sends += [sending.send('a', 's%d' % number), receiving.send('a', 'r%d' % number)]
                if number % 100 == 0:
                    shared_redis.command('SCRIPT', 'FLUSH')
                    await asyncio.sleep(0)
            positions = [await sent for sent in sends]
            await witness.count(4000)
        for mark, first in (('s', 0), ('r', 1)):
            offsets = [int(position.partition('-')[2]) for position in positions[first::2]]
            assert offsets == sorted(offsets)
            assert [text for text in witness.messages if text[0] == mark] == ['%s%d' % (mark, n) for n in range(2000)]


async def test_out_of_memory_is_told_to_who_sends_and_nobody_leaves(redis, caplog):
    witness = Witness()
    async with two_processes(redis.url, lease=2.0) as (receiving, sending):
        async with receiving.join('a', witness, info='ann', on_lost=witness.on_lost):
            await sending.send('a', '0')
            redis.command('CONFIG', 'SET', 'maxmemory', '1')
            with pytest.raises(GroupsUnavailable, match='^The engine of the groups has refused$') as caught:
                await sending.send('a', '1')
            assert not caught.value.maybe_sent
            assert 'OOM command not allowed' in caplog.text
            began = time.monotonic()
            while time.monotonic() < began + 4:
                for groups in (receiving, sending):
                    groups._hub.engine._tick_now.set()
                await asyncio.sleep(0.2)
                assert [member.info for member in await sending.members('a')] == ['ann']
            redis.command('CONFIG', 'SET', 'maxmemory', '0')
            await sending.send('a', '2')
            await witness.until('0', '2')


async def test_a_gap_that_redis_refuses_to_read_is_read_when_it_does(redis, monkeypatch):
    monkeypatch.setattr('apistar_ws.groups.keeper.PAUSE', 0.1)
    witness, prefix = Witness(), new_prefix()
    async with two_processes(redis.url, prefix=prefix) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost):
            await sending.send('a', '0')
            await witness.until('0')
            redis.command('DEL', prefix + ':record:a')
            redis.command('ACL', 'SETUSER', 'default', '-hmget')
            redis.command('PUBLISH', prefix + ':0:group:a', '1t0123456789abcdef.7.\n7')
            await until(lambda: receiving._hub._sequences['a']._working is not None, 'the gap to be noticed')
            with pytest.raises(GroupsUnavailable, match='has refused'):
                async with receiving.join('b', Inbox()):
                    """It is not entered."""
            redis.command('ACL', 'SETUSER', 'default', '+hmget')
            await witness.until('0', LOST)
            await sending.send('a', '1')
            await witness.until('0', LOST, '1')


async def test_a_redis_that_cannot_save_and_takes_no_writes_is_away_until_it_does(redis, caplog):
    witness = Witness()
    async with two_processes(redis.url) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost), Publishing(sending) as publishing:
            await publishing.more()
            refuse_writes(redis)
            await until(lambda: publishing.refused, 'a message to be refused')
            await until(lambda: sending.stats()['engine'] == 'away', 'it to be noticed')
            for groups in (receiving, sending):
                groups._hub.engine._tick_now.set()
            before = len(publishing.accepted)
            await until(lambda: redis.errors('MISCONF') > 10, 'a few more tries')
            assert len(publishing.accepted) == before
            redis.command('CONFIG', 'SET', 'stop-writes-on-bgsave-error', 'no')
            await publishing.more()
        assert not check(witness.messages, publishing)
    lines = [record.getMessage() for record in caplog.records]
    assert sum('is away' in line and 'MISCONF' in line for line in lines) == 2


def refuse_writes(redis):
    """Make it answer as one does whose disk is full."""
    os.mkdir(os.path.join(redis.directory, 'dump.rdb'))
    redis.command('CONFIG', 'SET', 'save', '3600 1000000')
    redis.command('BGSAVE')
    eventually(lambda: b'rdb_last_bgsave_status:err' in redis.command('INFO', 'persistence'), 'saving to fail')


@pytest.mark.parametrize('is_open', [True, False])
async def test_a_redis_that_dies_before_it_answers_the_first_write_is_waited_for(redis, is_open):
    async with contextlib.AsyncExitStack() as stack:
        if is_open:
            groups = await stack.enter_async_context(process(redis.url))
        redis.command('CLIENT', 'PAUSE', '60000', 'WRITE')
        if is_open:
            redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
        else:
            hubs = Hubs(redis.url, {}, 'test')
            stack.push_async_callback(hubs.stop)
            groups = Groups(hubs.current())
            groups.send('a', 'lost')
        await until(lambda: redis.waits_for_writes(), 'the first write')
        redis.kill()
        redis.start()
        await opened(groups)
        await groups.send('a', '1')


async def test_a_session_that_fails_at_once_is_not_begun_again_and_again(redis, caplog):
    async with process(redis.url) as groups:
        async with groups.join('a', Inbox()):
            redis.command('ACL', 'SETUSER', 'default', '-hexists')
            redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
            before = redis.connections_made()
            await asyncio.sleep(2)
            # Three for each session, and those of this test.
            assert 3 < redis.connections_made() - before < 40
            redis.command('ACL', 'SETUSER', 'default', '+@all')
            await until(lambda: groups._hub.engine.presence.is_listed, 'the members to be listed', 30.0)


async def test_members_stay_listed_when_connections_are_killed_at_the_limit_of_memory(redis, caplog):
    changes = Inbox()
    async with two_processes(redis.url, lease=4.0) as (receiving, sending):
        async with receiving.join('a', Inbox(), info='ann', on_change=changes):
            await changes.count(1)
            redis.command('CONFIG', 'SET', 'maxmemory', '1')
            redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
            redis.command('CLIENT', 'KILL', 'TYPE', 'normal')
            await until(lambda: 'does not take the list of members' in caplog.text, 'the list to be refused')
            await members_are(sending, 'a', 'ann')
            redis.command('CONFIG', 'SET', 'maxmemory', '0')
            engine = receiving._hub.engine
            redis.command('DEL', '%s:lease:%s' % (engine._names.prefix, engine.presence.lease))
            await tick(receiving)
            assert engine.presence.is_listed
            await members_are(sending, 'a', 'ann')
            await changes.count(2)
            assert [member.info for member in changes.messages[1].members] == ['ann']
            assert all(not change.left for change in changes.messages)


async def test_a_tick_that_finds_a_replica_makes_it_away(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir(), two.mkdir()
    with redis_server(one) as first, redis_server(two) as second:
        async with process(first.url) as groups:
            await groups.count('a')
            first.command('REPLICAOF', '127.0.0.1', str(second.port))
            groups._hub.engine._tick_now.set()
            await until(lambda: groups.stats()['engine'] == 'away', 'it to be noticed')
            with pytest.raises(GroupsUnavailable):
                await groups.count('a')


async def test_a_line_that_is_closed_refuses_and_who_waits_is_told(shared_redis):
    async with process(shared_redis.url, prefix=new_prefix()) as groups:
        session = groups._hub.engine._keeper.session
        waiting = asyncio.ensure_future(session.asking.call('PING'))
        await asyncio.sleep(0)
        await session.asking.close()
        with pytest.raises(GroupsUnavailable) as caught:
            await waiting
        assert caught.value.maybe_sent
        with pytest.raises(GroupsUnavailable) as caught:
            await session.asking.call('PING')
        assert not caught.value.maybe_sent


@pytest.mark.parametrize('name', ['redis_mode', 'server_mode'])
def test_a_sentinel_is_refused_also_one_of_valkey(name):
    with pytest.raises(ConfigurationError, match='this is a Sentinel'):
        check_server({name: 'sentinel'})


async def test_what_comes_for_a_group_that_all_have_left_is_nobodys(shared_redis):
    async with process(shared_redis.url, prefix=new_prefix()) as groups:
        groups._hub.take('a', b'1t..\nx')
        assert groups.stats()['groups'] == 0


async def test_a_subscriber_that_lags_behind_is_cut_and_recovers(redis):
    redis.command('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 100000 100000 1')
    witness = Witness()
    async with two_processes(redis.url, max_queue_size=2**30) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost):
            reading = receiving._hub.engine._keeper.session.subscriber
            await asyncio.sleep(0)
            reading.wire.connection._reader._transport.pause_reading()
            receiving._hub.engine._tick_now.set()
            texts = ['%d' % number + 'x' * 10_000 for number in range(900)]
            await asyncio.gather(*[sending.send('a', text) for text in texts])
            await witness.until(*texts)
        assert receiving.stats()['recovered'] > 0


async def test_what_a_subscriber_has_not_read_when_redis_is_killed_is_told(redis):
    witness = Witness()
    async with two_processes(redis.url) as (receiving, sending):
        async with (
            receiving.join('a', witness, on_lost=witness.on_lost),
            Publishing(sending, pause=0.001) as publishing,
        ):
            await publishing.more()
            reading = receiving._hub.engine._keeper.session.subscriber
            reading.wire.connection._reader._transport.pause_reading()
            await publishing.more(200)
            redis.kill()
            await until(lambda: publishing.refused, 'a message to be refused')
            redis.start()
            await publishing.more()
            await until(lambda: witness.messages[-1] in publishing.accepted[-20:], 'messages to come again')
        assert check(witness.messages, publishing)
        assert len([text for text in witness.messages if text != LOST]) < len(publishing.accepted)


async def test_answers_that_are_swallowed_end_the_connection_and_leave_nothing(shared_redis):
    prefix = new_prefix()
    async with Proxy(shared_redis.port) as proxy:
        async with process(proxy.url, prefix=prefix, publish_timeout=0.5) as groups:
            await groups.count('a')
            proxy.passes_answers = False
            member = asyncio.ensure_future(enter(groups, 'a'))
            with pytest.raises(GroupsUnavailable) as caught:
                await groups.send('b', 'x')
            assert caught.value.maybe_sent
            with pytest.raises(GroupsUnavailable):
                await member
            proxy.passes_answers = True
            proxy.cut()
            await members_are(groups, 'a')
            assert groups.stats()['groups'] == 0


async def enter(groups, name):
    async with groups.join(name, Inbox(), info='gone'):
        """It is not entered."""


async def test_a_subscription_that_is_not_confirmed_ends_the_connection(shared_redis):
    async with Proxy(shared_redis.port) as proxy:
        async with process(proxy.url, prefix=new_prefix(), publish_timeout=0.3) as groups:
            await groups.count('a')
            proxy.passes_answers = False
            with pytest.raises(GroupsUnavailable):
                await enter(groups, 'a')
            proxy.passes_answers = True
            proxy.cut()
            await members_are(groups, 'a')


async def test_a_connection_that_is_gone_when_something_is_written_ends_the_session(shared_redis):
    async with process(shared_redis.url, prefix=new_prefix()) as groups:
        await groups.count('a')
        session = groups._hub.engine._keeper.session

        async def fail(*args, **options):
            raise OSError('for the test')

        session.publishing.wire.connection.send_packed_command = fail
        with pytest.raises(GroupsUnavailable) as caught:
            await groups.send('a', 'x')
        assert caught.value.maybe_sent
        await opened(groups)
        await members_are(groups, 'a')


async def test_two_subscriptions_of_one_group_are_confirmed_in_turn(shared_redis):
    async with process(shared_redis.url, prefix=new_prefix()) as groups:
        engine, inbox = groups._hub.engine, Inbox()
        await asyncio.gather(engine.subscribe('a'), engine.subscribe('a'))
        async with groups.join('a', inbox):
            await groups.send('a', 'x')
            await inbox.until('x')


async def test_a_client_that_leaves_while_its_join_waits_leaves_nothing(shared_redis):
    prefix = new_prefix()
    async with Proxy(shared_redis.port) as proxy:
        async with process(proxy.url, prefix=prefix) as groups, process(shared_redis.url, prefix=prefix) as other:
            await groups.count('a')
            proxy.passes_answers = False
            joining = asyncio.ensure_future(enter(groups, 'a'))
            await until(lambda: groups.stats()['groups'] == 1, 'the join to begin')
            joining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await joining
            proxy.passes_answers = True
            assert groups.stats()['groups'] == 0
            await members_are(other, 'a')


async def test_a_connection_that_passes_nothing_is_found_by_the_probe(shared_redis):
    prefix, witness = new_prefix(), Witness()
    async with Proxy(shared_redis.port) as proxy:
        async with process(proxy.url, prefix=prefix, history=100) as groups:
            async with process(shared_redis.url, prefix=prefix, history=100) as other:
                async with groups.join('a', witness, on_lost=witness.on_lost):
                    await other.send('a', '0')
                    await witness.until('0')
                    proxy.passes_answers = proxy.passes_commands = False
                    began = time.monotonic()
                    await other.send('a', '1')
                    await until(lambda: groups.stats()['engine'] == 'away', 'it to be noticed', 12.0)
                    assert time.monotonic() - began < 10.5
                    proxy.passes_answers = proxy.passes_commands = True
                    await witness.until('0', '1')


async def test_a_replica_that_is_promoted_is_a_told_loss(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir(), two.mkdir()
    with redis_server(one) as primary, redis_server(two) as replica:
        replica.command('REPLICAOF', '127.0.0.1', str(primary.port))
        await until(lambda: b'master_link_status:up' in replica.command('INFO', 'replication'), 'the replica')
        witness = Witness()
        async with Proxy(primary.port) as proxy, two_processes(proxy.url) as (receiving, sending):
            async with receiving.join('a', witness, on_lost=witness.on_lost):
                for number in '01':
                    await sending.send('a', number)
                await witness.until('0', '1')
                replica.command('REPLICAOF', 'NO', 'ONE')
                proxy._target = replica.port
                proxy.cut()
                await until(lambda: receiving.stats()['told'] == 1, 'the loss to be told')
                await opened(sending)
                await sending.send('a', '2')
                await witness.until('0', '1', LOST, '2')


async def test_a_primary_that_becomes_a_replica_is_away(tmp_path, monkeypatch):
    refused = []

    def check(info):
        try:
            check_server(info)
        except ConfigurationError as exc:
            refused.append(exc)
            raise

    monkeypatch.setattr('apistar_ws.groups.redis.session.check_server', check)
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir(), two.mkdir()
    with redis_server(one) as first, redis_server(two) as second:
        async with process(first.url, history=10) as groups:
            await groups.send('a', '0')
            first.command('REPLICAOF', '127.0.0.1', str(second.port))
            # Whether it may have been sent depends on who notices first: this command, or the probe.
            with pytest.raises(GroupsUnavailable):
                await groups.send('a', '1')
            await until(lambda: refused, 'it to be refused')
            assert groups.stats()['engine'] == 'away'
            first.command('REPLICAOF', 'NO', 'ONE')
            await opened(groups)
            await groups.send('a', '2')


async def test_each_side_of_a_split_brain_is_a_history_of_its_own(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir(), two.mkdir()
    with redis_server(one) as first, redis_server(two) as second:
        prefix = new_prefix()
        async with process(first.url, prefix=prefix, history=10) as here:
            async with process(second.url, prefix=prefix, history=10) as there:
                since = await here.send('a', 'here')
                await there.send('a', 'there')
                await here.send('a', 'more')
                with pytest.raises(PositionLost):
                    await there.history('a', since=since)
                assert [message.data for message in await here.history('a', since=since)] == ['more']


async def test_two_databases_with_one_prefix_do_not_hear_each_other(shared_redis):
    prefix, inbox = new_prefix(), Inbox()
    async with (
        process(shared_redis.url + '/0', prefix=prefix) as zero,
        process(shared_redis.url + '/1', prefix=prefix) as one,
    ):
        async with zero.join('a', inbox):
            await one.send('a', 'one')
            await zero.send('a', 'zero')
            await inbox.until('zero')


async def test_a_payload_of_another_version_is_told(shared_redis):
    prefix, witness = new_prefix(), Witness()
    async with process(shared_redis.url, prefix=prefix, history=10) as groups:
        async with groups.join('a', witness, on_lost=witness.on_lost):
            shared_redis.command('PUBLISH', prefix + ':0:group:a', '2t.whatever')
            await witness.until(LOST)
            await groups.send('a', 'next')
            await witness.until(LOST, 'next')


async def test_a_stream_that_cannot_be_read_is_told(shared_redis):
    prefix = new_prefix()
    async with process(shared_redis.url, prefix=prefix, history=10) as groups:
        since = await groups.send('a', '0')
        shared_redis.command('XADD', prefix + ':stream:a', '2-0', 'p', '2t.whatever')
        shared_redis.command('HSET', prefix + ':record:a', 'top', '2')
        with pytest.raises(PositionLost):
            async with groups.join('a', Inbox(), since=since):
                """It is not entered."""


async def test_a_process_that_sends_without_history_is_told(shared_redis):
    prefix, witness = new_prefix(), Witness()
    async with process(shared_redis.url, prefix=prefix, history=10) as groups:
        async with process(shared_redis.url, prefix=prefix) as other:
            async with groups.join('a', witness, on_lost=witness.on_lost):
                await other.send('a', 'without')
                await witness.until(LOST)
                await groups.send('a', 'with')
                await witness.until(LOST, 'with')


async def test_a_member_without_history_hears_who_sends_with_it(shared_redis):
    prefix, inbox = new_prefix(), Inbox()
    async with process(shared_redis.url, prefix=prefix, history=10) as groups:
        async with process(shared_redis.url, prefix=prefix) as other:
            async with other.join('a', inbox):
                await groups.send('a', '0')
                await inbox.until('0')


async def test_a_group_that_rests_longer_than_every_time_to_live_loses_nobody(shared_redis, monkeypatch):
    for module in ('engine', 'presence'):
        monkeypatch.setattr('apistar_ws.groups.redis.%s.KEPT_LONGER_MS' % module, 200)
    prefix, witness = new_prefix(), Witness()
    async with process(shared_redis.url, prefix=prefix, history=10, history_ttl=0.2) as groups:
        async with groups.join('a', witness, info='ann', on_lost=witness.on_lost) as group:
            await groups.send('a', '0')
            await witness.until('0')
            since, began = group.position, time.monotonic()
            while time.monotonic() < began + 1.5:
                groups._hub.engine._tick_now.set()
                await asyncio.sleep(0.05)
            assert await groups.history('a') == []
            again = Inbox()
            async with groups.join('a', again, since=since):
                await groups.send('a', '1')
                await again.until('1')
            await witness.until('0', '1')
            assert [member.info for member in await groups.members('a')] == ['ann']
    await until(lambda: shared_redis.keys(prefix) == [prefix + ':history'], 'the keys to expire')


async def test_ten_thousand_that_lose_their_position_at_once_are_closed_in_turn(redis, monkeypatch):
    monkeypatch.setattr('apistar_ws.groups.receivers.CLOSES_PER_SECOND', 20_000)
    async with process(redis.url, history=10, presence=False) as groups:
        clients = [await client() for _ in range(10_000)]
        async with contextlib.AsyncExitStack() as stack:
            for member in clients:
                await stack.enter_async_context(groups.join('a', member.ws))
            await groups.send('a', '0')
            redis.command('FLUSHALL')
            await sent(groups, 'a', '1')
            await until(lambda: groups.stats()['closed'] == 10_000, 'all to be closed')
            assert groups.stats()['told'] == 10_000
            await until(lambda: all(member.ws.close_code == 4410 for member in clients), 'them to know')
            assert {tuple(text for text in member.got if isinstance(text, str)) for member in clients} <= {(), ('0',)}


@soak
async def test_a_hot_group_leaves_time_for_others(shared_redis):
    """Tens of thousands of messages a second, for half a second, from somebody who does nothing else."""
    messages = size(1000, 10_000)
    prefix = new_prefix()
    async with process(shared_redis.url, prefix=prefix, max_queue=1_000_000) as receiving:
        inbox, late, stopping = Inbox(), [], asyncio.Event()

        async def look():
            while not stopping.is_set():
                began = time.monotonic()
                await asyncio.sleep(0.01)
                late.append(time.monotonic() - began - 0.01)

        async with receiving.join('a', inbox):
            looking = asyncio.ensure_future(look())
            await asyncio.to_thread(shared_redis.flood, '%s:0:group:a' % prefix, '1t..\nx', 5, messages)
            await inbox.count(5 * messages, 4 * PATIENCE)
            stopping.set()
            await looking
        assert receiving.stats()['dropped'] == 0
        # With turns it is ten times that, without them less than half.
        assert len(late) > size(10, 20)


async def test_refused_urls_and_servers_say_why(tmp_path, shared_redis):
    for url in ('http://localhost', 'nonsense', 'redis+cluster://localhost', 'redis://localhost:x'):
        with pytest.raises(ConfigurationError, match='the URL is not one of redis-py'):
            async with Groups.connect(url):
                """It is not entered."""
    with redis_server(tmp_path, '--replicaof', '127.0.0.1', str(shared_redis.port)) as replica:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match='this Redis is a replica'):
                async with Groups.connect(replica.url):
                    """It is not entered."""


async def test_a_redis_behind_tls_works_and_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, caplog):
    certificate, key, port = tmp_path / 'certificate.pem', tmp_path / 'key.pem', free_port()
    make_certificate(certificate, key)
    options = ('--tls-port', str(port), '--tls-cert-file', str(certificate), '--tls-key-file', str(key))
    with redis_server(tmp_path, *options, '--tls-auth-clients', 'no'):
        url = 'rediss://127.0.0.1:%d/0' % port
        async with process('%s?ssl_ca_certs=%s' % (url, certificate), history=10) as groups:
            await reaches_a_member(groups)
        with pytest.raises(GroupsUnavailable):
            async with Groups.connect(url):
                """It is not entered."""
        assert 'certificate verify failed' in caplog.text


async def test_a_port_that_does_not_speak_tls_is_named(redis, caplog, monkeypatch):
    monkeypatch.setattr('apistar_ws.groups.redis.engine.CONNECT_TIMEOUT', 0.5)
    with pytest.raises(GroupsUnavailable):
        async with Groups.connect(redis.url.replace('redis:', 'rediss:')):
            """It is not entered."""
    assert 'If the port does not speak TLS, the URL begins with redis://' in caplog.text


@pytest.mark.parametrize('has_message', [False, True])
async def test_a_group_that_nobody_has_sent_to_leaves_nothing(redis, has_message):
    """A client that invents names would fill Redis: a record without a message lives as long as messages would."""
    async with process(redis.url, prefix='p', history=10, history_ttl=60) as groups:
        async with groups.join('a', Inbox()):
            if has_message:
                await groups.send('a', '1')
            redis.command('PEXPIRE', 'p:record:a', '1000')
            await tick(groups)
            ttl = int(redis.command('PTTL', 'p:record:a')[1:])
            assert (ttl > 60_000) is has_message and ttl > 50_000


async def test_a_dead_subscription_is_no_lost_position(redis):
    """The positions are valid, and what they are behind does not come: come back, with it."""
    async with two_processes(redis.url, prefix='p') as (receiving, sending):
        async with receiving.join('a', Inbox()):
            await sending.send('a', '1')
            receiving._hub.engine._keeper.session.subscriber.unsubscribe(b'p:0:group:a')
            await tick(receiving)
            since = await sending.send('a', '2')
            outcomes = await asyncio.gather(*[joined(receiving, since) for _ in range(100)], return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {GroupsUnavailable}


async def joined(groups, since):
    async with groups.join('a', Inbox(), since=since):
        """It is not entered."""


def make_certificate(certificate, key):
    command = ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=localhost']
    command += ['-addext', 'subjectAltName=IP:127.0.0.1', '-out', str(certificate), '-keyout', str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


async def test_a_redis_behind_a_unix_socket_works(tmp_path):
    with tempfile.TemporaryDirectory() as directory:
        # A path of a socket is short.
        path = os.path.join(directory, 'redis.sock')
        with redis_server(tmp_path, '--unixsocket', path):
            async with process('unix://%s?db=2' % path, history=10) as groups:
                await reaches_a_member(groups)


async def reaches_a_member(groups):
    inbox = Inbox()
    async with groups.join('a', inbox):
        await groups.send('a', '0')
        await inbox.until('0')


async def test_a_child_of_a_fork_has_an_engine_of_its_own_and_its_parent_keeps_its_own(shared_redis):
    command = [sys.executable, '-m', 'tests.apps.forks', shared_redis.url, new_prefix()]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("child ['child']\nparent ['before', 'child', 'after']\n", '')


async def test_a_cluster_is_refused(tmp_path):
    with redis_server(tmp_path, '--cluster-enabled', 'yes', '--cluster-port', str(free_port())) as cluster:
        with pytest.raises(ConfigurationError, match='this is a Redis Cluster'):
            async with Groups.connect(cluster.url):
                """It is not entered."""


async def test_an_engine_that_is_not_there_at_the_start_is_waited_for(tmp_path):
    server = RedisServer(tmp_path)
    with pytest.raises(GroupsUnavailable):
        async with Groups.connect(server.url):
            """It is not entered."""
    component, inbox = GroupsComponent(server.url), Inbox()
    await component.on_startup()
    groups = component.resolve()
    with pytest.raises(GroupsUnavailable):
        await groups.send('a', 'x')
    back = asyncio.gather(groups._hub.engine.until_retry(), groups._hub.engine.until_retry())
    server.start()
    try:
        await asyncio.wait_for(back, 30)
        assert groups.stats()['engine'] == 'open'
        async with groups.join('a', inbox):
            await groups.send('a', 'y')
            await inbox.until('y')
    finally:
        await component.on_shutdown()
        server.stop()


async def test_what_nobody_awaits_is_counted_and_said_once_for_an_outage(redis, caplog):
    async with process(redis.url) as groups:
        await groups.send('a', 'x')
        redis.kill()
        await until(lambda: groups.stats()['engine'] == 'away', 'it to be away')
        for _ in range(3):
            groups.send('a', 'x')
        await until(lambda: groups._hub.outbox.unseen == 3, 'it to be noticed')
        assert caplog.text.count('nobody awaits it') == 1


async def test_an_application_that_ends_while_redis_is_frozen_ends_within_two_seconds(redis):
    component, inbox = GroupsComponent(redis.url), Inbox()
    await component.on_startup()
    groups = component.resolve()
    async with groups.join('a', inbox):
        await groups.send('a', '1')
        await inbox.until('1')
        redis.freeze()
        sent = groups.send('a', '2')
        began = time.monotonic()
        await component.on_shutdown()
        assert time.monotonic() - began < 2
        with pytest.raises(GroupsUnavailable) as caught:
            await sent
        assert caught.value.maybe_sent
        with pytest.raises(GroupsUnavailable, match='The groups were stopped'):
            await groups.send('a', '3')
        redis.thaw()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_the_commands_that_the_guide_names_are_enough(redis):
    page = (ROOT / 'docs' / 'groups.rst').read_text(encoding='utf-8')
    listed = page.partition('An ACL needs:')[2].partition('; all keys')[0]
    commands = ['+' + name.lower() for name in re.findall('``([A-Z|]+)``', listed)]
    allowed = ('on', '>secret', '~apistar-ws:*', '&apistar-ws:*', '-@all', *commands)
    assert redis.command('ACL', 'SETUSER', 'groups', *allowed) == b'+OK\r\n'
    url = redis.url.replace('://', '://groups:secret@') + '/0'
    inbox, changes = Inbox(), Inbox()
    async with Groups.connect(url, history=10) as groups:
        async with groups.join('a', inbox, info='ann', last=5, on_change=changes) as group:
            since = await groups.send('a', '1')
            await inbox.until('1')
            await changes.count(1)
            assert await group.count() == len(await group.members()) == len(await group.members(5)) == 1
            assert len(await groups.history('a')) == 1
            await tick(groups)
            async with groups.join('a', Inbox(), since=since):
                assert groups.stats()['engine'] == 'open'
            redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub')
            await until(lambda: groups.stats()['engine'] != 'open', 'it to be noticed')
            await opened(groups)
            await members_are(groups, 'a', 'ann')
            await tick(groups)
        await groups.send('plain', 'x')
        groups._hub.engine.presence.lease_ms = 1
        await groups._hub.engine.presence.restore(groups._hub.engine._keeper.session)
        await tick(groups)
        # The one that the test has made.
        assert groups.stats()['gaps'] == 1


async def test_a_connection_connects_once(shared_redis):
    """What is written after it dropped fails; redis-py would connect again, to whoever answers."""
    pool, failures = connection_pool(shared_redis.url), []
    connection = pool.make_connection()
    await connection.connect()
    line = Line(connection, PATIENCE, failures.append)
    await connection.disconnect()
    line.send('PING')
    await until(lambda: failures, 'it to fail')
    assert 'was lost' in str(failures[0]) and not connection.is_connected
    await line.close()


async def test_a_subscription_that_its_connection_does_not_outlive_is_unavailable(shared_redis):
    connection, failures = connection_pool(shared_redis.url).make_connection(), []
    await connection.connect()
    subscriber = Subscriber(connection, lambda channel, data: None, failures.append)
    subscribing = asyncio.ensure_future(subscriber.subscribe([b'a'], PATIENCE))
    await asyncio.sleep(0)
    await subscriber.close()
    with pytest.raises(GroupsUnavailable):
        await subscribing
