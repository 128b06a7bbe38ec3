"""Members that are behind: what they have missed is read in pages, from one window that all of a group share."""

import asyncio
import contextlib

import pytest

from apistar_ws import PositionLost
from apistar_ws.groups.audience import SharedWindow
from apistar_ws.groups.engine import PAGE_SIZE
from apistar_ws.groups.payload import Incoming, Position
from tests.groups.members import PATIENCE, Inbox, process
from tests.groups.redis_server import until
from tests.groups.test_contract import blocked_client
from tests.groups.test_faults import LOST, Witness, opened, two_processes
from tests.needs import needs_redis

EPOCH = 'e' * 16


def message(offset, size=1):
    return Incoming(str(offset), Position(EPOCH, offset), size=size)


class TestSharedWindow:
    """Messages by offset, up to so many bytes."""

    def test_old_messages_make_room(self):
        """What comes live has no right to the place of what was read."""
        window = SharedWindow(3)
        window.add_page([message(1), message(2), message(3)])
        window.add(message(4))
        assert [offset for offset in range(6) if window.get(offset)] == [1, 2, 3]
        window.add_page([message(5)])
        assert [offset for offset in range(6) if window.get(offset)] == [2, 3, 5] and window.size == 3

    def test_first_messages_of_a_large_page_are_held(self):
        """The others are read again when it is their turn."""
        window = SharedWindow(3)
        window.add_page([message(offset) for offset in range(1, 10)])
        assert [offset for offset in range(12) if window.get(offset)] == [1, 2, 3]

    def test_message_is_held_once(self):
        window = SharedWindow(10)
        for _ in range(3):
            window.add_page([message(1)])
        window.add(message(1))
        assert window.size == 1
        window.clear()
        assert window.size == 0 and window.get(1) is None


async def filled(groups, count, size):
    """Send messages of so many bytes, and return the position of the first."""
    positions = await asyncio.gather(*[groups.send('a', b'x' * size) for _ in range(count)])
    return positions[0]


def held_bytes(groups):
    """Return the bytes that wait for members of a group, wherever that is."""
    audience = groups._hub._sequences['a'].audience
    return audience._window.size + sum(member.size for member in [*audience.live, *audience.behind])


async def test_resumed_members_that_do_not_read_share_a_bounded_window(engine):
    """Each holds a message, and all together one window; it was the whole history for each."""
    async with process(**engine, history=300, max_queue_size=2_000_000, presence=False) as groups:
        since = await filled(groups, 200, 50_000)
        clients = [await blocked_client() for _ in range(60)]
        async with contextlib.AsyncExitStack() as stack:
            for client in clients:
                await stack.enter_async_context(groups.join('a', client.ws, since=since))
            await filled(groups, 20, 50_000)
            assert len(groups._hub._sequences['a'].audience.behind) == 60
            assert held_bytes(groups) <= 2_000_000 + 60 * 50_000
            for client in clients:
                client.unblock.set()
            await until(lambda: {len(client.sent) for client in clients} == {20 + 199}, 'all that was missed')
            assert held_bytes(groups) == 0


async def test_a_resume_longer_than_a_queue_goes_on_while_more_comes(engine):
    """It would overflow, close, resume and overflow for ever."""
    async with process(**engine, history=2000, max_queue=3, presence=False) as groups:
        since = await groups.send('a', 'first')
        for number in range(500):
            await groups.send('a', str(number))
        inbox = Inbox()
        async with groups.join('a', inbox, since=since):
            for number in range(500, 600):
                await groups.send('a', str(number))
                await asyncio.sleep(0)
            await inbox.until(*[str(number) for number in range(600)])


async def test_a_window_that_has_passed_the_cursor_is_4410(engine):
    """Never 1013: with that the client would come back with a position that is lost."""
    async with process(**engine, history=10, max_queue=3, presence=False, max_message=100_000) as groups:
        since = await filled(groups, 10, 50_000)
        client = await blocked_client()
        async with groups.join('a', client.ws, since=since):
            await until(lambda: groups._hub._sequences['a'].audience.behind, 'it to be behind')
            await filled(groups, 200, 50_000)
            client.unblock.set()
            await until(lambda: client.ws.close_code, 'it to be closed')
            assert client.ws.close_code == 4410


async def test_who_is_passed_and_told_goes_on_behind_the_loss(engine):
    gate, got = asyncio.Event(), Witness()

    async def take(data):
        await gate.wait()
        await got(data[:5])

    async with process(**engine, history=10, max_queue=1000, presence=False) as groups:
        since = await filled(groups, 10, 50_000)
        async with groups.join('a', take, since=since, on_lost=got.on_lost):
            await filled(groups, 200, 50_000)
            gate.set()
            await until(lambda: LOST in got.messages, 'the loss to be told')
            await groups.send('a', b'after')
            await until(lambda: got.messages[-1:] == [b'after'], 'what follows')
        assert got.messages.count(LOST) == 1 and groups.stats()['told'] == 1


async def test_pages_are_bounded_in_bytes(engine):
    """A page has a message more than fits, so that each has one."""
    async with process(**engine, history=1000) as groups:
        await filled(groups, 100, 10_000)
        sizes, offset = [], 0
        while offset < 100:
            window = await groups._hub.engine.read('a', offset)
            sizes.append(sum(found.size for found in window.messages))
            offset += len(window.messages)
        assert max(sizes) < PAGE_SIZE + 10_100 and sum(sizes) == 1_000_000
        assert (window.first, window.top) == (1, 100)
        assert len(await groups.history('a')) == 100 and len(await groups.history('a', limit=7)) == 7
        since = str(Position(window.epoch, 90))
        assert [str(found.position) for found in await groups.history('a', since, 2)] == [
            str(Position(window.epoch, offset)) for offset in (91, 92)
        ]


async def test_history_that_is_dropped_while_it_is_read_is_read_again(engine):
    """The last ones are others by then; what follows a position is lost."""
    async with process(**engine, history=20) as groups:
        since = await filled(groups, 20, 10_000)
        read, asked = groups._hub.engine.read, []

        async def read_late(name, since):
            asked.append(since)
            if len(asked) % 3 == 0 and len(asked) < 12:
                await filled(groups, 20, 10_000)
            return await read(name, since)

        groups._hub.engine.read = read_late
        assert [len(found.data) for found in await groups.history('a', limit=15)] == [10_000] * 15
        asked.clear()
        with pytest.raises(PositionLost):
            await groups.history('a', since=since)


async def test_last_messages_that_are_dropped_during_the_join_are_others(engine):
    async with process(**engine, history=3, presence=False) as groups:
        for number in range(3):
            await groups.send('a', str(number))
        read, asked = groups._hub.engine.read, []

        async def read_late(name, since):
            if since is not None and len(asked) < 10:
                asked.append(since)
                for _ in range(3):
                    await groups.send('a', 'more')
            return await read(name, since)

        inbox = Inbox()
        async with groups.join('a', Inbox()):
            groups._hub.engine.read = read_late
            async with groups.join('a', inbox, last=3) as group:
                await groups.send('a', 'next')
                await until(lambda: inbox.messages[-1:] == ['next'], 'what follows')
                assert group.position is not None and groups.stats()['told'] == 0


@needs_redis
async def test_what_was_missed_counts_in_no_queue(redis):
    """A member that does not read holds a message; it held all that others were sent."""
    async with two_processes(redis.url, max_queue=10, presence=False) as (receiving, sending):
        client = await blocked_client()
        async with receiving.join('a', client.ws):
            await sending.send('a', b'first')
            await until(lambda: receiving.stats()['queued'] == 1, 'the first one')
            session = receiving._hub.engine._keeper.session
            session.subscriber.wire.connection._reader._transport.pause_reading()
            await filled(sending, 300, 10_000)
            session.fail(OSError('for the test'))
            await until(lambda: receiving.stats()['recovered'] == 300, 'the gap to be found')
            assert held_bytes(receiving) <= 20_000
            client.unblock.set()
            await until(lambda: len(client.sent) == 301, 'all that was missed')
        assert receiving.stats()['told'] == receiving.stats()['dropped'] == 0


@needs_redis
async def test_a_page_is_read_when_the_engine_is_back(redis):
    got, gate = Inbox(), asyncio.Event()

    async def take(data):
        await gate.wait()
        await got(len(data))

    async with two_processes(redis.url, presence=False) as (receiving, sending):
        since = await filled(sending, 50, 50_000)
        async with receiving.join('a', take, since=since):
            receiving._hub.engine._keeper.session.fail(OSError('for the test'))
            await until(lambda: receiving.stats()['engine'] != 'open', 'it to be away')
            gate.set()
            await got.until(*[50_000] * 49)
        assert receiving.stats()['told'] == 0


@needs_redis
@pytest.mark.parametrize('kind', ['record', 'stream'])
async def test_who_is_behind_is_told_of_a_lost_history(redis, kind):
    got, gate = Witness(), asyncio.Event()

    async def take(data):
        await gate.wait()
        await got(data[:5])

    async with two_processes(redis.url, prefix='p', presence=False) as (receiving, sending):
        since = await filled(sending, 50, 50_000)
        async with receiving.join('a', take, since=since, on_lost=got.on_lost):
            await until(lambda: receiving._hub._sequences['a'].audience.behind, 'it to be behind')
            redis.command('DEL', 'p:%s:a' % kind)
            gate.set()
            await until(lambda: LOST in got.messages, 'the loss to be told')
            await sending.send('a', b'after')
            await until(lambda: got.messages[-1:] == [b'after'], 'what follows')
        assert got.messages.count(LOST) == 1 and receiving.stats()['told'] == 1


@needs_redis
async def test_many_groups_that_return_leave_time_for_others(redis):
    """They read some at a time, and not all in one turn."""
    async with two_processes(redis.url, presence=False) as (receiving, sending):
        async with contextlib.AsyncExitStack() as stack:
            inboxes = [Inbox() for _ in range(1000)]
            for number, inbox in enumerate(inboxes):
                await stack.enter_async_context(receiving.join('room:%d' % number, inbox))
            engine, most, reading = receiving._hub.engine, [0], []
            place = engine.place

            async def count(name):
                reading.append(name)
                most[0] = max(most[0], len(reading))
                try:
                    return await place(name)
                finally:
                    reading.remove(name)

            engine.place = count
            engine._keeper.session.fail(OSError('for the test'))
            await until(lambda: receiving.stats()['engine'] != 'open', 'it to be away')
            await opened(receiving)
            await asyncio.gather(*[sending.send('room:%d' % number, 'x') for number in range(1000)])
            for inbox in inboxes:
                await inbox.count(1, PATIENCE)
            assert 0 < most[0] <= 16


async def test_a_page_that_cannot_be_read_is_a_loss(engine, caplog):
    """Whatever the engine raises: nobody waits for ever for what was missed."""
    got, gate = Witness(), asyncio.Event()

    async def take(data):
        await gate.wait()
        await got(data[:5])

    async def fail(name, since):
        raise LookupError('for the test')

    async with process(**engine, history=100, presence=False) as groups:
        since = await filled(groups, 50, 50_000)
        async with groups.join('a', take, since=since, on_lost=got.on_lost):
            groups._hub.engine.read = fail
            gate.set()
            await until(lambda: LOST in got.messages, 'the loss to be told')
    assert "The group 'a' cannot be read" in caplog.text


async def test_a_join_that_is_refused_leaves_no_member(engine):
    """Also where members are not listed."""
    async with process(**engine, history=10, presence=False) as groups:
        await groups.send('a', '1')
        with pytest.raises(PositionLost):
            async with groups.join('a', Inbox(), since=EPOCH + '-1'):
                """It is not entered."""
        assert groups.stats()['members'] == groups.stats()['groups'] == 0


async def test_a_page_for_nobody_is_not_held(engine):
    """Who has asked for it may have left."""
    async with process(**engine, history=10, presence=False) as groups:
        await filled(groups, 5, 10)
        async with groups.join('a', Inbox()):
            audience = groups._hub._sequences['a'].audience
            assert len(await audience.load(audience.epoch, 0)) == 5
            assert audience._window.size == 0


@needs_redis
async def test_who_watches_may_leave_while_the_engine_is_away(redis):
    async with process(redis.url) as groups, contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(groups.join('a', Inbox(), on_change=Inbox()))
        redis.kill()
        await until(lambda: groups.stats()['engine'] == 'away', 'it to be noticed')
        await stack.aclose()
        assert groups._hub.engine.presence.watched == {}
        redis.start()
