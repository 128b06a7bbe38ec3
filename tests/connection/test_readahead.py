import asyncio

import pytest

from apistar_ws.connection.readahead import HIGH_WATER, ReadAhead
from tests.conversations import Peer, binary, disconnect, text
from tests.needs import needs_python

#: Emptied by each message that comes.
noted = ['nothing has come']


def keep(message):
    noted.clear()
    return True


def started(*arguments):
    ahead = ReadAhead(*arguments)
    ahead.resume()
    return ahead


async def turns(count=5):
    """Let the tasks of the event loop go on until nothing more happens."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_messages_keep_their_order():
    """Messages received ahead are kept in order for the handler."""
    peer = Peer(text('a'), binary(b'b'))
    ahead = started(peer.receive, keep, pytest.fail)
    await turns()
    assert (ahead.unread, ahead.is_drained, noted) == (2, False, [])
    assert [await ahead.take(), await ahead.take()] == [text('a'), binary(b'b')]
    ahead.stop()


async def test_waiting_handler_receives_directly_afterwards():
    """A waiting handler gets the next message and receives from the server from then on."""
    peer = Peer()
    ahead = started(peer.receive, keep, pytest.fail)
    taking = asyncio.ensure_future(ahead.take())
    await turns()
    peer.add(text('a'), text('b'))
    assert await taking == text('a')
    await turns()
    assert (ahead.is_drained, await ahead.take()) == (True, None)
    assert await peer.receive() == text('b')


async def test_abandoned_wait_loses_no_message():
    """A handler that stops waiting loses no message."""
    peer = Peer()
    ahead = started(peer.receive, keep, pytest.fail)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(ahead.take(), 0.001)
    peer.add(text('a'))
    assert await ahead.take() == text('a')
    ahead.stop()


async def test_client_is_held_back_when_full():
    """Reading stops once enough is kept, and goes on only when there is room again."""
    peer = Peer(*[text('x' * 1000)] * 100)
    ahead = started(peer.receive, keep, pytest.fail)
    await turns(200)
    kept = ahead.unread
    assert ahead.is_full
    assert kept < HIGH_WATER / 1000 + 1
    ahead.resume()
    await turns(200)
    assert ahead.unread == kept
    await ahead.take()
    await turns(200)
    assert ahead.unread == kept


async def test_size_is_counted_in_utf8():
    """Kept messages are counted in bytes of UTF-8."""
    peer = Peer(*[text('\N{SNOWMAN}' * 1000)] * 100)
    ahead = started(peer.receive, keep, pytest.fail)
    await turns(200)
    assert HIGH_WATER / 3000 - 1 < ahead.unread < HIGH_WATER / 3000 + 1
    ahead.stop()


@needs_python(3, 12)
async def test_eager_tasks_keep_reading():  # pragma: no cover
    """Reading ahead goes on where tasks start eagerly."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    peer = Peer(*[text('x' * 1000)] * 1500, text('end'))
    ahead = started(peer.receive, keep, pytest.fail)
    taken = [await ahead.take() for _ in range(1500)]
    assert taken == [text('x' * 1000)] * 1500
    last = await ahead.take()
    assert (last or await peer.receive()) == text('end')
    ahead.stop()


async def test_empty_messages_count_too():
    peer = Peer(*[text('')] * 2000)
    ahead = started(peer.receive, keep, pytest.fail)
    await turns(3000)
    assert ahead.is_full


async def test_disconnect_is_reported_at_once():
    """A disconnect is reported at once and not kept with the messages."""
    told = []
    ahead = started(Peer(text('a'), disconnect(4000, 'bye')).receive, keep, told.append)
    await turns()
    assert told == [disconnect(4000, 'bye')]
    assert [await ahead.take(), await ahead.take()] == [text('a'), None]


async def test_server_exception_is_a_disconnect():
    """An exception of the server's receive is reported as a disconnect with 1006."""
    told = []
    started(Peer(RuntimeError('gone')).receive, keep, told.append)
    await turns()
    assert told == [{'type': 'websocket.disconnect', 'code': 1006}]


async def test_stop_receives_no_more():
    peer = Peer()
    ahead = started(peer.receive, keep, pytest.fail)
    await turns()
    ahead.stop()
    await turns()
    peer.add(text('a'))
    await turns()
    assert ahead.unread == 0
    ahead.stop()


async def test_dropped_messages_use_no_room():
    """Messages that are dropped use no room."""
    peer, seen = Peer(*[text('x' * 1000)] * 100), []
    ahead = started(peer.receive, lambda message: seen.append(message) is not None, seen.append)
    await turns(200)
    assert (len(seen), ahead.unread, ahead.is_full, ahead.is_filling) == (100, 0, False, True)
    peer.add(disconnect())
    await turns()
    assert seen[-1] == disconnect()
