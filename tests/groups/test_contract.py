"""The contract of groups, on each engine."""

import asyncio
import contextlib
import json
import threading

import pytest
from apistar import types, validators
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apistar_ws import GroupsUnavailable, MessagesLost, PositionLost, WebSocketDisconnect
from apistar_ws.connection.websocket import connection_of
from tests.groups.members import PATIENCE, Inbox, client, process
from tests.groups.redis_server import until


class Note(types.Type):
    text = validators.String()


# Sending


async def test_what_is_sent_reaches_every_member_the_sender_too_in_the_order_of_the_calls(engine):
    async with process(**engine) as groups:
        one, two, other = await client(), await client(), await client()
        async with groups.join('room:a', one.ws) as group, groups.join('room:a', two.ws):
            async with groups.join('room:b', other.ws):
                sends = [group.send(str(number)) for number in range(3)]
                groups.send('room:b', 'elsewhere')
                assert [await sent for sent in sends] == [None, None, None]
                await one.until('0', '1', '2')
                await two.until('0', '1', '2')
                await other.until('elsewhere')


async def test_text_bytes_types_and_json_are_sent_as_on_the_channel(engine):
    async with process(**engine) as groups:
        member = await client()
        async with groups.join('a', member.ws) as group:
            group.send('text €')
            group.send(b'bytes\n.\x00')
            group.send(memoryview(b'view'))
            group.send(Note(text='typed'))
            group.send_json([1, {'a': None}])
            groups.send_json('a', {'b': '\ud800'})
            await member.until(
                'text €', b'bytes\n.\x00', b'view', '{"text":"typed"}', '[1,{"a":null}]', '{"b":"\\ud800"}'
            )


async def test_a_member_that_is_excluded_gets_all_but_that_message(engine):
    async with process(**engine) as groups:
        one, two, three, stranger = await client(), await client(), Inbox(), await client()
        async with groups.join('a', one.ws) as group, groups.join('a', two.ws), groups.join('a', three):
            group.send('not to one', exclude=one.ws)
            group.send('not to three', exclude=three)
            await group.send('to all', exclude=stranger.ws)
            await one.until('not to three', 'to all')
            await two.until('not to one', 'not to three', 'to all')
            await three.until('not to one', 'to all')


async def test_what_excludes_one_connection_excludes_those_with_the_same_key(engine):
    async with process(**engine, history=10) as groups:
        old, new, other = await client(), await client(), await client()
        async with groups.join('a', other.ws) as group:
            async with groups.join('a', old.ws, key='ann') as first:
                since = first.position
                await group.send('own', exclude=old.ws)
            async with groups.join('a', new.ws, key='ann', since=since):
                await group.send('next')
                await new.until('next')
            await other.until('own', 'next')


async def test_send_returns_the_position_where_there_is_history(engine):
    async with process(**engine, history=10, namespaces={'plain': {'history': 0}}) as groups:
        first, second = await groups.send('a', '1'), await groups.send('a', '2')
        epoch = first.partition('-')[0]
        assert (first, second) == (epoch + '-1', epoch + '-2')
        assert await groups.send('plain:a', '1') is None
        assert len(epoch) == 16


@pytest.mark.parametrize(
    'name, data, exc, text',
    [
        ('', 'x', ValueError, 'The name of a group is a text'),
        (7, 'x', ValueError, 'The name of a group is a text'),
        ('a\nb', 'x', ValueError, 'has control characters'),
        ('a\x85b', 'x', ValueError, 'has control characters'),
        ('\ud800', 'x', ValueError, 'cannot be encoded in UTF-8'),
        ('€' * 67, 'x', ValueError, 'is longer than 200 bytes'),
        ('a', '\ud800', ValueError, 'a lone surrogate'),
        ('a', 'x' * 11, ValueError, 'has 11 bytes, and max_message is 10: nothing was sent'),
        ('a', 7, TypeError, 'takes text, bytes or a types.Type, not int'),
    ],
)
async def test_what_cannot_be_sent_is_refused_at_once(engine, name, data, exc, text):
    async with process(**engine, max_message=10) as groups:
        with pytest.raises(exc, match=text):
            groups.send(name, data)


async def test_a_call_from_another_thread_says_what_to_do(engine):
    async with process(**engine) as groups:
        errors = []

        def call():
            try:
                groups.send('a', 'x')
            except RuntimeError as exc:
                errors.append(str(exc))

        thread = threading.Thread(target=call)
        thread.start()
        await asyncio.to_thread(thread.join, PATIENCE)
        assert len(errors) == 1 and 'call_soon_threadsafe' in errors[0]


async def test_many_sends_without_an_await_are_bounded_and_what_is_refused_never_appears(engine):
    async with process(**engine, max_queue=200_000) as groups:
        inbox = Inbox()
        async with groups.join('a', inbox):
            sends = [groups.send('a', str(number)) for number in range(20_000)]
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            accepted = [str(number) for number, outcome in enumerate(outcomes) if outcome is None]
            refused = [outcome for outcome in outcomes if outcome is not None]
            assert {(type(outcome), outcome.maybe_sent) for outcome in refused} == {(GroupsUnavailable, False)}
            await groups.send('a', 'last')
            await inbox.count(len(accepted) + 1)
            assert inbox.messages == [*accepted, 'last']
            assert len(accepted) == 10_000


# Joining


async def test_a_group_is_joined_once_and_left_with_the_block(engine):
    async with process(**engine) as groups:
        member, witness = await client(), Inbox()
        async with groups.join('a', witness):
            async with groups.join('a', member.ws):
                with pytest.raises(ValueError, match="is in the group 'a' already"):
                    async with groups.join('a', member.ws):
                        """It is not entered."""
                await groups.send('a', 'in')
                await member.until('in')
            await groups.send('a', 'out')
            await witness.until('in', 'out')
            assert member.got == ['in']
            async with groups.join('a', member.ws):
                await groups.send('a', 'again')
                await member.until('in', 'again')


async def test_one_connection_may_be_in_many_groups(engine):
    async with process(**engine) as groups:
        member = await client()
        async with groups.join('a', member.ws), groups.join('b', member.ws) as b:
            await groups.send('a', '1')
            await groups.send('b', '2')
            await member.until('1', '2')
            assert b.name == 'b'
            async with groups.join('c', member.ws):
                await groups.send('c', '3')
                await member.until('1', '2', '3')
            await groups.send('c', 'nobody')
            await groups.send('a', '4')
            await member.until('1', '2', '3', '4')


@pytest.mark.parametrize('taker', [None, 'text', print, lambda message: None])
async def test_what_cannot_take_messages_cannot_join(engine, taker):
    async with process(**engine) as groups:
        with pytest.raises(TypeError, match='takes a WebSocket or an async function'):
            async with groups.join('a', taker):
                """It is not entered."""


async def test_what_the_function_of_a_member_raises_is_raised_in_the_block(engine):
    async with process(**engine) as groups:

        async def fail(message):
            raise LookupError(message)

        with pytest.raises(LookupError, match='boom'):
            async with groups.join('a', fail):
                groups.send('a', 'boom')
                await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
        assert groups.stats()['members'] == 0


async def test_an_exception_of_the_block_goes_before_one_of_the_function(engine):
    async with process(**engine) as groups:
        called = asyncio.Event()

        async def fail(message):
            called.set()
            raise LookupError(message)

        with pytest.raises(KeyError):
            async with groups.join('a', fail):
                try:
                    groups.send('a', 'boom')
                    await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
                except asyncio.CancelledError:
                    raise KeyError from None
        assert called.is_set()


async def test_a_member_may_leave_within_its_function(engine):
    async with process(**engine) as groups:
        got, stack = [], contextlib.AsyncExitStack()

        async def leave(message):
            got.append(message)
            await stack.aclose()

        witness = Inbox()
        async with groups.join('a', witness):
            await stack.enter_async_context(groups.join('a', leave))
            await groups.send('a', '1')
            await groups.send('a', '2')
            await witness.until('1', '2')
            assert got == ['1']
            assert groups.stats()['members'] == 1


async def test_a_member_that_closed_is_no_trouble_to_anybody(engine):
    async with process(**engine) as groups:
        closed, gone, other = await client(), await client(), await client()
        async with groups.join('a', closed.ws), groups.join('a', gone.ws), groups.join('a', other.ws) as group:
            await closed.ws.close()
            connection_of(gone.ws).note_disconnect({'code': 1001})
            await group.send('1')
            await other.until('1')
            await group.send('2')
            await other.until('1', '2')
            assert groups.stats()['members'] == 1


# History and position


async def test_the_window_is_exactly_the_last_messages(engine):
    async with process(**engine, history=3) as groups:
        positions = [await groups.send('a', str(number)) for number in range(5)]
        assert await groups.history('a') == [(str(number), positions[number]) for number in (2, 3, 4)]
        assert [data for data, _ in await groups.history('a', limit=2)] == ['3', '4']
        assert [data for data, _ in await groups.history('a', since=positions[2])] == ['3', '4']
        assert [data for data, _ in await groups.history('a', since=positions[1], limit=1)] == ['2']
        assert await groups.history('a', since=positions[4]) == []
        assert await groups.history('b') == []


async def test_history_from_a_lost_position_or_of_a_group_without_any_is_refused(engine):
    async with process(**engine, history=3, namespaces={'plain': {'history': 0}}) as groups:
        positions = [await groups.send('a', str(number)) for number in range(5)]
        for since in (positions[0], positions[4][:-1] + '9', 'f' * 16 + '-1', 'x'):
            with pytest.raises(PositionLost):
                await groups.history('a', since=since)
        with pytest.raises(ValueError, match='keeps no history'):
            await groups.history('plain:a')


async def test_a_member_that_comes_back_gets_what_it_missed_and_then_goes_on(engine):
    async with process(**engine, history=100) as groups:
        member, again = await client(), await client()
        async with groups.join('a', member.ws) as group:
            await group.send('1')
            await member.until('1')
            since = group.position
        for number in '234':
            await groups.send('a', number)
        async with groups.join('a', again.ws, since=since) as group:
            await group.send('5')
            await again.until('2', '3', '4', '5')
            assert group.position == await groups.send('a', '6', exclude=again.ws) or True
        async with groups.join('a', again.ws, since=group.position):
            await groups.send('a', '7')


async def test_nothing_is_missing_and_nothing_is_twice_while_others_send(engine):
    async with process(**engine, history=1000) as groups:
        position, stopping = await groups.send('a', '0'), asyncio.Event()

        async def send():
            number = 0
            while not stopping.is_set():
                number += 1
                await groups.send('a', str(number))
            return number

        sending = asyncio.ensure_future(send())
        got = []
        for _ in range(20):
            inbox = Inbox()
            async with groups.join('a', inbox, since=position) as group:
                await inbox.count(5)
                position = group.position
            # What was given after the position was asked for is given again.
            offset = int(position.partition('-')[2])
            got = (got + [int(text) for text in inbox.messages])[:offset]
        stopping.set()
        await sending
        assert got == list(range(1, len(got) + 1))
        assert len(got) >= 100


async def test_an_empty_position_is_none(engine):
    async with process(**engine, history=3) as groups:
        inbox = Inbox()
        await groups.send('a', 'before')
        async with groups.join('a', inbox, since=''):
            await groups.send('a', 'after')
            await inbox.until('after')


async def test_a_position_that_cannot_be_gone_on_from_is_refused(engine):
    async with process(**engine, history=3, namespaces={'plain': {'history': 0}}) as groups:
        positions = [await groups.send('a', str(number)) for number in range(5)]
        other = await groups.send('b', 'x')
        epoch = positions[0].partition('-')[0]
        tries = [
            ('a', since)
            for since in (positions[0], other, epoch + '-6', epoch, '-1', epoch + '-x', 'é', epoch + '-' + '9' * 40)
        ]
        for name, since in [*tries, ('plain:a', positions[4])]:
            with pytest.raises(PositionLost):
                async with groups.join(name, Inbox(), since=since):
                    """It is not entered."""
        assert groups.stats()['members'] == groups.stats()['groups'] == 0


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(min_size=1) | st.from_regex(r'[0-9a-f]{15,17}[-.:]-?[0-9]{1,25}'), min_size=5, max_size=20))
async def test_whatever_a_client_hands_in_as_its_position_is_refused_in_one_way(engine, tries):
    async with process(**engine, history=3) as groups:
        await groups.send('a', '0')
        for since in tries:
            with pytest.raises(PositionLost):
                async with groups.join('a', Inbox(), since=since):
                    """It is not entered."""
        assert groups.stats()['members'] == groups.stats()['groups'] == 0


async def test_a_history_longer_than_the_queue_is_given_all_the_same(engine):
    async with process(**engine, history=100, max_queue=5) as groups:
        since = await groups.send('a', '0')
        for number in range(1, 51):
            await groups.send('a', str(number))
        inbox = Inbox()
        async with groups.join('a', inbox, since=since):
            await inbox.until(*[str(number) for number in range(1, 51)])
            assert groups.stats()['dropped'] == groups.stats()['told'] == 0


async def test_a_thousand_that_come_back_at_once_share_what_is_read(engine):
    async with process(**engine, history=100) as groups:
        since = await groups.send('a', '0')
        await groups.send('a', '1')
        reads = []
        read = groups._hub.engine.read

        async def count(name, since):
            reads.append(since)
            return await read(name, since)

        groups._hub.engine.read = count
        inboxes = [Inbox() for _ in range(1000)]
        async with contextlib.AsyncExitStack() as stack:
            await asyncio.gather(
                *[stack.enter_async_context(groups.join('a', inbox, since=since)) for inbox in inboxes]
            )
            for inbox in inboxes:
                await inbox.until('1')
        assert len(reads) < 20


async def test_who_comes_for_the_first_time_may_be_shown_the_last_messages(engine):
    async with process(**engine, history=10) as groups:
        first, second = Inbox(), Inbox()
        async with groups.join('a', first, last=5) as group:
            assert group.position.endswith('-0')
            for number in range(12):
                await groups.send('a', str(number))
            async with groups.join('a', second, last=3):
                await groups.send('a', 'next')
                await second.until('9', '10', '11', 'next')
        back = Inbox()
        async with groups.join('a', back, since=group.position, last=3):
            await groups.send('a', 'more')
            await back.count(1)
        assert back.messages[-1] == 'more'


async def test_what_is_shown_first_has_no_hole_and_nothing_twice_while_others_send(engine):
    async with process(**engine, history=1000) as groups:
        stopping, number = asyncio.Event(), 0

        async def send():
            nonlocal number
            while not stopping.is_set():
                number += 1
                await groups.send('a', str(number))

        sending = asyncio.ensure_future(send())
        for _ in range(20):
            inbox = Inbox()
            async with groups.join('a', inbox, last=5):
                got = [int(text) for text in await inbox.count(10)]
            assert got == list(range(got[0], got[0] + len(got)))
        stopping.set()
        await sending


async def test_the_position_travels_in_json_objects_under_the_key_that_the_route_names(engine):
    async with process(**engine, history=10) as groups:
        member, plain = await client(), await client()
        async with groups.join('a', member.ws, position_key='at') as group, groups.join('a', plain.ws):
            epoch = group.position.partition('-')[0]
            for value in ({}, {'x': 1}, [1]):
                group.send_json(value)
            group.send('{"text": true}')
            await group.send(Note(text='hi'), exclude=plain.ws)
            await member.until(
                '{"at":"%s-0"}' % epoch,
                '{"at":"%s-1"}' % epoch,
                '{"x":1,"at":"%s-2"}' % epoch,
                '[1]',
                '{"text": true}',
                '{"text":"hi","at":"%s-5"}' % epoch,
            )
            await plain.until('{}', '{"x":1}', '[1]', '{"text": true}')
        with pytest.raises(ValueError, match="position_key='a\"b' has to be a name"):
            async with groups.join('a', member.ws, position_key='a"b'):
                """It is not entered."""


async def test_after_a_join_with_a_position_the_place_comes_behind_what_was_missed(engine):
    async with process(**engine, history=10) as groups:
        since = await groups.send_json('a', {'n': 1})
        await groups.send_json('a', {'n': 2})
        epoch, member = since.partition('-')[0], await client()
        async with groups.join('a', member.ws, since=since, position_key='at'):
            await member.until('{"n":2,"at":"%s-2"}' % epoch, '{"at":"%s-2"}' % epoch)


async def test_a_message_that_excludes_a_member_moves_its_position(engine):
    async with process(**engine, history=10) as groups:
        member, inbox = await client(), Inbox()
        async with groups.join('a', member.ws) as group, groups.join('a', inbox) as other:
            assert group.position == other.position
            position = await group.send('1', exclude=member.ws)
            await inbox.until('1')
            await until(lambda: group.position == position, 'the position to move')
            assert member.got == []


# Members


async def test_members_are_listed_with_what_was_said_of_them_until_they_leave(engine):
    async with process(**engine) as groups:
        async with groups.join('a', Inbox(), info={'name': 'Ann'}) as group, groups.join('a', Inbox(), info=('x', 1)):
            members = await group.members()
            assert sorted(json.dumps(member.info) for member in members) == ['["x", 1]', '{"name": "Ann"}']
            assert len({member.id for member in members}) == 2
            assert all(0 < member.since for member in members)
            assert await group.count() == await groups.count('a') == 2
            assert len(await groups.members('a', limit=1)) == 1
        assert await groups.members('a') == []
        assert await groups.count('a') == 0


async def test_members_of_a_namespace_without_presence_are_not_listed(engine):
    async with process(**engine, presence=False) as groups:
        async with groups.join('a', Inbox()):
            for ask in (groups.members, groups.count):
                with pytest.raises(ValueError, match='presence=False'):
                    await ask('a')


def names(change):
    """Return the names in a change: all of them, who has joined, who has left."""
    members, joined, left = change
    all_members = None if members is None else sorted(member.info for member in members)
    return all_members, [member.info for member in joined], [member.info for member in left]


async def test_who_asks_is_told_of_all_members_and_then_of_changes(engine):
    async with process(**engine) as groups:
        seen_by_bob, seen_by_eve = Inbox(), Inbox()
        async with groups.join('a', Inbox(), info='ann'):
            async with groups.join('a', Inbox(), info='bob', on_change=seen_by_bob):
                await seen_by_bob.count(1)
                async with groups.join('a', Inbox(), info='eve', on_change=seen_by_eve):
                    await seen_by_eve.count(1)
                    await seen_by_bob.count(2)
                await seen_by_bob.count(3)
            assert [names(change) for change in seen_by_bob.messages] == [
                (['ann', 'bob'], [], []),
                (None, ['eve'], []),
                (None, [], ['eve']),
            ]
            assert names(seen_by_eve.messages[0]) == (['ann', 'bob', 'eve'], [], [])


async def test_who_joins_and_leaves_within_a_second_is_told_of_once_or_never(engine):
    async with process(**engine) as groups:
        seen = Inbox()
        async with groups.join('a', Inbox(), info='ann', on_change=seen):
            await seen.count(1)
            for info in ('first', 'short', 'short', 'short'):
                async with groups.join('a', Inbox(), info=info):
                    await groups.members('a')
            async with groups.join('a', Inbox(), info='last'):
                while 'last' not in names(seen.messages[-1])[1]:
                    await seen.count(len(seen.messages) + 1)
        assert len(seen.messages) <= 3


# Joins that fail


async def test_a_join_during_which_more_comes_than_can_wait_gets_all(engine):
    async with process(**engine, history=100, max_queue=3, presence=False) as groups:
        since = await groups.send('a', '0')
        await groups.send('a', '1')
        read, begun, gate = groups._hub.engine.read, asyncio.Event(), asyncio.Event()

        async def wait(name, since):
            begun.set()
            await gate.wait()
            return await read(name, since)

        witness, inbox = Inbox(), Inbox()
        async with groups.join('a', witness), contextlib.AsyncExitStack() as stack:
            groups._hub.engine.read = wait
            joining = asyncio.ensure_future(stack.enter_async_context(groups.join('a', inbox, since=since)))
            await asyncio.wait_for(begun.wait(), PATIENCE)
            for number in '2345':
                await groups.send('a', number)
            await witness.count(4)
            gate.set()
            await joining
            await inbox.until(*'12345')


async def enter(groups, since):
    async with groups.join('a', Inbox(), since=since):
        """It is not entered."""


async def test_a_join_during_which_the_group_loses_messages_is_refused(engine):
    async with process(**engine, history=100) as groups:
        witness, announce = Inbox(), groups._hub.engine.presence.announce

        async def lose(name, members):
            await announce(name, members)
            groups._hub._sequences['a'].lose('for the test')

        async with groups.join('a', witness, on_lost=witness):
            groups._hub.engine.presence.announce = lose
            with pytest.raises(PositionLost):
                await enter(groups, None)
            while await groups.count('a') > 1:
                await asyncio.sleep(0.001)


async def test_a_failure_of_the_function_is_raised_also_where_the_block_just_ends(engine):
    async with process(**engine) as groups:
        failed = asyncio.Event()

        async def fail(message):
            failed.set()
            raise LookupError(message)

        async def wait_and_go():
            async with groups.join('a', fail):
                groups.send('a', 'boom')
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
                assert failed.is_set()

        with pytest.raises(LookupError):
            await wait_and_go()


# Members that do not read


async def blocked_client(**options):
    """Return a client that reads nothing until it is told."""
    made = await client(**options)
    unblock, send = asyncio.Event(), made.send

    async def wait(message):
        await unblock.wait()
        await send(message)

    connection_of(made.ws).server_send = connection_of(made.ws).push = wait
    made.unblock = unblock
    return made


async def test_who_does_not_read_holds_up_nobody_and_is_closed_with_1013(engine):
    async with process(**engine, max_queue=10) as groups:
        stuck, other = await blocked_client(), await client()
        async with groups.join('a', stuck.ws), groups.join('a', other.ws) as group:
            for number in range(12):
                await group.send(str(number))
            await other.until(*[str(number) for number in range(12)])
            with pytest.raises(WebSocketDisconnect):
                while True:
                    await asyncio.wait_for(stuck.ws.receive(), PATIENCE)
            assert (stuck.ws.close_code, stuck.ws.close_reason) == (1013, 'Messages were lost: come back')
            stuck.unblock.set()
        assert groups.stats()['told'] == 0 and groups.stats()['closed'] == 1


@pytest.mark.parametrize('overflow, kept', [('drop_oldest', '789'), ('drop_newest', '123')])
async def test_a_full_queue_drops_what_the_settings_say(engine, overflow, kept):
    async with process(**engine, max_queue=3, overflow=overflow) as groups:
        stuck, other = await blocked_client(), await client()
        async with groups.join('a', stuck.ws), groups.join('a', other.ws) as group:
            for number in range(10):
                await group.send(str(number))
            await other.until(*'0123456789')
            stuck.unblock.set()
            await stuck.until('0', *kept)
            assert groups.stats()['dropped'] == 6


async def test_a_queue_is_bounded_by_bytes_too(engine):
    async with process(**engine, max_message=10, max_queue_size=25, overflow='drop_oldest') as groups:
        stuck, other = await blocked_client(), Inbox()
        async with groups.join('a', stuck.ws), groups.join('a', other):
            for number in range(6):
                await groups.send('a', str(number) * 10)
            await other.count(6)
            stuck.unblock.set()
            await stuck.until('0' * 10, '4' * 10, '5' * 10)


async def test_a_function_that_does_not_keep_up_is_told_in_the_block(engine):
    async with process(**engine, history=10, max_queue=1) as groups:
        began, unblock = asyncio.Event(), asyncio.Event()

        async def slow(message):
            began.set()
            await unblock.wait()
            raise LookupError('after it was told')

        with pytest.raises(MessagesLost, match="of the group 'a' were lost: the queue of the member is full") as caught:
            async with groups.join('a', slow) as group:
                since = group.position
                await groups.send('a', '0')
                await asyncio.wait_for(began.wait(), PATIENCE)
                groups.send('a', '1')
                groups.send('a', '2')
                try:
                    await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
                finally:
                    unblock.set()
        assert (caught.value.group, caught.value.position) == ('a', since)


async def test_a_member_with_on_lost_is_told_and_goes_on(engine):
    async with process(**engine, history=10, max_queue=1) as groups:
        told, got, began, unblock = [], Inbox(), asyncio.Event(), asyncio.Event()

        async def slow(message):
            began.set()
            await unblock.wait()
            await got(message)

        async def on_lost(lost):
            told.append(lost)

        async with groups.join('a', slow, on_lost=on_lost) as group:
            since = group.position
            await groups.send('a', '0')
            await asyncio.wait_for(began.wait(), PATIENCE)
            for number in '123':
                await groups.send('a', number)
            unblock.set()
            await got.count(1)
            await until(lambda: not group._member.queue and not group._member.is_waiting, 'what waits to be given')
            await groups.send('a', '4')
            await until(lambda: got.messages[-1] == '4', 'what was sent behind the loss')
            assert got.messages in (['0', '3', '4'], ['0', '4'])
        assert [(lost.reason, lost.position) for lost in told][:1] == [('the queue of the member is full', since)]


async def test_stats_say_what_is_here(engine):
    async with process(**engine, history=10) as groups:
        inbox = Inbox()
        async with groups.join('a', inbox), groups.join('b', inbox):
            await groups.send('a', '1')
            await inbox.until('1')
            stats = groups.stats()
    assert stats.pop('publish_latency') >= 0
    assert stats == {
        'groups': 2,
        'members': 2,
        'engine': 'open',
        'published': 1,
        'publish_failed': 0,
        'publish_waiting': 0,
        'queued': 1,
        'dropped': 0,
        'gaps': 0,
        'recovered': 0,
        'told': 0,
        'closed': 0,
    }
