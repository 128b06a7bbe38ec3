"""One member's queue and task, without any engine."""

import asyncio

import pytest

from apistar_ws import WebSocketState
from apistar_ws.groups import background
from apistar_ws.groups.api import identity
from apistar_ws.groups.audience import put
from apistar_ws.groups.mailbox import MESSAGES_PER_TURN, Mailbox, Membership
from apistar_ws.groups.payload import Incoming, Position
from apistar_ws.groups.settings import GroupSettings
from tests.clock import virtual
from tests.conversations import Peer, channel, opening
from tests.groups.members import client, process


class Receiver:
    """Stands for a WebSocket or a function: keeps what it is given, and what it is told."""

    def __init__(self):
        self.given, self.told = [], []
        self.is_stuck = False

    async def is_open(self):
        """It always is."""

    async def give(self, data):
        self.given.append(data)
        while self.is_stuck:
            await asyncio.sleep(1)

    def tell_lost(self, lost):
        self.told.append((lost.reason, lost.position, lost.close_code))

    def fail(self, exc):
        self.told.append(exc)

    def is_end(self, exc):
        return False

    def tell_cancelled(self):
        self.told.append('cancelled')


def message(text, offset=None):
    return Incoming(text, offset and Position('e' * 16, offset), size=len(text))


def member_of(mailbox, group='a', released=True, on_lost=None, **settings):
    member = Membership(group, GroupSettings(**settings), mailbox, mailbox.receiving, mailbox.exclude_id, None, on_lost)
    mailbox.memberships[group] = member
    if released:
        member.release()
    return member


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_while_a_member_is_held_is_given_behind_where_it_stands():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member = member_of(mailbox, released=False)
    member.marker, member.joined = message('{}', 2), Position('e' * 16, 2)
    put(message('live', 3), [member])
    await turns()
    assert mailbox.receiving.given == []
    member.release()
    await turns()
    assert mailbox.receiving.given == ['{}', 'live']
    assert member.position == Position('e' * 16, 3)
    assert member.size == 0
    await mailbox.leave(member)


async def test_a_busy_group_leaves_turns_to_the_others_of_its_connection():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    busy, quiet = member_of(mailbox), member_of(mailbox, 'b')
    for number in range(3 * MESSAGES_PER_TURN):
        put(message('busy'), [busy])
        if number == 0:
            put(message('quiet'), [quiet])
    await turns()
    assert mailbox.receiving.given.index('quiet') == MESSAGES_PER_TURN
    assert len(mailbox.receiving.given) == 3 * MESSAGES_PER_TURN + 1
    for member in (busy, quiet):
        await mailbox.leave(member)


async def test_what_fails_where_a_message_is_given_is_told_and_ends_the_mailbox():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member, other = member_of(mailbox), member_of(mailbox, 'b')

    async def fail(data):
        raise LookupError(data)

    mailbox.receiving.give = fail
    put(message('1'), [member, other])
    await turns()
    # Each of the two memberships has a block, which is told.
    assert [repr(exc) for exc in mailbox.receiving.told] == 2 * ["LookupError('1')"]
    put(message('2'), [member, other])
    await turns()
    assert mailbox.is_over and not member.queue and not other.queue


async def test_what_was_missed_comes_behind_what_waits():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member, missed = member_of(mailbox, max_queue=1), [message('3', 3), message('4', 4)]

    def next_missed(behind):
        behind.cursor = None if not missed else behind.cursor + 1
        return missed.pop(0) if missed else None

    put(message('1', 1), [member])
    member.cursor, member.next_missed = 1, next_missed
    member.receive_missed(message('2', 2))
    await turns()
    assert (mailbox.receiving.given, member.size, member.cursor) == (['1', '2', '3', '4'], 0, None)
    await mailbox.leave(member)


async def test_a_receiver_that_never_opens_is_told_why():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())

    async def fail():
        raise LookupError('closed')

    mailbox.receiving.is_open = fail
    put(message('1'), [member_of(mailbox)])
    await turns()
    assert [repr(exc) for exc in mailbox.receiving.told] == ["LookupError('closed')"]


@virtual
async def test_who_cancels_what_is_being_given_ends_the_mailbox_and_that_is_told():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member = member_of(mailbox)
    mailbox.receiving.is_stuck = True
    put(message('1'), [member])
    await turns()
    mailbox._task.cancel()
    await turns()
    assert mailbox.receiving.told == ['cancelled'] and mailbox.is_over


async def test_a_membership_that_another_has_followed_leaves_that_alone():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    first, second = member_of(mailbox), member_of(mailbox)
    await mailbox.leave(first)
    assert mailbox.memberships == {'a': second} and not mailbox.is_over
    await mailbox.leave(second)
    assert mailbox.is_over


async def test_a_held_member_that_is_lost_is_told_by_its_join():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member = member_of(mailbox, released=False)
    member.lose('gone')
    assert member.lost is not None and member.lost.reason == 'gone'
    assert mailbox.receiving.told == []


async def test_a_loss_is_told_once_and_nothing_comes_after_it():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member = member_of(mailbox)
    member.lose('gone')
    member.lose('gone')
    put(message('late'), [member])
    await turns()
    assert mailbox.receiving.told == [('gone', None, 4410)]
    assert mailbox.receiving.given == []
    await mailbox.leave(member)


@virtual
async def test_leaving_waits_a_second_for_a_message_that_is_being_sent_and_cuts_it_then():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member, other = member_of(mailbox), member_of(mailbox, 'b')
    mailbox.receiving.is_stuck = True
    put(message('1'), [member])
    put(message('2'), [member])
    put(message('other'), [other])
    await turns()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await mailbox.leave(member)
    assert loop.time() - began == 1.0
    mailbox.receiving.is_stuck = False
    await asyncio.sleep(2)
    assert mailbox.receiving.given == ['1', 'other']
    mailbox.receiving.is_stuck = True
    put(message('stuck'), [other])
    await turns()
    await mailbox.leave(other)
    await turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_leaving_that_is_cancelled_leaves_nothing_either():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member = member_of(mailbox)
    mailbox.receiving.is_stuck = True
    put(message('1'), [member])
    await turns()
    leaving = asyncio.ensure_future(mailbox.leave(member))
    await turns()
    leaving.cancel()
    await asyncio.wait({leaving})
    assert leaving.cancelled()
    await turns()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_a_websocket_raises_unexpectedly_is_raised_in_its_block_and_in_nobody_elses():
    async with process(None) as groups:
        broken, other = await client(), await client()

        async def give(data):
            raise LookupError(data)

        async def member():
            async with groups.join('a', broken.ws):
                groups._hub.joined[identity(broken.ws)][0].mailbox.receiving.give = give
                await asyncio.Event().wait()

        task = asyncio.ensure_future(member())
        await turns()
        async with groups.join('a', other.ws):
            await groups.send('a', '1')
            await other.until('1')
            with pytest.raises(LookupError, match='1'):
                await task


async def test_what_a_function_meets_at_its_own_websocket_that_is_over_is_no_failure(caplog):
    async with process(None) as groups:
        member = await client()

        async def tell(change):
            await member.ws.close()
            await member.ws.send('too late')

        async with groups.join('a', member.ws, on_change=tell):
            await turns(20)
            assert member.ws.state is WebSocketState.CLOSED
    assert caplog.text == ''


@pytest.mark.parametrize('is_accepted', [True, False])
async def test_a_websocket_is_given_nothing_before_it_is_accepted(is_accepted):
    async with process(None) as groups:
        peer = Peer()
        ws = channel(peer, receive=opening(peer))
        async with groups.join('a', ws):
            await groups.send('a', 'held')
            await turns()
            assert peer.sent == []
            if is_accepted:
                await ws.connect()
                while len(peer.sent) < 2:
                    await asyncio.sleep(0.001)
                assert peer.sent[1] == {'type': 'websocket.send', 'text': 'held'}
            else:
                await ws.close()
                await asyncio.sleep(0.05)
                assert [sent['type'] for sent in peer.sent] == ['websocket.http.response.start'] or len(peer.sent) == 1
