import asyncio

import pytest

from apistar_ws.connection.pace import LATENESS, TOO_FAST, Pace
from tests.clock import virtual
from tests.conversations import Peer, disconnect, text


class Reader:
    """Reads, and tells for each message whether it came too fast."""

    def __init__(self, limit):
        self.peer = Peer()
        self.pace = Pace(self.peer.receive, limit)
        self.marks = []

    async def read(self, count):
        for _ in range(count):
            self.marks.append(TOO_FAST in await self.pace.receive())

    async def listen(self):
        while True:
            await self.read(1)


async def send(peer, count, every):
    for _ in range(count):
        peer.add(text('a'))
        await asyncio.sleep(every)


@pytest.mark.parametrize('limit, rate', [(5, 5), (100, 80), (1, 1), (100, 100)])
@virtual
async def test_a_client_within_the_limit_passes(limit, rate):
    reader = Reader(limit)
    reading = asyncio.ensure_future(reader.listen())
    await asyncio.sleep(1)
    await send(reader.peer, 10 * rate, 1 / rate + 1e-9)
    reading.cancel()
    assert reader.marks == [False] * 10 * rate


@pytest.mark.parametrize('limit, rate', [(5, 5), (100, 80)])
@pytest.mark.parametrize('pause', [0.3, 3.0, 30.0])
@virtual
async def test_pause_in_reading_is_no_excess(limit, rate, pause):
    """A client within the limit passes although the handler stops reading for a while."""
    reader = Reader(limit)
    sending = asyncio.ensure_future(send(reader.peer, int(40 * rate), 1 / rate + 1e-9))
    await reader.read(rate)
    await asyncio.sleep(pause)
    await reader.read(int(pause * rate) + 3 * rate)
    sending.cancel()
    assert not any(reader.marks)


async def arrive(peer, count, every):
    """Have so many messages arrive one after the other, each when the one before was read."""
    for _ in range(count):
        peer.add(text('a'))
        await asyncio.sleep(every)


@pytest.mark.parametrize('seconds', [2, 20])
@virtual
async def test_messages_held_back_pass(seconds):
    """A client that was held back sends late, and all at once, what it made within the limit."""
    reader = Reader(10)
    sending = asyncio.ensure_future(send(reader.peer, 20, 0.1 + 1e-9))
    await reader.read(20)
    await asyncio.sleep(seconds)
    reading = asyncio.ensure_future(reader.listen())
    await arrive(reader.peer, 10 * seconds, 0.001)
    reading.cancel()
    sending.cancel()
    assert not any(reader.marks)


@virtual
async def test_credit_is_bounded():
    """A slow handler does not save up a burst for a client that sends slower than the limit."""
    reader = Reader(5)
    sending = asyncio.ensure_future(send(reader.peer, 1200, 0.5))
    for _ in range(1200):
        await reader.read(1)
        await asyncio.sleep(0.2)
    await sending
    assert not any(reader.marks)
    reader.peer.add(*[text('a')] * 20)
    await reader.read(10)
    assert any(reader.marks)


@pytest.mark.parametrize('late', [0.0, 0.3, 2.0])
@virtual
async def test_late_first_receive_is_no_excess(late):
    """Bursts within the limit pass although the application begins to receive late."""
    reader = Reader(5)
    reader.peer.add(*[text('a')] * 5)
    await asyncio.sleep(late)
    reading = asyncio.ensure_future(reader.listen())
    await asyncio.sleep(max(1.2 - late, 0.1))
    for _ in range(3):
        reader.peer.add(*[text('a')] * 5)
        await asyncio.sleep(1.2)
    reading.cancel()
    assert not any(reader.marks)


@virtual
async def test_credit_ends_with_the_backlog():
    """Who was held back once may not send a burst later."""
    reader = Reader(10)
    sending = asyncio.ensure_future(send(reader.peer, 10, 0.1 + 1e-9))
    await reader.read(10)
    await asyncio.sleep(20)
    reading = asyncio.ensure_future(reader.listen())
    await asyncio.sleep(5)
    await arrive(reader.peer, 2, 2)
    await arrive(reader.peer, 20, 0.001)
    reading.cancel()
    sending.cancel()
    assert reader.marks.index(True) <= 23


@virtual
async def test_blocked_loop_is_no_excess():
    """A client within the limit passes although the event loop blocks now and then."""
    reader = Reader(100)
    reading = asyncio.ensure_future(reader.listen())
    await asyncio.sleep(1)
    for _ in range(20):
        asyncio.get_running_loop().block(LATENESS)
        reader.peer.add(*[text('a')] * int(80 * LATENESS))
        await send(reader.peer, 80, 1 / 80)
    reading.cancel()
    assert not any(reader.marks)


@pytest.mark.parametrize('quiet', [0, 10, 1000])
@virtual
async def test_burst_is_marked_after_silence(quiet):
    """A burst beyond the limit is marked however long the client was silent before."""
    reader = Reader(5)
    reading = asyncio.ensure_future(reader.listen())
    await asyncio.sleep(quiet)
    reader.peer.add(*[text('a')] * 6)
    await asyncio.sleep(0.01)
    reading.cancel()
    assert reader.marks == [False] * 5 + [True]


@virtual
async def test_abandoned_waits_save_nothing():
    """Cancelled waits do not increase the number of messages that may follow."""
    reader = Reader(5)
    for _ in range(100):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.pace.receive(), 0.1)
    reader.peer.add(*[text('a')] * 6)
    await reader.read(6)
    assert reader.marks == [False] * 5 + [True]


@virtual
async def test_slightly_fast_client_is_marked():
    """A client slightly above the limit is marked in the long run."""
    reader = Reader(10)
    reading = asyncio.ensure_future(reader.listen())
    await send(reader.peer, 200, 1 / 11)
    reading.cancel()
    assert True in reader.marks
    # The benefit of the doubt, of which there is half a second, is used up first.
    assert reader.marks.index(True) > 10 * LATENESS


@virtual
async def test_server_exception_is_raised():
    """An exception of the server's receive is raised."""
    reader = Reader(1)
    reader.peer.add(OSError('gone'))
    with pytest.raises(OSError):
        await reader.pace.receive()


@virtual
async def test_other_events_do_not_count():
    """Events that are not messages do not count towards the limit."""
    reader = Reader(1)
    reader.peer.add(text('a'), disconnect())
    assert await reader.pace.receive() == text('a')
    assert await reader.pace.receive() == disconnect()
