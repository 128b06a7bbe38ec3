"""The watch, look by look: its timer is not waited for but called."""

import asyncio
import contextlib

import pytest

from apistar_ws import Settings, WebSocketDisconnect, WebSocketState
from apistar_ws.watch import INTERVAL, Watch
from tests.conversations import CONNECT, BlockedPeer, Peer, channel, closed, disconnect, opened, sent, text


@pytest.fixture
async def watch(monkeypatch):
    """A watch that looks when it is told to, never by its timer."""
    monkeypatch.setattr('apistar_ws.watch.INTERVAL', 3600)
    watch = Watch(asyncio.get_running_loop())
    watch.now = 0.0
    yield watch
    if watch._timer is not None:
        watch._timer.cancel()


async def look(watch, times=1, seconds=INTERVAL):
    """Have the watch look, with ``seconds`` between the looks, and let the tasks of the loop go on after each."""
    for _ in range(times):
        watch.now += seconds
        watch.look(watch.now)
        for _ in range(5):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def handling(watch, peer, handler, settings=None):
    """Run ``handler`` as the application does, watched; give the channel and the handler's task."""
    ws = await opened(peer, settings)
    ws.go_on = asyncio.Event()

    async def run():
        watch.add(ws)
        try:
            await handler(ws)
        finally:
            watch.remove(ws)

    task = asyncio.ensure_future(run())
    await asyncio.sleep(0)
    yield ws, task
    task.cancel()
    await asyncio.wait([task])
    await ws.finish()


async def sleep(ws):
    await asyncio.sleep(3600)


async def listen(ws):
    async for message in ws:
        ws.heard = message


def test_a_client_that_left_is_noticed_within_a_second():
    # A look that sees the handler move, one that sees it busy and receives, and one to spare.
    assert 3 * INTERVAL < 1.0


async def test_a_handler_that_receives_is_left_alone(watch):
    peer = Peer()
    async with handling(watch, peer, listen) as (ws, task):
        await look(watch, 5)
        assert ws._ahead is None
        peer.add(text('a'))
        await look(watch)
        assert (ws.heard, task.done()) == ('a', False)


async def test_a_handler_that_sleeps_is_cancelled_when_its_client_leaves(watch):
    peer = Peer()
    async with handling(watch, peer, sleep) as (ws, task):
        await look(watch, 3)
        assert not task.done()
        peer.add(disconnect(4000, 'bye'))
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        assert (ws.state, ws.close_code, ws.close_reason) == (WebSocketState.DISCONNECTED, 4000, 'bye')


async def test_a_handler_that_has_just_received_gets_another_turn(watch):
    async def receive_and_sleep(ws):
        await ws.receive()
        await sleep(ws)

    peer = Peer()
    async with handling(watch, peer, receive_and_sleep) as (ws, task):
        await look(watch)
        peer.add(text('a'))
        await look(watch, 2)
        assert ws._ahead is None
        await look(watch)
        assert ws._ahead is not None


async def test_a_handler_may_opt_out_of_being_cancelled(watch):
    async def sleep_and_receive(ws):
        await ws.go_on.wait()
        ws.received = [message async for message in ws]

    peer = Peer()
    async with handling(watch, peer, sleep_and_receive, Settings(cancel_on_disconnect=False)) as (ws, task):
        peer.add(text('a'), text('b'), disconnect())
        await look(watch, 6)
        assert (ws.disconnected, task.done()) == (True, False)
        ws.go_on.set()
        await asyncio.wait([task], timeout=5)
        assert ws.received == ['a', 'b']


async def test_what_was_received_ahead_reaches_the_handler_in_order(watch):
    async def sleep_and_receive(ws):
        await ws.go_on.wait()
        ws.received = [await ws.receive() for _ in range(4)]

    peer = Peer()
    async with handling(watch, peer, sleep_and_receive) as (ws, task):
        peer.add(text('a'), text('b'))
        await look(watch, 3)
        assert ws._ahead.unread == 2
        ws.go_on.set()
        peer.add(text('c'))
        await look(watch)
        peer.add(text('d'))
        await asyncio.wait([task], timeout=5)
        assert ws.received == ['a', 'b', 'c', 'd']
        assert ws._ahead is None


async def test_a_handler_whose_other_task_was_told_is_given_a_turn_and_then_cancelled(watch):
    async def gather(ws):
        await asyncio.gather(listen(ws), sleep(ws))

    peer = Peer()
    async with handling(watch, peer, gather) as (ws, task):
        await look(watch)
        peer.add(disconnect())
        await asyncio.sleep(0)
        await look(watch)
        assert (ws.disconnected, task.done()) == (True, False)
        await look(watch)
        assert task.cancelled()


async def test_a_handler_that_was_told_may_take_its_time_to_clean_up(watch):
    async def listen_and_clean_up(ws):
        await listen(ws)
        await sleep(ws)

    peer = Peer()
    async with handling(watch, peer, listen_and_clean_up) as (ws, task):
        peer.add(disconnect())
        await look(watch, 5)
        assert (ws.disconnected, task.done()) == (True, False)


async def test_a_handler_that_was_told_by_a_send_is_left_alone_when_the_disconnect_is_found(watch):
    async def send_and_clean_up(ws):
        await ws.go_on.wait()
        with contextlib.suppress(WebSocketDisconnect):
            await ws.send('a')
        await sleep(ws)

    async def send(message):
        raise OSError('gone')

    peer = Peer()
    async with handling(watch, peer, send_and_clean_up) as (ws, task):
        await look(watch, 3)
        ws._push = send
        ws.go_on.set()
        await look(watch)
        peer.add(disconnect())
        await look(watch, 5)
        assert (ws.disconnected, task.done()) == (True, False)


@pytest.mark.parametrize('waiting', [lambda call: call, lambda call: asyncio.wait_for(call, 3600)])
async def test_after_a_pause_too_a_handler_that_receives_is_told_and_not_cancelled(watch, waiting):
    async def pause_and_receive(ws):
        await ws.go_on.wait()
        try:
            await waiting(ws.receive())
        except WebSocketDisconnect as exc:
            ws.code = exc.code
            await sleep(ws)

    peer = Peer()
    async with handling(watch, peer, pause_and_receive) as (ws, task):
        await look(watch, 3)
        ws.go_on.set()
        await look(watch)
        peer.add(disconnect(4000))
        await look(watch, 5)
        assert (ws.code, task.done()) == (4000, False)


async def test_after_a_pause_too_a_handler_goes_on_when_its_reading_task_was_told(watch):
    async def pause_and_read(ws):
        await ws.go_on.wait()
        await asyncio.ensure_future(listen(ws))
        ws.cleaned_up = True

    peer = Peer()
    async with handling(watch, peer, pause_and_read) as (ws, task):
        await look(watch, 3)
        ws.go_on.set()
        await look(watch)
        peer.add(disconnect())
        await asyncio.wait([task], timeout=5)
        assert ws.cleaned_up


async def test_when_the_server_goes_down_a_clean_up_has_a_second(watch):
    async def listen_and_clean_up(ws):
        await listen(ws)
        await sleep(ws)

    peer = Peer()
    async with handling(watch, peer, listen_and_clean_up) as (ws, task):
        peer.add(disconnect(1012))
        await look(watch, 4)
        assert not task.done()
        await look(watch, 2)
        assert task.cancelled()


async def test_another_task_that_closes_ends_an_iteration_after_a_pause_too(watch):
    async def pause_and_listen(ws):
        await ws.go_on.wait()
        reader = asyncio.ensure_future(listen(ws))
        await asyncio.sleep(0)
        await ws.close()
        await reader

    peer = Peer()
    async with handling(watch, peer, pause_and_listen) as (ws, task):
        await look(watch, 3)
        ws.go_on.set()
        await look(watch)
        peer.add(disconnect(1000))
        await asyncio.wait([task], timeout=5)
        assert task.exception() is None


async def test_the_wait_for_the_accept_is_no_silence(watch):
    peer = Peer(CONNECT)
    ws = channel(peer, Settings(idle_timeout=60))
    await ws.handshake()
    watch.add(ws)
    await look(watch, 10, seconds=19)
    peer.add(text('a'))
    await ws.connect()
    assert await ws.receive() == 'a'
    watch.remove(ws)
    await ws.finish()


async def test_a_second_sender_is_released_though_the_first_has_given_up(watch):
    peer = BlockedPeer()
    async with handling(watch, peer, listen, Settings(send_timeout=5)) as (ws, task):
        first, second = [asyncio.ensure_future(ws.send('a')) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        await look(watch, 8, seconds=1)
        await asyncio.wait([second], timeout=5)
        assert isinstance(second.exception(), WebSocketDisconnect)
        peer.unblock.set()


async def test_messages_received_ahead_count_by_their_arrival(watch, monkeypatch):
    async def pause_and_receive(ws):
        await ws.go_on.wait()
        ws.received = [await ws.receive() for _ in range(5)]

    clock = iter(range(10, 1000, 10))
    peer = Peer()
    async with handling(watch, peer, pause_and_receive, Settings(max_messages_per_second=1)) as (ws, task):
        await look(watch, 3)
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patched:
            patched.setattr(loop, 'time', lambda: next(clock))
            peer.add(*[text('a')] * 5)
            await look(watch)
        ws.go_on.set()
        await asyncio.wait([task], timeout=5)
        assert (ws.received, peer.sent) == (['a'] * 5, [])


async def test_after_a_limit_nothing_received_ahead_is_delivered(watch):
    async def pause_and_receive(ws):
        await ws.go_on.wait()
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect):
                await ws.receive()

    peer = Peer(text('x' * 100), text('ok'))
    async with handling(watch, peer, pause_and_receive, Settings(max_message_size=10)) as (ws, task):
        await look(watch, 3)
        ws.go_on.set()
        await asyncio.wait([task], timeout=5)
        assert task.exception() is None
        assert peer.sent == [closed(1009, 'Message larger than 10 bytes')]


async def test_a_close_that_was_given_up_is_delivered_all_the_same(watch):
    async def give_up_close(ws):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.close(4000), 0.001)

    peer = BlockedPeer()
    async with handling(watch, peer, give_up_close) as (ws, task):
        await asyncio.wait([task], timeout=5)
        assert task.exception() is None
        peer.unblock.set()
    assert peer.sent == [closed(4000)]


async def test_a_handler_that_closed_may_take_its_time_to_clean_up(watch):
    async def close_and_sleep(ws):
        await ws.close()
        await sleep(ws)

    peer = Peer()
    async with handling(watch, peer, close_and_sleep) as (ws, task):
        peer.add(disconnect())
        await look(watch, 5)
        assert not task.done()


async def test_a_close_while_the_watch_receives_is_no_disconnect(watch):
    async def sleep_and_close(ws):
        await ws.go_on.wait()
        await ws.close()
        await sleep(ws)

    peer = Peer()
    async with handling(watch, peer, sleep_and_close) as (ws, task):
        await look(watch, 3)
        ws.go_on.set()
        await asyncio.sleep(0)
        peer.add(disconnect(1000))
        await look(watch, 3)
        assert (ws.state, task.done()) == (WebSocketState.CLOSED, False)


async def test_a_client_that_is_silent_for_too_long_is_closed_with_1001(watch):
    peer = Peer()
    async with handling(watch, peer, listen, Settings(idle_timeout=60)) as (ws, task):
        await look(watch, 3, seconds=19)
        assert not task.done()
        peer.add(text('a'))
        await look(watch, 4, seconds=19)
        assert not task.done()
        await look(watch, 2, seconds=19)
        await asyncio.wait([task], timeout=5)
        assert task.exception() is None
        assert peer.sent == [closed(1001, 'Nothing received for 60 seconds')]
        assert (ws.close_code, ws.disconnected) == (1001, True)


async def test_a_handler_that_sleeps_is_ended_when_its_client_is_silent(watch):
    peer = Peer()
    async with handling(watch, peer, sleep, Settings(idle_timeout=60)) as (ws, task):
        await look(watch, 5, seconds=19)
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        assert peer.sent == [closed(1001, 'Nothing received for 60 seconds')]


async def test_a_client_that_is_held_back_is_not_silent(watch):
    peer = Peer(*[text('x' * 1000)] * 100)
    async with handling(watch, peer, sleep, Settings(idle_timeout=60)) as (ws, task):
        for _ in range(20):
            await look(watch, 1, seconds=19)
            await asyncio.sleep(0)
        assert ws._ahead.full
        assert not task.done()


async def test_a_client_that_does_not_read_ends_its_handler_and_gets_1008_when_it_reads(watch):
    async def send(ws):
        await ws.send('a')

    peer = BlockedPeer()
    async with handling(watch, peer, send, Settings(send_timeout=5)) as (ws, task):
        await look(watch, 5, seconds=1)
        assert not task.done()
        await look(watch, 2, seconds=1)
        await asyncio.wait([task], timeout=5)
        assert isinstance(task.exception(), WebSocketDisconnect)
        peer.unblock.set()
        await ws.finish()
        assert peer.sent == [closed(1008, 'A message was not taken for 5 seconds')]


async def test_sends_that_go_through_are_no_stall_however_many_wait(watch):
    async def send(ws):
        while True:
            await ws.send('a')

    peer = BlockedPeer()
    async with handling(watch, peer, send, Settings(send_timeout=5)) as (ws, task):
        for _ in range(10):
            await look(watch, 1, seconds=4)
            peer.unblock.set()
            await asyncio.sleep(0)
            peer.unblock.clear()
        assert not task.done()
        assert peer.sent == [sent('a')] * len(peer.sent)


async def test_others_who_send_to_a_client_that_does_not_read_are_released(watch):
    peer = BlockedPeer()
    async with handling(watch, peer, listen, Settings(send_timeout=5)) as (ws, task):
        others = [asyncio.ensure_future(ws.send('a')) for _ in range(2)]
        await look(watch, 8, seconds=1)
        outcomes = await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 5)
        assert [type(outcome) for outcome in outcomes] == [WebSocketDisconnect] * 2
        await asyncio.wait([task], timeout=5)
        assert task.exception() is None
        peer.unblock.set()


async def test_the_close_of_a_handler_that_takes_its_time_to_end_stays_out_of_sight(watch):
    async def send_and_clean_up(ws):
        try:
            await ws.send('a')
        except WebSocketDisconnect:
            await ws.go_on.wait()

    peer = BlockedPeer()
    async with handling(watch, peer, send_and_clean_up, Settings(send_timeout=5)) as (ws, task):
        await look(watch, 30, seconds=1)
        ws.go_on.set()
        await asyncio.wait([task], timeout=5)
        peer.unblock.set()
    assert peer.sent == [closed(1008, 'A message was not taken for 5 seconds')]


async def test_a_server_that_cannot_send_the_code_of_a_limit_is_given_a_private_one(watch):
    peer = Peer()
    async with handling(watch, peer, listen, Settings(idle_timeout=60)) as (ws, task):
        send = peer.send

        async def send_no_code_of_the_protocol(message):
            if message['code'] < 3000:
                raise RuntimeError('invalid close code')
            await send(message)

        ws.server_send = send_no_code_of_the_protocol
        await look(watch, 5, seconds=19)
        await asyncio.wait([task], timeout=5)
    assert peer.sent == [closed(4001, 'Nothing received for 60 seconds')]


async def test_a_client_that_never_takes_the_close_is_given_up(watch, monkeypatch):
    monkeypatch.setattr('apistar_ws.websocket.CLOSE_PATIENCE', 0.01)
    peer = BlockedPeer()
    async with handling(watch, peer, lambda ws: ws.send('a'), Settings(send_timeout=5)) as (ws, task):
        await look(watch, 8, seconds=1)
        await asyncio.wait([task], timeout=5)
    assert peer.sent == []


async def test_a_close_that_the_client_does_not_take_lets_the_handler_go_on(watch):
    peer = BlockedPeer()
    async with handling(watch, peer, lambda ws: ws.close(), Settings(send_timeout=5)) as (ws, task):
        await look(watch, 8, seconds=1)
        await asyncio.wait([task], timeout=5)
        assert task.exception() is None


async def test_the_timer_runs_only_while_there_are_connections(watch, monkeypatch):
    monkeypatch.setattr('apistar_ws.watch.INTERVAL', 0.001)
    assert watch._timer is None
    async with handling(watch, Peer(), listen) as (ws, task):
        first = watch._timer
        while watch.connections[ws] is None or watch._timer is first:
            await asyncio.sleep(0.001)
    while watch._timer is not None:
        await asyncio.sleep(0.001)
    assert watch.connections == {}
