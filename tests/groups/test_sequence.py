"""The order of one group, with an engine that says what the test has it say."""

import asyncio

import pytest

from apistar_ws import GroupsUnavailable
from apistar_ws.groups.audience import Counters
from apistar_ws.groups.engine import Window
from apistar_ws.groups.payload import Incoming, Position
from apistar_ws.groups.reads import SharedReads
from apistar_ws.groups.sequence import MAX_PENDING, MAX_PENDING_SIZE, Backlog, GroupSequence
from apistar_ws.groups.settings import GroupSettings

ONE, TWO = '1' * 16, '2' * 16


def message(offset, epoch=ONE):
    return Incoming(str(offset), Position(epoch, offset), size=1)


def place(top, epoch=ONE, first=1):
    return Window(epoch, first, top, [])


def page(top, *offsets, epoch=ONE):
    return Window(epoch, 1, top, [message(offset, epoch) for offset in offsets])


class Engine:
    """Answers reads one after the other, when the test lets it."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.state = 'open'
        self.asked = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.subscribing = None

    async def subscribe(self, name):
        if self.subscribing is not None:
            raise self.subscribing

    async def place(self, name):
        return await self.read(name, None)

    async def read(self, name, since):
        self.asked.append(since)
        await self.gate.wait()
        answer = next(found for found in self.answers if bool(getattr(found, 'messages', ())) is (since is not None))
        self.answers.remove(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until_retry(self):
        await asyncio.sleep(0)


class Member:
    """Keeps what it gets, as a membership does in its queue."""

    max_queue, max_size, size = 10**6, 10**9, 0
    cursor = marker = joined = None

    def __init__(self):
        self.queue, self.mailbox, self.lost = [], self, []

    def wake(self, member):
        """Read what was missed, as the task of a mailbox does."""
        while self.cursor is not None and (missed := self.next_missed(self)) is not None:
            self.queue.append(missed)

    def receive_missed(self, missed):
        self.cursor += 1
        self.queue.append(missed)
        self.wake(self)

    def lose(self, reason):
        self.lost.append(reason)

    @property
    def got(self):
        return [item.data for item in self.queue]


def sequence_of(engine, history=10):
    told = []
    made = GroupSequence(
        'a',
        GroupSettings(history=history),
        engine,
        SharedReads(engine),
        Counters(),
        lambda name, reason: told.append(reason),
    )
    made.told = told
    return made


async def opened(*answers, history=10):
    engine = Engine(place(0), *answers)
    sequence, member = sequence_of(engine, history), Member()
    sequence.users = 1
    await sequence.ready()
    sequence.audience.add(member)
    return engine, sequence, member


async def settled(sequence):
    while sequence._working is not None or sequence.audience.behind:
        await asyncio.sleep(0)


async def test_what_comes_while_the_place_is_read_is_sorted_out_afterwards():
    engine = Engine(place(5), place(7), page(7, 6, 7))
    sequence, member = sequence_of(engine), Member()
    sequence.audience.add(member)
    engine.gate.clear()
    waiting = asyncio.ensure_future(sequence.ready())
    await asyncio.sleep(0)
    for offset in (4, 5, 7, 8):
        sequence.take(message(offset))
    engine.gate.set()
    await waiting
    await settled(sequence)
    assert member.got == ['6', '7', '8']
    assert engine.asked == [None, None, 5]
    assert sequence.position == Position(ONE, 8)


async def test_a_gap_is_filled_by_reading_and_what_comes_meanwhile_waits():
    engine, sequence, member = await opened(place(3), page(3, 1, 2, 3))
    engine.gate.clear()
    sequence.take(message(3))
    sequence.take(message(4))
    assert member.got == []
    engine.gate.set()
    await settled(sequence)
    assert member.got == ['1', '2', '3', '4']
    assert (sequence._counters.recovered, sequence.told) == (3, [])


async def test_a_gap_that_cannot_be_filled_is_told_and_the_group_goes_on():
    engine, sequence, member = await opened(place(30, first=21))
    sequence.take(message(30))
    await settled(sequence)
    assert (member.got, member.lost) == ([], ['the engine does not have them any more'])
    sequence.take(message(31))
    assert member.got == ['31']


async def test_a_new_epoch_is_told_and_then_read_from_its_beginning():
    engine, sequence, member = await opened(place(2, TWO), page(2, 1, 2, epoch=TWO))
    sequence.take(message(2, TWO))
    await settled(sequence)
    assert (member.got, len(member.lost)) == (['1', '2'], 1)
    assert engine.asked == [None, None, 0]


async def test_a_new_epoch_of_which_the_beginning_is_gone_is_told_once():
    engine, sequence, member = await opened(place(90, TWO, first=81))
    sequence.take(message(90, TWO))
    await settled(sequence)
    assert (member.got, len(member.lost)) == ([], 1)
    assert sequence.position == Position(TWO, 90)


async def test_a_message_of_an_epoch_that_is_over_changes_nothing():
    engine, sequence, member = await opened(place(1), place(1), place(1), page(1, 1))
    engine.gate.clear()
    sequence.take(message(8, TWO))
    sequence.take(message(7, TWO))
    engine.gate.set()
    await settled(sequence)
    assert (member.got, member.lost) == (['1'], [])
    assert sorted(engine.asked, key=str) == [0, None, None, None, None]


async def test_an_engine_that_went_away_meanwhile_is_asked_again():
    engine, sequence, member = await opened(place(1), GroupsUnavailable(), place(3), page(3, 1, 2, 3), page(3, 2, 3))
    engine.gate.clear()
    sequence.take(message(2))
    await asyncio.sleep(0)
    sequence.on_disconnected()
    sequence.on_reconnected()
    engine.gate.set()
    await settled(sequence)
    assert (member.got, member.lost) == (['1', '2', '3'], [])


async def test_it_goes_away_while_what_came_meanwhile_is_given():
    engine, sequence, member = await opened(place(1), page(1, 1), place(4), page(4, 3, 4))
    give = sequence._give

    async def give_and_go_away(message, members):
        await give(message, members)
        sequence.on_disconnected()
        sequence._give = give

    sequence._give = give_and_go_away
    engine.gate.clear()
    sequence.take(message(2))
    sequence.take(message(3))
    engine.gate.set()
    await settled(sequence)
    assert member.got == ['1', '2', '3', '4']


async def test_what_is_missed_while_the_engine_is_away_is_read_when_it_is_back():
    engine, sequence, member = await opened(place(2), page(2, 1, 2))
    sequence.on_disconnected()
    sequence.on_disconnected()
    sequence.take(message(3))
    sequence.on_reconnected()
    sequence.on_reconnected()
    await settled(sequence)
    assert member.got == ['1', '2', '3']


async def test_without_history_nothing_is_read():
    engine, sequence, member = await opened(history=0)
    sequence.on_disconnected()
    sequence.on_reconnected()
    sequence.take(Incoming('x', None))
    assert (member.got, engine.asked, sequence.position) == (['x'], [], None)


async def test_a_message_without_a_place_is_a_loss_where_there_is_history():
    engine, sequence, member = await opened(place(0))
    sequence.take(Incoming('x', None))
    sequence.on_disconnected()
    sequence.take(Incoming('y', None))
    sequence.on_reconnected()
    await settled(sequence)
    assert (member.got, len(member.lost)) == ([], 2)


async def test_a_group_without_members_tells_nobody():
    engine, sequence, member = await opened()
    sequence.audience.remove(member)
    sequence.audience.remove(member)
    sequence.users = 0
    sequence.take(Incoming('x', None))
    sequence.on_disconnected()
    sequence.on_reconnected()
    assert (member.lost, sequence.told, sequence._working) == ([], [], None)


async def test_who_waits_for_the_place_learns_that_the_engine_is_away():
    engine = Engine()
    sequence = sequence_of(engine)
    engine.gate.clear()
    waiting = [asyncio.ensure_future(sequence.ready()) for _ in range(2)]
    await asyncio.sleep(0)
    engine.state = 'away'
    sequence.on_disconnected()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(exc) for exc in done] == [GroupsUnavailable, GroupsUnavailable]
    with pytest.raises(GroupsUnavailable):
        await sequence.ready()
    sequence._working.cancel()


async def test_it_goes_away_while_the_place_is_read():
    engine = Engine(place(0), place(2), page(2, 1, 2))
    sequence, member = sequence_of(engine), Member()
    sequence.audience.add(member)
    engine.gate.clear()
    waiting = asyncio.ensure_future(sequence.ready())
    await asyncio.sleep(0)
    sequence.on_disconnected()
    with pytest.raises(GroupsUnavailable):
        await waiting
    engine.gate.set()
    await settled(sequence)
    assert (engine.asked, member.got) == ([None, None, 0], ['1', '2'])
    engine.state = 'away'
    with pytest.raises(GroupsUnavailable):
        await sequence.ready()


async def test_a_subscription_that_fails_is_tried_again_by_the_next():
    engine = Engine(place(0))
    sequence = sequence_of(engine)
    engine.subscribing = GroupsUnavailable('no')
    with pytest.raises(GroupsUnavailable, match='no'):
        await sequence.ready()
    engine.subscribing = None
    await sequence.ready()


async def test_more_than_can_wait_is_read_again():
    top = MAX_PENDING + 2
    engine = Engine(place(0), place(top), page(top, *range(1, top + 1)))
    sequence, member = sequence_of(engine), Member()
    sequence.audience.add(member)
    engine.gate.clear()
    waiting = asyncio.ensure_future(sequence.ready())
    await asyncio.sleep(0)
    for offset in range(1, MAX_PENDING + 3):
        sequence.take(message(offset))
    engine.gate.set()
    await waiting
    await settled(sequence)
    assert member.got == [str(offset) for offset in range(1, MAX_PENDING + 3)]


async def test_many_members_get_a_message_in_several_turns():
    engine, sequence, first = await opened()
    members = [Member() for _ in range(20_000)]
    for member in members:
        sequence.audience.add(member)
    turns, stopping = [], False

    async def others():
        while not stopping:
            turns.append(1)
            await asyncio.sleep(0)

    running = asyncio.ensure_future(others())
    await asyncio.sleep(0)
    sequence.take(message(1))
    sequence.take(message(2))
    await settled(sequence)
    stopping = True
    await running
    assert all(member.got == ['1', '2'] for member in members)
    assert len(turns) > 1


def test_backlog_is_bounded_by_bytes():
    """A message that is larger than all waits all the same."""
    backlog = Backlog()
    assert not backlog.add(Incoming('small', None, size=1))
    assert backlog.add(Incoming('large', None, size=2 * MAX_PENDING_SIZE))
    assert [backlog.next().data, backlog.next()] == ['large', None]
