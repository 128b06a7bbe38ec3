"""The smaller parts of groups: payloads, the outbox, shared reads, paced closes, changes of members, tasks."""

import asyncio
import contextvars

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apistar_ws import GroupsUnavailable, MessagesLost, PositionLost, WebSocketState
from apistar_ws.groups import background
from apistar_ws.groups.engine import Member, Window
from apistar_ws.groups.mailbox import Mailbox, Membership
from apistar_ws.groups.outbox import MAX_WAITING_SIZE, TIME_TO_AWAIT, Outbox
from apistar_ws.groups.payload import BYTES, OBJECT, TEXT, Outgoing, Position, decode, parse_position
from apistar_ws.groups.presence import PresenceWatch
from apistar_ws.groups.reads import MAX_READS, SharedReads
from apistar_ws.groups.receivers import Closing
from apistar_ws.groups.settings import GroupSettings
from tests.clock import virtual
from tests.groups.members import Inbox, process
from tests.groups.test_mailbox import Receiver

EPOCH = '0123456789abcdef'


# Payloads


@given(st.binary(), st.sampled_from(['', EPOCH]), st.one_of(st.none(), st.integers(0, 2**53)))
def test_a_payload_gives_back_what_went_in(data, exclude, offset):
    position = None if offset is None else Position(EPOCH, offset)
    message = decode(Outgoing('a', BYTES, data, exclude).placed(position))
    assert (message.data, message.position, message.exclude, message.size) == (data, position, exclude, len(data))


@given(st.text(st.characters(exclude_categories=['Cs'])), st.sampled_from([TEXT, OBJECT]))
def test_text_stays_text(text, kind):
    assert decode(Outgoing('a', kind, text.encode()).placed(None)).data == text


@given(st.binary())
def test_what_is_no_payload_is_a_value_error_and_nothing_else(payload):
    try:
        decode(payload)
    except ValueError:
        """It says so."""


@given(st.one_of(st.text(), st.text('0123456789abcdef-', max_size=24), st.integers(), st.none()))
def test_what_is_no_position_is_none(text):
    position = parse_position(text)
    assert position is None or str(position) == text or str(position).split('-')[0] == text.split('-')[0]


# The outbox


def outbox(results):
    """Return an outbox whose engine answers with each of ``results``, and the batches that it gets."""
    batches = []

    async def publish(batch):
        batches.append([outgoing.tail for outgoing in batch])
        result = results.pop(0) if results else None
        if isinstance(result, BaseException):
            raise result
        return [result] * len(batch)

    return Outbox(publish), batches


def outgoing(data=b'x'):
    return Outgoing('a', TEXT, data)


async def test_what_follows_a_failure_is_not_sent_and_never_will_be():
    box, batches = outbox([GroupsUnavailable('unknown', maybe_sent=True)])
    sends = [box.put(outgoing()) for _ in range(300)]
    done = await asyncio.gather(*sends, return_exceptions=True)
    assert [exc.maybe_sent for exc in done] == [True] * 200 + [False] * 100
    assert [len(batch) for batch in batches] == [200]
    assert (box.published, box.failed, len(box)) == (0, 300, 0)
    assert await box.put(outgoing()) is None
    assert box.published == 1


async def test_it_is_bounded_by_bytes_too():
    box, batches = outbox([])
    half = outgoing(b'x' * (MAX_WAITING_SIZE // 2))
    first, second, third = box.put(half), box.put(half), box.put(half)
    with pytest.raises(GroupsUnavailable, match='Too many messages'):
        await third
    assert await first is None and await second is None
    assert [len(batch) for batch in batches] == [1, 1]


async def test_one_result_may_be_awaited_by_many_and_one_of_them_may_give_up():
    gate = asyncio.Event()

    async def publish(batch):
        await gate.wait()
        return [Position(EPOCH, 7)] * len(batch)

    sent = Outbox(publish).put(outgoing())

    async def wait():
        return await sent

    waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    gate.set()
    assert await asyncio.gather(*waiting[1:]) == [EPOCH + '-7'] * 2
    assert await sent == EPOCH + '-7'


async def test_stopped_while_it_sends_nobody_waits_for_ever():
    async def publish(batch):
        await asyncio.sleep(60)

    box = Outbox(publish)
    sends = [box.put(outgoing()) for _ in range(201)]
    flushing = asyncio.ensure_future(box.flush())
    await asyncio.sleep(0)
    box._task.cancel()
    done = await asyncio.gather(*sends, return_exceptions=True)
    assert [exc.maybe_sent for exc in done] == [True] * 200 + [False]
    await flushing
    await box.flush()


@virtual
async def test_a_failure_that_nobody_asks_for_is_counted_and_said_once_until_it_works_again(caplog):
    """It does not wait for the garbage collector: what is kept and not awaited counts too."""
    box, _ = outbox([GroupsUnavailable(), GroupsUnavailable(), None, GroupsUnavailable()])
    kept = []
    for _ in range(4):
        kept.append(box.put(outgoing()))
        await asyncio.sleep(2 * TIME_TO_AWAIT)
    assert box.unseen == 3
    assert caplog.text.count('nobody awaits it') == 2


@virtual
async def test_a_failure_that_somebody_awaits_a_moment_later_does_not_count(caplog):
    box, _ = outbox([GroupsUnavailable(), GroupsUnavailable()])
    sends = [box.put(outgoing()), box.put(outgoing())]
    await box.flush()
    with pytest.raises(GroupsUnavailable):
        await sends[0]
    box.note_unseen()
    await asyncio.sleep(2 * TIME_TO_AWAIT)
    assert box.unseen == 1


# Shared reads


class Reading:
    """Stands for an engine that is read."""

    def __init__(self, answer=None):
        self.asked, self.answer, self.in_flight, self.most = [], answer, 0, 0

    async def place(self, name):
        return await self.read(name, None)

    async def read(self, name, since):
        self.asked.append((name, since))
        if self.answer is not None:
            raise self.answer
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        return Window(EPOCH, 1, len(self.asked), [])


async def test_who_asks_for_the_same_shares_the_answer_and_who_comes_later_asks_anew():
    engine = Reading()
    reads = SharedReads(engine)
    tops = await asyncio.gather(*[reads.page('a', 1) for _ in range(5)], reads.page('a', 2), reads.place('b'))
    assert sorted(engine.asked, key=str) == [('a', 1), ('a', 2), ('b', None)]
    assert len({found.top for found in tops[:5]}) == 1
    await reads.page('a', 1)
    assert len(engine.asked) == 4 and not reads._gathering


async def test_reads_in_flight_are_bounded():
    engine = Reading()
    reads = SharedReads(engine)
    await asyncio.gather(*[reads.place('room:%d' % number) for number in range(200)])
    assert (len(engine.asked), engine.most) == (200, MAX_READS)


async def test_who_leaves_takes_nobody_elses_answer_away_and_a_failure_is_everybodys():
    reads = SharedReads(Reading(GroupsUnavailable('no')))
    first, second = [asyncio.ensure_future(reads.page('a', 1)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(GroupsUnavailable, match='no'):
        await second
    assert first.cancelled()
    third = asyncio.ensure_future(reads.page('a', 1))
    await asyncio.sleep(0)
    reads._gathering['a', 1].cancel()
    with pytest.raises(GroupsUnavailable, match='The groups were stopped'):
        await third


# Closes


class Closed:
    state = WebSocketState.OPEN

    def __init__(self, closes):
        self.closes = closes

    def abort(self, code, reason):
        self.closes.append((asyncio.get_running_loop().time(), code, reason))


@virtual
async def test_ten_thousand_closes_take_twenty_seconds_and_begin_at_once():
    closing, closes = Closing(), []
    began = asyncio.get_running_loop().time()
    for _ in range(10_000):
        closing.close(Closed(closes), 4410, 'gone')
    await asyncio.sleep(0.01)
    assert len(closes) == 25
    await asyncio.sleep(30)
    assert len(closes) == closing.closed == 10_000
    assert 19 < closes[-1][0] - began < 21
    assert asyncio.all_tasks() == {asyncio.current_task()}
    closing.close(Closed(closes), 1013, 'come back')
    await asyncio.sleep(0.01)
    assert closes[-1][1:] == (1013, 'come back')


# Changes of members


class Listing:
    """Stands for an engine that lists members."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.presence = self

    async def watch(self, name):
        self.calls.append('watch')

    def unwatch(self, name):
        self.calls.append('unwatch')

    async def members(self, name, limit):
        await self.gate.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def until_retry(self):
        self.calls.append('until_retry')


ANN, BOB, EVE = [Member(name, name, 0.0) for name in ('ann', 'bob', 'eve')]


def watcher():
    mailbox = Mailbox(Receiver(), 'me', background.Pump())
    member = Membership('a', GroupSettings(), mailbox, mailbox.receiving, 'me')
    mailbox.memberships['a'] = member
    member.release()
    return member, Inbox()


@virtual
async def test_changes_are_gathered_for_a_second_and_what_is_undone_is_not_told():
    watch, (member, told) = PresenceWatch('a', Listing([ANN])), watcher()
    await watch.add(member, told)
    await told.count(1)
    watch.take([BOB, EVE], [])
    watch.take([BOB], ['nobody'])
    watch.take([], ['eve', 'ann'])
    watch.take([ANN], [])
    await told.count(2)
    assert asyncio.get_running_loop().time() == pytest.approx(1.0, abs=0.01)
    watch.take([EVE], [])
    watch.take([], ['eve'])
    await asyncio.sleep(5)
    watch.take([], ['bob'])
    await told.count(3)
    assert [tuple(change) for change in told.messages] == [([ANN], [], []), (None, [BOB], []), (None, [], [BOB])]
    watch.take([EVE], [])
    watch.remove(member)
    await asyncio.sleep(5)
    assert len(told.messages) == 3
    await member.mailbox.leave(member)


@virtual
async def test_who_comes_between_two_reports_is_told_of_nothing_twice():
    watch, (member, told), (late, late_told) = PresenceWatch('a', Listing([ANN])), watcher(), watcher()
    await watch.add(member, told)
    await told.count(1)
    watch.take([BOB, EVE], [])
    await watch.add(late, late_told)
    watch.take([], ['eve'])
    await told.count(2)
    await late_told.count(2)
    watch.take([EVE], [])
    await late_told.count(3)
    assert [tuple(change) for change in told.messages[1:2]] == [(None, [BOB], [])]
    assert [tuple(change) for change in late_told.messages] == [
        ([ANN, BOB, EVE], [], []),
        (None, [], [EVE]),
        (None, [EVE], []),
    ]
    for one in (member, late):
        watch.remove(one)
        await one.mailbox.leave(one)


@virtual
async def test_what_changes_while_all_members_are_read_is_part_of_what_is_told_first():
    engine = Listing([ANN], GroupsUnavailable(), [ANN, BOB])
    watch, (member, told), (other, other_told) = PresenceWatch('a', engine), watcher(), watcher()
    engine.gate.clear()
    await watch.add(member, told)
    await watch.add(other, other_told)
    watch.take([EVE], ['ann'])
    engine.gate.set()
    for inbox in (told, other_told):
        assert tuple((await inbox.count(1))[0]) == ([EVE], [], [])
    watch.refresh()
    watch.refresh()
    assert tuple((await told.count(2))[1]) == ([ANN, BOB], [], [])
    assert engine.calls == ['watch', 'until_retry']
    watch.remove(other)
    watch.refresh()
    watch.remove(member)
    assert engine.calls == ['watch', 'until_retry', 'unwatch']
    for one in (member, other):
        await one.mailbox.leave(one)


@virtual
async def test_a_member_that_is_lost_is_told_of_no_changes():
    watch, (member, told) = PresenceWatch('a', Listing([ANN])), watcher()
    await watch.add(member, told)
    member.lose('gone')
    await asyncio.sleep(1)
    assert told.messages == []
    watch.remove(member)


# Errors


def test_errors_are_sentences():
    assert str(GroupsUnavailable()) == 'The groups are unavailable'
    assert str(PositionLost()) == 'The position is lost'
    assert str(MessagesLost('a', 'the queue is full')) == "Messages of the group 'a' were lost: the queue is full."


# Tasks


async def test_an_engine_with_much_to_send_gives_way_to_others(monkeypatch):
    monkeypatch.setattr(background, 'LONGEST_TURN', -1.0)
    turns = []

    async def others():
        while len(turns) < 50:
            turns.append(1)
            await asyncio.sleep(0)

    async with process(None) as groups:
        inbox = Inbox()
        async with groups.join('a', inbox):
            running = asyncio.ensure_future(others())
            sends = [groups.send('a', str(number)) for number in range(50)]
            await sends[-1]
            assert len(turns) == 50
            await inbox.count(50)
            await running


async def test_what_is_late_because_the_loop_was_blocked_is_waited_for():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(0.05, future.set_result, None)
    assert await background.all_done([future], 0.01)
    assert not await background.all_done([loop.create_future()], 0.01)


async def test_a_task_of_groups_has_nothing_of_the_context_of_who_was_first():
    variable = contextvars.ContextVar('variable', default='nothing')
    variable.set('mine')

    async def look():
        return variable.get()

    assert await background.start_task(look()) == 'nothing'


async def test_waiting_to_the_end_goes_on_when_it_is_cancelled_and_says_so_then():
    done = []

    async def work():
        await asyncio.sleep(0.01)
        done.append(1)

    waiting = asyncio.ensure_future(background.finished(background.start_task(work())))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == [1]
    await background.finished(background.start_task(asyncio.sleep(0)))
