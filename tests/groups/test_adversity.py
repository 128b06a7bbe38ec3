"""Groups in hostile hands: what was found by people who tried to break them."""

import asyncio
import contextlib

import pytest
from apistar.exceptions import ConfigurationError

from apistar_ws import ASyncApp, Groups, GroupsComponent, GroupsUnavailable, WebSocket, collect_routes, websocket_route
from apistar_ws.connection.websocket import connection_of
from apistar_ws.groups.audience import put
from apistar_ws.groups.payload import Incoming, encode
from apistar_ws.testing import ConnectionClosed, connect
from tests.clock import virtual
from tests.groups.members import PATIENCE, Inbox, client, new_prefix, process
from tests.groups.redis_server import redis_server, until
from tests.groups.test_faults import LOST, Witness, members_are, opened, two_processes
from tests.needs import needs_python, needs_redis

# A fan-out, and what comes meanwhile


@needs_redis
async def test_connections_that_are_killed_in_the_middle_of_a_fan_out_cut_nobody_out_of_it(redis):
    async with two_processes(redis.url, presence=False) as (receiving, sending):
        inboxes, accepted = [Inbox() for _ in range(3000)], []
        async with contextlib.AsyncExitStack() as stack:
            for inbox in inboxes:
                await stack.enter_async_context(receiving.join('a', inbox))
            for number in range(40):
                with contextlib.suppress(GroupsUnavailable):
                    await sending.send('a', str(number))
                    accepted.append(str(number))
                if number % 4 == 0:
                    redis.command('CLIENT', 'KILL', 'TYPE', 'normal')
            await opened(sending)
            await sending.send('a', 'end')
            await until(lambda: all(inbox.messages[-1:] == ['end'] for inbox in inboxes), 'the end', 60.0)
            assert {tuple(inbox.messages) for inbox in inboxes} == {tuple(inboxes[0].messages)}
            assert [text for text in inboxes[0].messages if text in accepted] == accepted
            assert receiving.stats()['told'] == 0


async def test_who_joins_before_a_fan_out_has_begun_gets_its_message_once():
    async with process(None, history=10) as groups:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(600):
                await stack.enter_async_context(groups.join('a', Inbox()))
            late, hub = Inbox(), groups._hub
            since = await groups.send('a', '0')
            await until(lambda: hub._sequences['a']._working is None, 'the first one')
            await hub.engine.publish([encode(hub.codec, 'a', '1')])
            assert hub._sequences['a']._working is not None
            await stack.enter_async_context(groups.join('a', late, since=since))
            await groups.send('a', '2')
            await late.until('1', '2')


async def test_more_than_a_large_group_without_history_can_be_given_is_dropped_and_said(caplog, monkeypatch):
    monkeypatch.setattr('apistar_ws.groups.sequence.MAX_PENDING', 50)
    async with process(None, max_queue=10**6) as groups:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(501):
                await stack.enter_async_context(groups.join('a', Inbox()))
            sequence = groups._hub._sequences['a']
            for _ in range(50 + 2):
                sequence.take(Incoming('x', None, size=1))
            assert groups.stats()['dropped'] == 501
            assert 'more comes than its members can be given' in caplog.text


# Losses and outages


@needs_redis
async def test_a_message_that_is_kept_and_not_published_may_have_been_sent(redis):
    async with process(redis.url, prefix='p', history=10) as groups:
        witness = Witness()
        async with groups.join('a', witness, on_lost=witness.on_lost):
            await groups.send('a', '1')
            redis.command('ACL', 'SETUSER', 'default', '-publish')
            with pytest.raises(GroupsUnavailable) as caught:
                await groups.send('a', '2')
            assert caught.value.maybe_sent
            redis.command('ACL', 'SETUSER', 'default', '+publish')
            await groups.send('a', '3')
            await witness.until('1', '2', '3')


@needs_redis
async def test_more_than_a_queue_has_room_for_is_recovered_after_an_outage(redis):
    witness, other = Witness(), Witness()
    async with two_processes(redis.url, max_queue=10) as (receiving, sending):
        async with receiving.join('a', witness, on_lost=witness.on_lost):
            await sending.send('a', 'first')
            await witness.count(1)
            receiving._hub.engine._keeper.session.subscriber.wire.connection._reader._transport.pause_reading()
            texts = ['first', *map(str, range(3000))]
            for text in texts[1:]:
                await sending.send('a', text)
            receiving._hub.engine._keeper.session.fail(OSError('for the test'))
            await witness.until(*texts)
            async with receiving.join('a', other):
                await sending.send('a', 'last')
                await witness.until(*texts, 'last')
                await other.until('last')
        assert LOST not in witness.messages


@needs_redis
async def test_a_client_that_was_faster_than_the_process_it_comes_back_to_waits_for_it(shared_redis):
    async with two_processes(shared_redis.url) as (receiving, sending):
        witness, again = Inbox(), Inbox()
        async with receiving.join('a', witness):
            await sending.send('a', '1')
            await witness.until('1')
            transport = receiving._hub.engine._keeper.session.subscriber.wire.connection._reader._transport
            transport.pause_reading()
            since = await sending.send('a', '2')
            asyncio.get_running_loop().call_later(0.3, transport.resume_reading)
            async with receiving.join('a', again, since=since):
                await sending.send('a', '3')
                await again.until('3')


# Members


@needs_redis
async def test_who_leaves_while_members_are_announced_again_is_no_ghost(shared_redis):
    async with two_processes(shared_redis.url) as (receiving, sending):
        joins = [receiving.join('a', Inbox()) for _ in range(1200)]
        for join in joins:
            await join.__aenter__()
        engine = receiving._hub.engine
        restoring = asyncio.ensure_future(engine.presence.restore(engine._keeper.session))
        await asyncio.gather(restoring, *[join.__aexit__(None, None, None) for join in joins[1000:]])
        assert await sending.count('a') == len(receiving._hub._present['a']) == 1000
        await asyncio.gather(*[join.__aexit__(None, None, None) for join in joins[:1000]])
        assert await sending.count('a') == 0


@needs_redis
async def test_who_leaves_while_its_process_is_away_is_told_to_have_left(redis):
    changes, own = Inbox(), Inbox()
    async with two_processes(redis.url) as (leaving, watching):
        async with watching.join('a', Inbox(), info='watch', on_change=changes):
            async with leaving.join('a', Inbox(), info='own', on_change=own):
                stack = contextlib.AsyncExitStack()
                await stack.enter_async_context(leaving.join('a', Inbox(), info='gone'))
                await until(lambda: believed(changes) == believed(own) == ['gone', 'own', 'watch'], 'both')
                session = leaving._hub.engine._keeper.session
                session.fail(OSError('for the test'))
                await until(lambda: leaving._hub.engine._keeper.session is not session, 'it to be away')
                await stack.aclose()
                await until(lambda: believed(changes) == believed(own) == ['own', 'watch'], 'the leave to be told')
                await members_are(watching, 'a', 'own', 'watch')


@needs_redis
async def test_members_of_a_process_that_ends_are_told_to_have_left(shared_redis):
    changes, prefix = Inbox(), new_prefix()
    async with process(shared_redis.url, prefix=prefix) as watching:
        async with watching.join('a', Inbox(), info='watch', on_change=changes):
            stack = contextlib.AsyncExitStack()
            groups = await stack.enter_async_context(process(shared_redis.url, prefix=prefix))
            join = groups.join('a', Inbox(), info='gone')
            await join.__aenter__()
            await until(lambda: believed(changes) == ['gone', 'watch'], 'the join to be told')
            await stack.aclose()
            await until(lambda: believed(changes) == ['watch'], 'the leave to be told')
            await join.__aexit__(None, None, None)


def believed(changes):
    """Return who is there, for somebody who believes what was told."""
    there = {}
    for members, joined, left in changes.messages:
        there = there if members is None else {}
        there.update((member.id, member.info) for member in [*(members or ()), *joined])
        for member in left:
            there.pop(member.id, None)
    return sorted(there.values())


@needs_redis
async def test_changes_of_another_version_have_all_members_read_anew(shared_redis):
    prefix, changes = new_prefix(), Inbox()
    async with process(shared_redis.url, prefix=prefix) as groups:
        async with groups.join('a', Inbox(), info='ann', on_change=changes):
            await changes.count(1)
            shared_redis.command('PUBLISH', prefix + ':0:members:a', 'nonsense')
            await changes.count(2)
            assert believed(changes) == ['ann']
            shared_redis.command('PUBLISH', prefix + ':0:members:a', '[[["x", "bob", 0.0, "more"]], []]')
            await changes.count(3)
            assert believed(changes) == ['ann', 'bob']


# Joins that fail or overlap


@pytest.mark.parametrize(
    'options, exc, text',
    [
        ({'info': object()}, TypeError, 'not JSON serializable'),
        ({'key': 5}, ValueError, 'key=5 has to be a text'),
        ({'key': ''}, ValueError, "key='' has to be a text"),
        ({'last': -1}, ValueError, 'last=-1 has to be a whole number'),
        ({'last': 11}, ValueError, "last=11 is more than the group 'a' keeps: history=10"),
        ({'on_change': Inbox()}, ValueError, 'presence=False'),
        ({'on_change': print}, TypeError, r'takes an async function of \(change\) as on_change, not <built-in'),
        ({'on_lost': 'x'}, TypeError, r"takes an async function of \(lost\) as on_lost, not 'x'"),
    ],
)
async def test_a_join_that_is_refused_leaves_nothing_and_the_next_one_works(engine, options, exc, text):
    presence = not isinstance(options.get('on_change'), Inbox)
    async with process(**engine, presence=presence, history=10) as groups:
        member = await client()
        with pytest.raises(exc, match=text):
            async with groups.join('a', member.ws, **options):
                """It is not entered."""
        assert groups._hub.joined == {}
        async with groups.join('a', member.ws):
            await groups.send('a', 'x')
            await member.until('x')


async def test_a_group_that_keeps_nothing_has_no_positions_and_says_so(engine):
    async with process(**engine) as groups:
        for options, text in [({'last': 1}, 'history=0'), ({'position_key': 'at'}, "group 'a' have no position")]:
            with pytest.raises(ValueError, match=text):
                async with groups.join('a', Inbox(), **options):
                    """It is not entered."""


@pytest.mark.parametrize('limit', [0, -1, 1.5, 'x'])
async def test_a_limit_that_cannot_be_meant_is_refused(engine, limit):
    async with process(**engine, history=10) as groups:
        with pytest.raises(ValueError, match='has to be a whole number above 0'):
            await groups.history('a', limit=limit)


async def test_one_function_may_be_a_member_in_two_handlers_and_each_is_told_of_its_own(engine):
    async with process(**engine) as groups:
        got = Inbox()

        async def take(message):
            if message == 'boom':
                raise LookupError(message)
            await got(message)

        async def listen(name):
            async with groups.join(name, take):
                await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)

        one, two = asyncio.ensure_future(listen('a')), asyncio.ensure_future(listen('b'))
        await until(lambda: groups.stats()['members'] == 2, 'both')
        await groups.send('b', 'boom')
        with pytest.raises(LookupError):
            await two
        await groups.send('a', 'not to it', exclude=take)
        await groups.send('a', 'x')
        await got.until('x')
        one.cancel()
        await asyncio.wait({one})


async def test_a_function_that_is_cancelled_by_somebody_ends_the_block(engine):
    async with process(**engine) as groups:

        async def take(message):
            task = asyncio.ensure_future(asyncio.sleep(60))
            await asyncio.sleep(0)
            task.cancel()
            await task

        with pytest.raises(RuntimeError, match='awaits a task that was cancelled'):
            async with groups.join('a', take):
                groups.send('a', 'x')
                await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)


@virtual
async def test_a_function_that_fails_after_the_block_is_no_trouble_to_what_follows():
    async with process(None, presence=False) as groups:
        began = asyncio.Event()

        async def take(message):
            began.set()
            try:
                await asyncio.sleep(60)
            finally:
                raise LookupError('too late')

        async with groups.join('a', take):
            await groups.send('a', 'x')
            await began.wait()
        for _ in range(10):
            await asyncio.sleep(0)


@virtual
async def test_leaving_and_joining_again_may_overlap():
    async with process(None) as groups:
        member = await client()
        gate, push = asyncio.Event(), member.send

        async def stuck(message):
            await gate.wait()
            await push(message)

        connection_of(member.ws).server_send = connection_of(member.ws).push = stuck
        first = contextlib.AsyncExitStack()
        await first.enter_async_context(groups.join('a', member.ws))
        await groups.send('a', 'first')
        await asyncio.sleep(0.01)
        leaving = asyncio.ensure_future(first.aclose())
        await asyncio.sleep(0.01)
        async with groups.join('a', member.ws):
            gate.set()
            await leaving
            await groups.send('a', 'own', exclude=member.ws)
            await groups.send('a', 'last')
            await member.until('first', 'last')
        assert groups._hub.joined == {}


@needs_redis
async def test_a_join_that_is_cancelled_while_the_engine_starts_leaves_no_subscription(shared_redis):
    groups = GroupsComponent(shared_redis.url, prefix=new_prefix(), lease=0.4).resolve()

    async def enter():
        async with groups.join('a', Inbox()):
            """It is not entered."""

    joining = asyncio.ensure_future(enter())
    await asyncio.sleep(0)
    joining.cancel()
    await asyncio.wait({joining})
    await until(lambda: groups.stats()['engine'] in ('stopped', 'open'), 'the engine')
    await until(lambda: groups.stats()['engine'] == 'stopped', 'it to end')
    assert groups._hub.engine._groups == {} and groups.stats()['groups'] == 0


# The engine's life


@needs_redis
async def test_a_redis_that_cannot_be_used_is_said_at_the_first_use(tmp_path, shared_redis, caplog):
    with redis_server(tmp_path, '--replicaof', '127.0.0.1', str(shared_redis.port)) as replica:
        groups = GroupsComponent(replica.url).resolve()
        for _ in range(2):
            with pytest.raises(ConfigurationError, match='this Redis is a replica'):
                async with groups.join('a', Inbox()):
                    """It is not entered."""
        sends = [groups.send('a', 'x') for _ in range(300)]
        for sent in sends:
            with pytest.raises(GroupsUnavailable) as caught:
                await sent
            assert not caught.value.maybe_sent
    assert caplog.text.count('Nothing can be sent to groups. GroupsComponent: this Redis is a replica') == 1


@needs_redis
async def test_who_comes_at_the_moment_in_which_an_unused_engine_ends_is_served(shared_redis):
    groups = GroupsComponent(shared_redis.url, prefix=new_prefix()).resolve()
    await groups.send('a', '1')
    engine = groups._hub.engine
    engine._keeper.is_ending = True
    engine._keeper.session.fail(OSError('for the test'))
    await groups.send('a', '2')
    await groups._hub.stop()


@needs_redis
async def test_who_comes_while_an_unused_engine_ends_is_served(shared_redis):
    prefix = new_prefix()
    groups = GroupsComponent(shared_redis.url, prefix=prefix, lease=0.1).resolve()
    for number in range(100):
        await groups.send('a', str(number))
        await asyncio.sleep(0.02 if number % 10 else 0.12)
    await until(lambda: groups.stats()['engine'] == 'stopped', 'it to end')
    assert set(shared_redis.keys(prefix)) <= {prefix + ':history'}


@pytest.mark.parametrize('option', ['socket_timeout=1', 'protocol=3', 'decode_responses=True'])
def test_a_url_that_sets_what_must_be_as_it_is_is_refused(option):
    with pytest.raises(ConfigurationError, match='the URL sets ' + option.partition('=')[0]):
        GroupsComponent('redis://localhost?' + option)


@needs_python(3, 12)
@pytest.mark.parametrize('engine', ['memory', pytest.param('redis', marks=needs_redis)], indirect=True)
async def test_tasks_that_begin_at_once_change_nothing(engine):  # pragma: no cover
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with process(**engine, history=10) as groups:
        inbox, changes = Inbox(), Inbox()
        async with groups.join('a', inbox, info='ann', on_change=changes):
            for number in range(3):
                await groups.send('a', str(number))
            await inbox.until('0', '1', '2')
            await changes.count(1)


async def test_what_was_put_before_is_flushed_although_more_is_put():
    async with process(None) as groups:
        stopping = asyncio.Event()

        async def go_on():
            while not stopping.is_set():
                groups.send('a', 'more')
                await asyncio.sleep(0)

        going = asyncio.ensure_future(go_on())
        first = groups.send('a', 'first')
        await asyncio.wait_for(groups._hub.outbox.flush(), PATIENCE)
        assert first.is_done
        stopping.set()
        await going


# Members that do not keep up


@websocket_route('/late/{room}', connect=False)
async def late(room: str, ws: WebSocket, groups: Groups):
    async with groups.join(room, ws):
        for _ in range(3):
            await groups.send(room, 'x')
        await ws.connect()
        await ws.receive()


async def test_an_overflow_before_the_accept_closes_with_1013_after_it():
    app = ASyncApp(collect_routes(late), components=[GroupsComponent(max_queue=2)])
    async with connect(app, '/late/a') as ws:
        with pytest.raises(ConnectionClosed) as closed:
            await ws.receive()
        assert closed.value.code == 1013


async def test_a_message_larger_than_a_queue_is_given_where_the_oldest_are_dropped():
    async with process(None, max_message=5, max_queue_size=5, overflow='drop_oldest') as groups:
        inbox = Inbox()
        async with groups.join('a', inbox):
            member = next(iter(groups._hub._sequences['a'].audience.live))
            put(Incoming('larger', None, size=6), [member])
            await inbox.until('larger')


async def test_losses_that_are_not_told_yet_are_told_once():
    async with process(None, max_queue=1) as groups:
        told, began, unblock = Inbox(), asyncio.Event(), asyncio.Event()

        async def slow(message):
            began.set()
            await unblock.wait()

        async with groups.join('a', slow, on_lost=told):
            await groups.send('a', '0')
            await began.wait()
            for _ in range(100):
                await groups.send('a', 'x')
            unblock.set()
            await told.count(1)
            await groups.send('a', 'x')
        assert len(told.messages) == 1


async def test_a_member_that_takes_no_changes_is_told_that_it_does_not_keep_up():
    async with process(None, max_queue=1) as groups:
        began = asyncio.Event()

        async def stuck(change):
            began.set()
            await asyncio.sleep(60)

        with pytest.raises(Exception, match='does not take what it is told'):
            async with groups.join('a', Inbox(), on_change=stuck):
                await asyncio.wait_for(began.wait(), PATIENCE)
                for _ in range(2):
                    groups._hub._watches['a']._report_all({})
                await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
