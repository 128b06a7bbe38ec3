"""The watch, on virtual time: connections as the application serves them, and what becomes of them when."""

import asyncio
import contextlib
import logging
import signal
import sys

import pytest
from apistar import exceptions

from apistar_ws import ASyncApp, WebSocket, WebSocketDisconnect, collect_routes, websocket_route, websocket_stream
from apistar_ws.connection.watch import CHECK_INTERVAL, CHECKS_PER_ITERATION, SHUTDOWN_GRACE
from apistar_ws.connection.websocket import connection_of
from apistar_ws.serving.conclusion import CLOSE_TIMEOUT
from tests.clock import virtual
from tests.conversations import (
    ACCEPT,
    CLOSE,
    CONNECT,
    SHUTDOWN,
    BlockedPeer,
    Peer,
    binary,
    closed,
    disconnect,
    scope,
    sent,
    text,
)
from tests.needs import needs_python

#: Seconds within which a handler is ended whose client has left.
PROMISED = 1.0


def now():
    return asyncio.get_running_loop().time()


class Served:
    """One connection, served by the application as a server would."""

    def __init__(self, handler, peer=None, app=None, **settings):
        self.peer = peer or Peer()
        self.peer.add(CONNECT)
        self.seen = []
        self.ended_at = None

        @websocket_route('/', name='served', **settings)
        async def served(ws: WebSocket):
            self.ws = ws
            try:
                await handler(ws, self.seen)
            except BaseException as exc:
                self.seen.append(type(exc))
                raise
            finally:
                self.ended_at = now()

        self.app = app or ASyncApp(collect_routes(served), docs_url=None)
        self.task = asyncio.ensure_future(self._serve())

    async def _serve(self):
        await self.app(scope('/'), self.peer.receive, self.peer.send)

    @property
    def watch(self):
        return self.app.websocket_lifecycle.watches.current()

    async def ended(self, within=PROMISED):
        """Wait for the handler's end, which is due in so many seconds."""
        begun = now()
        while self.ended_at is None and now() - begun <= within:
            await asyncio.sleep(0.01)
        assert self.ended_at is not None, 'the handler goes on'
        await asyncio.wait_for(self.task, within)


def crowd_of(count, handler, **settings):
    """Return so many connections of one application."""
    first = Served(handler, **settings)
    return [first, *[Served(handler, app=first.app) for _ in range(count - 1)]]


async def sleep(ws, seen):
    await asyncio.sleep(10_000)


async def listen(ws, seen):
    async for message in ws:
        seen.append(message)


def test_disconnect_is_noticed_within_a_second():
    """The check interval is short enough to notice a disconnect within a second."""
    # A look that sees the handler busy for the first time, one that receives for it, and one to spare.
    assert 3 * CHECK_INTERVAL < PROMISED


class TestDisconnect:
    @virtual
    async def test_receiving_handler_notices_at_once(self):
        """A handler that is receiving gets the disconnect at once."""
        served = Served(listen)
        await asyncio.sleep(100)
        served.peer.add(text('a'), disconnect(4000, 'bye'))
        await served.ended(within=0.05)
        assert (served.seen, served.ws.close_code, served.ws.close_reason) == (['a'], 4000, 'bye')

    @virtual
    async def test_a_handler_that_sleeps_is_cancelled(self):
        served = Served(sleep)
        await asyncio.sleep(100)
        served.peer.add(disconnect(4000, 'bye'))
        await served.ended()
        assert served.seen == [asyncio.CancelledError]
        assert (served.ws.disconnected, served.ws.close_code, served.ws.close_reason) == (True, 4000, 'bye')

    @virtual
    async def test_sleep_after_receive_is_cancelled(self):
        """A handler that has just received a message and then sleeps is cancelled."""

        async def receive_and_sleep(ws, seen):
            while True:
                seen.append(await ws.receive())
                await asyncio.sleep(1_000)

        for rest in (0.0, 0.1, 0.3, 100.0):
            served = Served(receive_and_sleep)
            await asyncio.sleep(rest)
            served.peer.add(text('a'), disconnect())
            await served.ended()
            assert served.seen == ['a', asyncio.CancelledError]

    @virtual
    async def test_occasional_sender_is_cancelled(self):
        """A handler that sends now and then is cancelled."""

        async def tick(ws, seen):
            while True:
                await ws.send('tick')
                await asyncio.sleep(5)

        served = Served(tick)
        await asyncio.sleep(12)
        served.peer.add(disconnect())
        await served.ended()
        assert served.seen == [asyncio.CancelledError]
        assert served.peer.sent == [ACCEPT] + [sent('tick')] * 3

    @virtual
    async def test_constant_sends_hide_no_disconnect(self):
        """A disconnect and time limits are noticed while the handler sends without a pause."""

        async def tick(ws, seen):
            while True:
                await ws.send('tick')
                await asyncio.sleep(0.1)

        served = Served(tick)
        await asyncio.sleep(10)
        served.peer.add(text('a'), disconnect())
        await served.ended()
        assert served.seen == [asyncio.CancelledError]
        served = Served(tick, idle_timeout=2)
        await served.ended(within=3)
        assert served.peer.sent[-1] == closed(1001, 'Nothing received for 2 seconds')
        served = Served(tick, backlog_timeout=2)
        served.peer.add(*[text('x' * 1000)] * 100)
        await served.ended(within=4)
        assert served.peer.sent[-1] == closed(1013, 'Messages were not taken for 2 seconds')

    @pytest.mark.parametrize('name', ['receive', 'send', 'publish', '__anext__'])
    @virtual
    async def test_gathered_receiver_does_not_count(self, name):
        """A disconnect raised in another task, whatever its name, does not count for the handler."""

        async def gather(ws, seen):
            async def receive():
                async for message in ws:
                    seen.append(message)

            receive.__name__ = name
            coro = receive()
            coro.__name__ = name
            await asyncio.gather(coro, asyncio.sleep(10_000))

        served = Served(gather)
        await asyncio.sleep(100)
        served.peer.add(text('a'), disconnect())
        await served.ended()
        assert served.seen == ['a', asyncio.CancelledError]

    @virtual
    async def test_pending_receive_elsewhere_does_not_count(self):
        """A pending receive of another task does not count for the handler."""

        async def pend(ws, seen):
            task = asyncio.ensure_future(ws.receive())
            try:
                await asyncio.sleep(10_000)
            finally:
                with contextlib.suppress(WebSocketDisconnect):
                    await task

        served = Served(pend)
        await asyncio.sleep(100)
        served.peer.add(disconnect())
        await served.ended()

    @virtual
    async def test_failed_send_elsewhere_does_not_count(self):
        """A failed send of another task does not count for the handler."""
        served = Served(sleep)
        await asyncio.sleep(100)

        async def fail(message):
            raise OSError('gone')

        connection_of(served.ws).server_send = fail
        outcome = await asyncio.gather(served.ws.send('a'), return_exceptions=True)
        assert [type(exc) for exc in outcome] == [WebSocketDisconnect]
        await served.ended()
        assert served.seen == [asyncio.CancelledError]

    @virtual
    async def test_handler_has_time_after_its_reader(self):
        """A handler whose reading task got the disconnect has a moment to return."""

        async def gather(ws, seen):
            reader = asyncio.ensure_future(listen(ws, seen))
            await asyncio.wait([reader])
            await asyncio.sleep(0.1)
            seen.append('cleaned up')

        served = Served(gather)
        await asyncio.sleep(100)
        served.peer.add(disconnect())
        await served.ended()
        assert served.seen == ['cleaned up']

    @virtual
    async def test_notified_handler_may_clean_up(self):
        """A handler that got the disconnect may clean up for as long as it needs."""

        async def listen_and_clean_up(ws, seen):
            await listen(ws, seen)
            await asyncio.sleep(60)
            seen.append('cleaned up')

        served = Served(listen_and_clean_up)
        await asyncio.sleep(1)
        served.peer.add(disconnect())
        await served.ended(within=61)
        assert served.seen == ['cleaned up']

    @needs_python(3, 12)
    @virtual
    async def test_receive_with_timeout_is_notified(self):  # pragma: no cover
        """A handler that receives with a time limit gets the disconnect itself."""

        async def wait(ws, seen):
            try:
                await asyncio.wait_for(ws.receive(), 1000)
            except WebSocketDisconnect:
                await asyncio.sleep(60)
                seen.append('cleaned up')

        served = Served(wait)
        await asyncio.sleep(100)
        served.peer.add(disconnect())
        await served.ended(within=61)
        assert served.seen == ['cleaned up']

    @virtual
    async def test_cancelled_handler_may_clean_up(self):
        """A handler that was cancelled may clean up for as long as it needs."""

        async def clean_up(ws, seen):
            try:
                await asyncio.sleep(10_000)
            finally:
                await asyncio.sleep(60)
                seen.append('cleaned up')

        served = Served(clean_up)
        await asyncio.sleep(5)
        served.peer.add(disconnect())
        await served.ended(within=62)
        assert served.seen == ['cleaned up', asyncio.CancelledError]

    @virtual
    async def test_handler_may_opt_out(self):
        """A handler may opt out of the cancellation and read the remaining messages."""

        async def sleep_and_receive(ws, seen):
            await asyncio.sleep(100)
            seen.append(ws.disconnected)
            await listen(ws, seen)

        served = Served(sleep_and_receive, cancel_on_disconnect=False)
        await asyncio.sleep(1)
        served.peer.add(text('a'), text('b'), disconnect())
        await served.ended(within=101)
        assert served.seen == [True, 'a', 'b']

    @needs_python(3, 12)
    @virtual
    async def test_opting_out_works_with_eager_tasks(self):  # pragma: no cover
        """A handler that opted out loses no message where tasks start eagerly."""

        async def sleep_and_receive(ws, seen):
            await asyncio.sleep(5)
            await listen(ws, seen)

        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        served = Served(sleep_and_receive, cancel_on_disconnect=False)
        served.peer.add(text('a'), text('b'), disconnect())
        await served.ended(within=6)
        assert served.seen == ['a', 'b']

    @virtual
    async def test_messages_ahead_keep_their_order(self):
        """Messages received ahead reach the handler in order."""

        async def sleep_and_receive(ws, seen):
            await asyncio.sleep(10)
            await listen(ws, seen)

        served = Served(sleep_and_receive)
        for message in 'abcd':
            await asyncio.sleep(4)
            served.peer.add(text(message))
        served.peer.add(disconnect())
        await served.ended()
        assert served.seen == ['a', 'b', 'c', 'd']

    @virtual
    async def test_abandoned_receive_does_not_count(self):
        """A receive that was cancelled does not count as receiving."""

        async def give_up_and_sleep(ws, seen):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ws.receive(), 50)
            await asyncio.sleep(10_000)

        for pause in (0, 20):
            served = Served(give_up_and_sleep)
            await asyncio.sleep(50.1 + pause)
            served.peer.add(disconnect())
            await served.ended()

    @virtual
    async def test_abandoned_receive_ahead_does_not_count(self):
        """A cancelled receive of messages kept ahead does not count as receiving."""

        async def give_up_twice(ws, seen):
            await asyncio.sleep(5)
            for _ in range(2):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(ws.receive(), 5)
            await asyncio.sleep(10_000)

        served = Served(give_up_twice)
        await asyncio.sleep(9.999)
        served.peer.add(text('a'))
        await asyncio.sleep(20)
        served.peer.add(disconnect())
        await served.ended()

    @virtual
    async def test_closing_handler_may_clean_up(self):
        """A handler that closed the connection may clean up for as long as it needs."""

        async def close_and_sleep(ws, seen):
            await asyncio.sleep(5)
            await ws.close()
            await asyncio.sleep(60)
            seen.append('cleaned up')

        served = Served(close_and_sleep)
        await asyncio.sleep(6)
        served.peer.add(disconnect(1000))
        await served.ended(within=62)
        assert served.seen == ['cleaned up']

    @virtual
    async def test_close_elsewhere_ends_an_iteration(self):
        """A close by another task ends an iteration over the messages."""

        async def pause_and_listen(ws, seen):
            await asyncio.sleep(5)
            reader = asyncio.ensure_future(listen(ws, seen))
            await asyncio.sleep(5)
            await ws.close()
            await reader

        served = Served(pause_and_listen)
        await asyncio.sleep(10.1)
        served.peer.add(disconnect(1000))
        await served.ended()
        assert (served.seen, served.peer.sent) == ([], [ACCEPT, CLOSE])

    @virtual
    async def test_a_swallowed_cancellation_leaves_nothing_behind(self):
        async def swallow(ws, seen):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10_000)
            if sys.version_info >= (3, 11):  # pragma: no branch
                seen.append(asyncio.current_task().cancelling())

        served = Served(swallow)
        await asyncio.sleep(5)
        served.peer.add(disconnect())
        await served.ended()
        assert served.seen in ([1], [])
        assert not served.task.cancelled()
        assert sys.version_info < (3, 11) or served.task.cancelling() == 0


class TestBacklog:
    @virtual
    async def test_long_backlog_ends_the_handler(self):
        """A client held back longer than the backlog timeout ends the handler with 1013."""
        served = Served(sleep, backlog_timeout=20)
        served.peer.add(*[text('x' * 1000)] * 100, disconnect())
        await asyncio.sleep(19)
        assert (served.ended_at, connection_of(served.ws).is_held_back) == (None, True)
        await served.ended(within=3)
        assert served.seen == [asyncio.CancelledError]
        assert served.peer.sent == [ACCEPT, closed(1013, 'Messages were not taken for 20 seconds')]

    @virtual
    async def test_occasional_receiver_continues(self):
        """A handler that receives now and then is not cancelled for its backlog."""

        async def take(ws, seen):
            while True:
                await asyncio.sleep(10)
                for _ in range(70):
                    seen.append(await ws.receive())

        served = Served(take, backlog_timeout=15)
        served.peer.add(*[text('x' * 1000)] * 700)
        await asyncio.sleep(95)
        assert (served.ended_at, len(served.seen)) == (None, 630)

    @virtual
    async def test_without_a_limit_the_client_waits(self):
        served = Served(sleep, backlog_timeout=None, idle_timeout=5)
        served.peer.add(*[text('x' * 1000)] * 100)
        await asyncio.sleep(1000)
        assert (served.ended_at, served.peer.sent) == (None, [ACCEPT])


class TestIdleTimeout:
    @virtual
    async def test_silent_client_is_closed(self):
        """A client that is silent for longer than the idle timeout is closed with 1001."""
        served = Served(listen, idle_timeout=60)
        await asyncio.sleep(59)
        served.peer.add(text('a'))
        await asyncio.sleep(59.9)
        assert served.ended_at is None
        await served.ended(within=0.7)
        assert served.seen == ['a', WebSocketDisconnect] or served.seen == ['a']
        assert served.peer.sent == [ACCEPT, closed(1001, 'Nothing received for 60 seconds')]
        assert (served.ws.close_code, served.ws.disconnected) == (1001, True)

    @pytest.mark.parametrize('handler', [listen, sleep])
    @pytest.mark.parametrize('phase', [0, 0.01, 0.1, 0.2, 0.24])
    @virtual
    async def test_close_is_barely_late(self, handler, phase):
        """Whenever the connection was opened, between two checks or just before one."""
        await asyncio.sleep(phase)
        served, opened = Served(handler, idle_timeout=5), now()
        await served.ended(within=5.5)
        assert served.ended_at - opened >= 5

    @virtual
    async def test_sleeping_handler_is_ended(self):
        """A handler that sleeps is cancelled when its client is silent."""
        served = Served(sleep, idle_timeout=60)
        await asyncio.sleep(59)
        assert served.ended_at is None
        await served.ended(within=2)
        assert served.peer.sent == [ACCEPT, closed(1001, 'Nothing received for 60 seconds')]

    @virtual
    async def test_sends_are_no_sign_of_life(self):
        """What the handler sends does not postpone the idle timeout."""

        async def tick(ws, seen):
            while True:
                await asyncio.sleep(7)
                await ws.send('tick')

        served = Served(tick, idle_timeout=30)
        await served.ended(within=31)
        assert served.ended_at < 30.6

    @virtual
    async def test_timely_messages_keep_the_connection(self):
        """Messages in time keep the connection open, received by the handler or ahead."""

        async def now_and_then(ws, seen):
            while True:
                seen.append(await ws.receive())
                await asyncio.sleep(1.7)

        served = Served(now_and_then, idle_timeout=2)
        for _ in range(40):
            await asyncio.sleep(1.2)
            served.peer.add(text('a'))
        assert served.ended_at is None
        last = now()
        await served.ended(within=3)
        assert 2.0 <= served.ended_at - last <= 2.5

    @virtual
    async def test_wait_before_accept_is_no_silence(self):
        """The time before the accept does not count for the idle timeout."""

        async def never(ws, seen):
            """Not get here before its time."""

        served = Served(never, idle_timeout=2, connect=False)

        async def slowly(ws):
            await asyncio.sleep(100)
            await ws.connect()
            await ws.receive()

        served.app.websocket_lifecycle.endpoints[0].handler = slowly
        await asyncio.sleep(101)
        served.peer.add(text('a'))
        await asyncio.wait_for(served.task, 5)
        assert served.peer.sent == [ACCEPT, CLOSE]

    @virtual
    async def test_message_during_the_check_counts(self):
        """A message that comes in the same loop iteration as the check counts."""
        served = Served(listen, idle_timeout=5)
        await asyncio.sleep(1)
        due, _ = served.watch._idle[connection_of(served.ws)]
        await asyncio.sleep(due * CHECK_INTERVAL - 0.1 - now())
        just_after = served.watch._timer.when() + 1e-10
        asyncio.get_running_loop().call_at(just_after, served.peer.add, text('a'))
        await asyncio.sleep(1)
        assert (served.seen, served.ended_at) == (['a'], None)

    @virtual
    async def test_message_during_blocked_loop_counts(self):
        """A message that waits while the event loop is blocked counts."""
        served = Served(listen, idle_timeout=5)
        await asyncio.sleep(4.5)
        served.peer.add(text('a'))
        asyncio.get_running_loop().block(3)
        await asyncio.sleep(2)
        assert (served.seen, served.ended_at) == (['a'], None)


@pytest.fixture
def server():
    class Server:
        should_exit = False

        def handle_exit(self, sig, frame):
            """Stand for uvicorn's."""

    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    yield server
    signal.signal(signal.SIGTERM, before)


async def save_slowly(ws, seen):
    async for message in ws:
        await asyncio.sleep(0.8)
        seen.append(message)


class TestCleanClose:
    """Messages before a clean close reach a handler that has been receiving."""

    def left(self, handler, close, count=5, **settings):
        """Return a connection whose client sends some messages and leaves at once."""
        served = Served(handler, **settings)
        served.peer.add(*[text(str(number)) for number in range(count)], close)
        return served

    @virtual
    async def test_unread_messages_are_delivered(self):
        """They come in order, and the iteration ends with the last."""
        served = self.left(save_slowly, disconnect(1000))
        await served.ended(within=5 * 0.8 + 0.1)
        assert served.seen == ['0', '1', '2', '3', '4']

    @pytest.mark.parametrize('count', [1, 2, 5])
    @pytest.mark.parametrize('seconds', [0.05, 0.1, 0.2, 0.24, 0.3, 0.4])
    @pytest.mark.parametrize('phase', [0, 0.1, 0.2])
    @virtual
    async def test_last_message_is_not_interrupted(self, count, seconds, phase):
        """The watch may see the close while the handler is busy with the message before it."""

        async def save(ws, seen):
            async for message in ws:
                await asyncio.sleep(seconds)
                seen.append(message)

        await asyncio.sleep(phase)
        served = self.left(save, disconnect(1000), count)
        await served.ended(within=count * seconds + 0.1)
        assert served.seen == [str(number) for number in range(count)]

    @virtual
    async def test_first_send_still_raises(self):
        """A handler that replies learns of the end from its first reply, and may receive the rest."""

        async def reply(ws, seen):
            async for message in ws:
                await asyncio.sleep(0.8)
                seen.append(message)
                try:
                    await ws.send(message)
                except WebSocketDisconnect as exc:
                    seen.append(exc.code)

        served = self.left(reply, disconnect(4000), count=3)
        await served.ended(within=3)
        assert served.seen == ['0', 4000, '1', 4000, '2', 4000]

    @virtual
    async def test_vain_sends_do_not_end_it(self):
        """Calls on the closed connection are not counted while there is something to receive."""

        async def reply(ws, seen):
            async for message in ws:
                seen.append(message)
                await asyncio.sleep(0.1)
                with contextlib.suppress(WebSocketDisconnect):
                    await ws.send(message)

        served = self.left(reply, disconnect(1000), count=30)
        await served.ended(within=5)
        assert served.seen == [str(number) for number in range(30)]

    @pytest.mark.parametrize('settings, bound', [({'backlog_timeout': 2}, 2), ({'backlog_timeout': None}, 20)])
    @virtual
    async def test_delivery_ends_after_the_timeout(self, settings, bound):
        """The handler is cancelled where it is, and receives no more."""

        async def save(ws, seen):
            while True:
                message = await ws.receive()
                await asyncio.sleep(7)
                seen.append(message)

        served = self.left(save, disconnect(1000), **settings)
        await asyncio.sleep(bound)
        assert served.ended_at is None
        await served.ended()
        assert served.seen == [*map(str, range(bound // 7)), asyncio.CancelledError]

    @virtual
    async def test_surviving_handler_receives_no_more(self):
        """A handler that survives the timeout of the delivery receives no more messages."""

        async def stubborn(ws, seen):
            seen.append(await ws.receive())
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)
            seen.append(await ws.receive())

        served = self.left(stubborn, disconnect(1000), backlog_timeout=2)
        await served.ended(within=4)
        assert served.seen == ['0', WebSocketDisconnect]

    @virtual
    async def test_busy_handler_is_cancelled_after_the_timeout(self):
        """A handler that has received everything is cancelled too, wherever it is then."""

        async def save(ws, seen):
            for _ in range(2):
                seen.append(await ws.receive())
                await asyncio.sleep(0.5)
            await asyncio.sleep(10_000)

        served = self.left(save, disconnect(1000), count=2, backlog_timeout=2)
        await served.ended(within=3)
        assert served.seen == ['0', '1', asyncio.CancelledError]

    @virtual
    async def test_opted_out_handler_receives_everything(self):
        """With ``cancel_on_disconnect=False`` there is no time limit, and each later call says the same."""

        async def save(ws, seen):
            while len(seen) < 22:
                try:
                    message = await ws.receive()
                    await asyncio.sleep(3)
                except WebSocketDisconnect as exc:
                    message = exc.code
                seen.append(message)

        served = self.left(save, disconnect(4000), count=20, cancel_on_disconnect=False)
        await served.ended(within=61)
        assert served.seen == [*map(str, range(20)), 4000, 4000]

    @virtual
    async def test_abandoned_receive_is_no_receive(self):
        """A handler that has only waited for messages has not been receiving."""

        async def wait(ws, seen):
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(ws.receive(), 100)
            await asyncio.sleep(10_000)

        served = Served(wait)
        await asyncio.sleep(100.1)
        served.peer.add(text('a'), disconnect(1000))
        await served.ended()
        assert served.seen == [asyncio.CancelledError]

    @pytest.mark.parametrize('close', [disconnect(1006), disconnect(1009), SHUTDOWN])
    @virtual
    async def test_other_ends_cancel_at_once(self, close):
        """A lost connection, a limit of the server and its shutdown deliver nothing."""
        served = self.left(save_slowly, close)
        await served.ended(within=1.5)
        assert served.seen[-1] is asyncio.CancelledError

    @virtual
    async def test_handler_without_receive_is_cancelled(self):
        """A handler that has not received anything is cancelled."""
        served = self.left(sleep, disconnect(1000))
        await served.ended()
        assert served.seen == [asyncio.CancelledError]

    @virtual
    async def test_handler_after_old_receive_is_cancelled(self):
        """A handler whose last receive was long ago is cancelled."""

        async def receive_once(ws, seen):
            seen.append(await ws.receive())
            await asyncio.sleep(10_000)

        served = Served(receive_once, backlog_timeout=5)
        served.peer.add(text('a'))
        await asyncio.sleep(10)
        served.peer.add(text('b'), disconnect(1000))
        await served.ended()
        assert served.seen == ['a', asyncio.CancelledError]

    @virtual
    async def test_shutdown_ends_the_delivery(self, server):
        served = self.left(save_slowly, disconnect(1000), count=100)
        await asyncio.sleep(2)
        server.should_exit = True
        await served.ended(within=2)
        assert len(served.seen) < 6


class TestSends:
    async def send(ws, seen):
        await ws.send('a')

    @virtual
    async def test_blocked_send_closes_with_1008(self):
        """A client that does not read ends the handler and gets 1008 when it reads again."""
        served = Served(TestSends.send, BlockedPeer(), send_timeout=5)
        await asyncio.sleep(4.9)
        assert served.ended_at is None
        while served.ended_at is None:
            await asyncio.sleep(0.1)
        assert (served.ended_at < 5.8, served.seen) == (True, [WebSocketDisconnect])
        assert not served.task.done()
        served.peer.unblock.set()
        await served.ended()
        assert served.peer.sent == [ACCEPT, closed(1008, 'A message was not taken for 5 seconds')]

    @virtual
    async def test_blocked_connection_counts_until_given_up(self):
        """A blocked connection counts until the server gives it up."""
        served = Served(TestSends.send, BlockedPeer(), send_timeout=5)
        await asyncio.sleep(1000)
        (endpoint,) = served.app.websocket_lifecycle.endpoints
        assert (len(endpoint.connections), served.task.done()) == (1, False)

        served.peer.error = OSError('gone')
        served.peer.unblock.set()
        await served.ended()
        assert len(endpoint.connections) == 0

    @virtual
    async def test_idle_connection_has_send_timeout(self):
        """A send on a connection that was idle has the send timeout, too."""
        for kind in (listen, sleep):
            served = Served(kind, BlockedPeer(), send_timeout=5)
            await asyncio.sleep(100)
            others = [asyncio.ensure_future(served.ws.send(data)) for data in ('a', b'b')]
            begun = now()
            outcomes = await asyncio.gather(*others, return_exceptions=True)
            assert 5 <= now() - begun <= 6
            assert [type(outcome) for outcome in outcomes] == [WebSocketDisconnect] * 2
            served.peer.unblock.set()
            await served.ended()
            assert served.peer.sent == [ACCEPT, closed(1008, 'A message was not taken for 5 seconds')]

    @virtual
    async def test_second_sender_is_released(self):
        """A second sender gets the disconnect although the first one was cancelled."""
        served = Served(listen, BlockedPeer(), send_timeout=5)
        await asyncio.sleep(1)
        first, second = [asyncio.ensure_future(served.ws.send('a')) for _ in range(2)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([second], timeout=7)
        assert isinstance(second.exception(), WebSocketDisconnect)
        served.peer.unblock.set()
        await served.ended()

    @virtual
    async def test_progress_is_no_stall(self):
        """Sends that make progress are not a stall, however many are waiting."""

        async def send_on(ws, seen):
            while True:
                await ws.send('a')

        served = Served(send_on, BlockedPeer(), send_timeout=5)
        for _ in range(20):
            await asyncio.sleep(4)
            served.peer.unblock.set()
            await asyncio.sleep(0)
            served.peer.unblock.clear()
        assert served.ended_at is None
        served.task.cancel()
        begun = now()
        with pytest.raises(asyncio.CancelledError):
            await served.task
        assert now() - begun <= CLOSE_TIMEOUT

    @virtual
    async def test_blocked_close_lets_handler_continue(self):
        """A close that the client does not read lets the handler continue."""

        async def close(ws, seen):
            seen.append(await ws.close(4000, 'done'))

        served = Served(close, BlockedPeer(), send_timeout=5)
        await asyncio.sleep(7)
        assert served.seen == [None]
        served.peer.unblock.set()
        await asyncio.wait_for(served.task, 5)
        assert served.peer.sent == [ACCEPT, closed(4000, 'done')]

    @virtual
    async def test_close_is_sent_once_as_given(self):
        """A close that is cancelled twice is sent once, with its own code."""

        async def close(ws, seen):
            await ws.close(1000)

        served = Served(close, BlockedPeer(), send_timeout=2)
        await asyncio.sleep(1)
        connection_of(served.ws).abort(1008, 'limit')
        served.task.cancel()
        await asyncio.sleep(0.1)
        served.peer.unblock.set()
        await asyncio.wait([served.task], timeout=5)
        assert served.peer.sent == [ACCEPT, CLOSE]

    @virtual
    async def test_blocked_denial_is_no_close(self):
        """A denial that the client does not read is not turned into a close."""

        async def refuse(ws, seen):
            raise exceptions.Forbidden

        served = Served(refuse, BlockedPeer(), send_timeout=2, connect=False)
        await asyncio.sleep(10)
        served.peer.unblock.set()
        await asyncio.wait([served.task], timeout=5)
        assert [message['type'] for message in served.peer.sent if message['type'] == 'websocket.close'] == []

    @virtual
    async def test_abandoned_close_is_delivered(self):
        """A close that the handler stopped waiting for is delivered."""

        async def give_up_close(ws, seen):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ws.close(4000), 1)

        served = Served(give_up_close, BlockedPeer())
        await asyncio.sleep(2)
        served.peer.unblock.set()
        await asyncio.wait_for(served.task, 5)
        assert served.peer.sent == [ACCEPT, closed(4000)]

    @virtual
    async def test_limit_falls_back_to_private_code(self):
        """A server that cannot send the code of a limit gets a private code."""
        served = Served(listen, idle_timeout=5)
        send = served.peer.send

        async def like_daphne(message):
            if 1000 < message.get('code', 0) < 3000:
                raise RuntimeError('invalid close code')
            await send(message)

        served.peer.send = like_daphne
        await served.ended(within=6)
        assert served.peer.sent == [ACCEPT, closed(4001, 'Nothing received for 5 seconds')]

    @virtual
    async def test_limit_discards_messages_ahead(self):
        """Messages received ahead are not delivered after a limit was exceeded."""

        async def pause_and_receive(ws, seen):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
            for _ in range(2):
                with pytest.raises(WebSocketDisconnect):
                    await ws.receive()

        served = Served(pause_and_receive, max_message_size=10)
        served.peer.add(text('x' * 100), text('ok'))
        await served.ended(within=6)
        assert served.peer.sent == [ACCEPT, closed(1009, 'Message larger than 10 bytes')]


class TestShutdown:
    """A server that goes down is asked whether it does, by what handles the signal, and says so by 1012."""

    async def listen_and_linger(ws, seen):
        async for _ in ws:
            """Be told."""
        await asyncio.sleep(10_000)

    async def close_and_linger(ws, seen):
        await ws.close()
        await asyncio.sleep(10_000)

    async def swallow(ws, seen):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10_000)
        await asyncio.sleep(10_000)

    CASES = [(listen_and_linger, {}), (sleep, {'cancel_on_disconnect': False}), (swallow, {}), (sleep, {})]

    @pytest.mark.parametrize('handler, settings', CASES)
    @virtual
    async def test_code_1012_ends_the_handler(self, handler, settings):
        """A disconnect with 1012 ends the handler soon."""
        served = Served(handler, **settings)
        await asyncio.sleep(100)
        served.peer.add(SHUTDOWN)
        await served.ended(within=2)
        assert served.seen == [asyncio.CancelledError]

    @pytest.mark.parametrize('handler, settings', [*CASES[:3], (close_and_linger, {})])
    @virtual
    async def test_departed_client_does_not_extend(self, server, handler, settings):
        """A handler whose client left before the shutdown is ended soon, too."""
        served = Served(handler, **settings)
        await asyncio.sleep(100)
        served.peer.add(disconnect(1001))
        await asyncio.sleep(100)
        assert served.ended_at is None
        server.should_exit = True
        await served.ended(within=2)
        assert served.seen == [asyncio.CancelledError]

    @virtual
    async def test_notified_handler_has_a_second(self):
        """A handler that got the disconnect has a second to return."""
        served = Served(TestShutdown.listen_and_linger)
        await asyncio.sleep(5)
        served.peer.add(disconnect(1012))
        await asyncio.sleep(SHUTDOWN_GRACE - 0.01)
        assert served.ended_at is None

    @virtual
    async def test_client_code_1012_affects_itself(self):
        """A client that sends 1012 itself ends only its own handler."""
        lingering, rude = Served(TestShutdown.listen_and_linger), Served(listen)
        await asyncio.sleep(5)
        lingering.peer.add(disconnect(1001))
        rude.peer.add(disconnect(1012))
        await rude.ended()
        await asyncio.sleep(100)
        assert lingering.ended_at is None

    @virtual
    async def test_held_back_client_is_closed(self, server):
        """A client that is held back is closed with 1012."""
        served = Served(sleep)
        served.peer.add(*[text('x' * 1000)] * 100)
        await asyncio.sleep(5)
        server.should_exit = True
        await served.ended()
        assert served.peer.sent == [ACCEPT, closed(1012)]

    @virtual
    async def test_blocked_close_is_given_up(self, server):
        """A close that the client does not read is given up."""
        served = Served(TestSends.send, BlockedPeer(), send_timeout=5)
        await asyncio.sleep(100)
        server.should_exit = True
        await asyncio.wait_for(served.task, 2)

    @virtual
    async def test_surviving_handler_is_logged_once(self, server, caplog):
        """A handler that is still running after the cancellations is logged once."""

        async def stubborn(ws, seen):
            for _ in range(6):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(10_000)

        served = Served(stubborn)
        await asyncio.sleep(5)
        served.peer.add(disconnect())
        server.should_exit = True
        await served.ended(within=10)
        lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert [line.split(' after')[0] for line in lines] == ['The handler on / is still running']


class TestChecks:
    @pytest.mark.parametrize('handler, settings', [(listen, {}), (sleep, {}), (listen, {'idle_timeout': 10_000})])
    @virtual
    async def test_idle_connection_is_not_checked(self, handler, settings):
        """A connection without activity is not checked."""
        served = Served(handler, **settings)
        await asyncio.sleep(1)
        assert served.watch._active == {}
        served.peer.add(text('a'))
        await served.ws.send('b')
        assert list(served.watch._active) == [connection_of(served.ws)]
        await asyncio.sleep(1)
        assert served.watch._active == {}
        served.peer.add(disconnect())
        await served.ended()
        assert (served.watch._active, served.watch._idle, served.watch._due) == ({}, {}, {})

    @virtual
    async def test_many_are_checked_in_steps(self):
        """Many connections are checked a few at a time."""
        crowd = crowd_of(2 * CHECKS_PER_ITERATION + 1, sleep)
        await asyncio.sleep(2)
        assert crowd[0].app.websocket_lifecycle.watches.current()._active == {}
        for served in crowd:
            served.peer.add(disconnect())
        done, pending = await asyncio.wait([served.task for served in crowd], timeout=PROMISED)
        assert (len(done), pending) == (len(crowd), set())

    @virtual
    async def test_unfinished_check_is_not_restarted(self):
        """A check that takes longer than the interval is not restarted."""
        crowd = crowd_of(2 * CHECKS_PER_ITERATION + 1, listen)
        await asyncio.sleep(0)
        watch = crowd[0].app.websocket_lifecycle.watches.current()
        last = list(watch._active)[-1]
        watch.check(now())
        watch.check(now())
        assert watch._active[last] is None

    @virtual
    async def test_connections_may_end_during_check(self, monkeypatch):
        """Connections may end in the middle of a check."""
        monkeypatch.setattr('apistar_ws.connection.watch.CHECKS_PER_ITERATION', 1)
        crowd = crowd_of(50, listen)
        await asyncio.sleep(0)
        watch = crowd[0].watch
        watch.check(now())
        for served in crowd[40:]:
            served.peer.add(disconnect())
        await asyncio.wait([served.task for served in crowd[40:]], timeout=0.1)
        assert (watch._count, len(watch._active)) == (40, 40)

    @virtual
    async def test_several_may_be_due_together(self):
        """Several connections may be due at the same check."""
        crowd = crowd_of(3, listen, idle_timeout=30)
        await asyncio.sleep(20)
        crowd[0].peer.add(disconnect())
        crowd[1].peer.add(text('a'))
        await asyncio.sleep(11)
        assert [served.task.done() for served in crowd] == [True, False, True]
        await asyncio.sleep(20)
        assert crowd[1].task.done()

    @virtual
    async def test_timer_runs_only_with_connections(self):
        """The timer runs only while there are connections."""
        served = Served(listen)
        await asyncio.sleep(5)
        watch = served.watch
        assert watch._timer is not None
        served.peer.add(disconnect())
        await served.ended()
        await asyncio.sleep(1)
        assert watch._timer is None

    @virtual
    async def test_blocked_loop_catches_up(self):
        """An event loop that was blocked for long catches up."""
        served = Served(listen, idle_timeout=50)
        await asyncio.sleep(10)
        asyncio.get_running_loop().block(3600)
        await served.ended()
        assert served.peer.sent == [ACCEPT, closed(1001, 'Nothing received for 50 seconds')]


class TestOverriddenDelivery:
    """Messages from before a clean close are not delivered any more after a drain or an expiry."""

    async def left(self):
        served = Served(save_slowly)
        served.peer.add(*[text(str(number)) for number in range(100)], disconnect(1000))
        await asyncio.sleep(2)
        return served

    @virtual
    async def test_drain_ends_the_delivery(self):
        served = await self.left()
        await served.app.drain(0)
        assert len(served.seen) < 5
        await served.task

    @virtual
    async def test_expiry_ends_the_delivery(self, monkeypatch):
        monkeypatch.setattr('apistar_ws.connection.watch.wall_clock', now)
        served = await self.left()
        served.ws.expires_at = now() + 1
        await served.ended(within=2)
        assert len(served.seen) < 5


class TestForeignClose:
    """A task other than the handler's closes, or denies."""

    @virtual
    async def test_unread_close_does_not_block_it(self):
        """It waits for a client that does not read as long as a send may wait."""
        served = Served(sleep, BlockedPeer(), send_timeout=4)
        await asyncio.sleep(1)
        await asyncio.wait_for(served.ws.close(4000), 5)
        assert served.ended_at is not None
        served.task.cancel()
        await asyncio.wait({served.task})

    @pytest.mark.parametrize('call', [lambda ws: ws.close(4000), lambda ws: ws.deny(402)])
    @virtual
    async def test_denial_ends_the_handler(self, call):
        """A handler that waits before the accept does not outlive its handshake."""
        served = Served(sleep, connect=False)
        await asyncio.sleep(1)
        await asyncio.ensure_future(call(served.ws))
        await served.ended()
        assert served.seen == [asyncio.CancelledError]
        assert [endpoint.connections for endpoint in served.app.websocket_lifecycle.endpoints] == [set()]


@virtual
async def test_opted_out_handler_survives_a_blocked_send():
    """Only the task that sends is cancelled, not the handler that does something else."""
    served = Served(sleep, BlockedPeer(), cancel_on_disconnect=False)
    await asyncio.sleep(1)
    sending = asyncio.ensure_future(served.ws.send('x'))
    await asyncio.sleep(1)
    served.peer.add(disconnect(1001))
    await asyncio.wait({sending}, timeout=2)
    assert isinstance(sending.exception(), WebSocketDisconnect)
    await asyncio.sleep(10)
    assert served.ended_at is None
    served.task.cancel()
    await asyncio.wait({served.task})


@virtual
async def test_due_connection_keeps_its_observation(monkeypatch):
    """A send between a check that is due and its turn does not put off the limit."""
    monkeypatch.setattr('apistar_ws.connection.watch.CHECKS_PER_ITERATION', 1)
    crowd = crowd_of(3, listen, idle_timeout=2)
    await asyncio.sleep(1)
    watch = crowd[0].watch
    await asyncio.sleep(2.2 - (now() % 0.25) - 1)
    before = {connection: seen for connection, (_, seen) in watch._idle.items()}
    for connection in list(watch._idle):
        watch._active[connection] = watch._forget_idle(connection)
        watch.wake(connection)
    assert all(watch._active[connection] is seen for connection, seen in before.items())
    for served in crowd:
        served.task.cancel()
    await asyncio.wait([served.task for served in crowd])


class TestExpiry:
    """A connection whose time is up, on the clock of the loop."""

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        monkeypatch.setattr('apistar_ws.connection.watch.wall_clock', lambda: asyncio.get_running_loop().time())

    @pytest.mark.parametrize('idle_timeout', [None, 3600])
    @virtual
    async def test_idle_connection_expires(self, idle_timeout):
        """A connection without activity is closed when it expires."""
        served = Served(listen, idle_timeout=idle_timeout)
        await asyncio.sleep(100)
        served.ws.expires_at = 200
        await asyncio.sleep(99)
        assert served.peer.sent == [ACCEPT]
        await served.ended(within=2)
        assert served.peer.sent == [ACCEPT, closed(4401, 'Expired')]

    @virtual
    async def test_clock_that_jumps_is_noticed(self, monkeypatch):
        """A machine that slept has its wall clock set forward; the loop's time goes on."""
        served = Served(listen)
        await asyncio.sleep(1)
        served.ws.expires_at = 10_000
        await asyncio.sleep(10)
        monkeypatch.setattr('apistar_ws.connection.watch.wall_clock', lambda: now() + 20_000)
        await served.ended(within=0.5)
        assert served.peer.sent == [ACCEPT, closed(4401, 'Expired')]

    @virtual
    async def test_busy_and_sleeping_connections_expire(self):
        """A connection is closed when it expires while its handler sends or sleeps."""

        async def tick(ws, seen):
            while True:
                await ws.send('tick')
                await asyncio.sleep(0.1)

        for handler in (tick, sleep):
            served = Served(handler)
            await asyncio.sleep(0.01)
            served.ws.expires_at = asyncio.get_running_loop().time() + 10
            await asyncio.sleep(9)
            assert closed(4401, 'Expired') not in served.peer.sent
            await served.ended(within=2)
            assert served.peer.sent[-1] == closed(4401, 'Expired')

    @virtual
    async def test_expiry_may_be_changed(self):
        """The expiry may be postponed and removed."""
        served = Served(listen)
        await asyncio.sleep(1)
        served.ws.expires_at = 10
        await asyncio.sleep(5)
        served.ws.expires_at = 100
        await asyncio.sleep(50)
        served.ws.expires_at = None
        await asyncio.sleep(1000)
        assert (served.peer.sent, served.ws.expires_at) == ([ACCEPT], None)

    @virtual
    async def test_past_expiry_closes_at_next_check(self):
        """An expiry in the past closes the connection at the next check."""

        async def expired(ws, seen):
            ws.expires_at = -10
            await ws.receive()

        served = Served(expired)
        await served.ended(within=0.6)
        assert served.peer.sent == [ACCEPT, closed(4401, 'Expired')]

    @pytest.mark.parametrize(
        'value, error',
        [
            ('1', TypeError),
            (True, TypeError),
            (float('inf'), ValueError),
            (float('nan'), ValueError),
            (1.7e12, ValueError),
            (10**400, ValueError),
        ],
    )
    @virtual
    async def test_what_is_no_time_is_refused(self, value, error):
        served = Served(listen)
        await asyncio.sleep(0.01)
        with pytest.raises(error, match='expires_at'):
            served.ws.expires_at = value
        assert served.ws.expires_at is None


class TestReceiveLimits:
    """What a client sends is measured when it comes, whether or not the handler receives."""

    @pytest.mark.parametrize('handler', [sleep, listen])
    @pytest.mark.parametrize(
        'settings, messages, reason',
        [
            ({'max_message_size': 10}, [text('a'), text('x' * 11)], closed(1009, 'Message larger than 10 bytes')),
            ({'max_message_size': 10}, [binary(b'x' * 11)], closed(1009, 'Message larger than 10 bytes')),
            ({'max_messages_per_second': 2}, [text('a')] * 20, closed(1008, 'More than 2 messages per second')),
        ],
    )
    @virtual
    async def test_exceeded_limit_closes(self, handler, settings, messages, reason):
        """A client that exceeds a limit is closed with the code of the limit."""
        served = Served(handler, **settings)
        await asyncio.sleep(10)
        served.peer.add(*messages)
        await served.ended()
        assert served.peer.sent == [ACCEPT, reason]

    @pytest.mark.parametrize('settings', [{}, {'idle_timeout': 5}, {'max_messages_per_second': 100}])
    @virtual
    async def test_stream_drops_messages(self, settings):
        """A stream drops the messages of its client."""

        @websocket_stream('/', **settings)
        async def ticks():
            for number in range(60):
                yield str(number)
                await asyncio.sleep(1)

        peer = Peer(CONNECT)
        app = ASyncApp(collect_routes(ticks))
        serving = asyncio.ensure_future(app(scope('/'), peer.receive, peer.send))
        for _ in range(59):
            await asyncio.sleep(1)
            peer.add(*[text('I am here' * 10)] * 50)
        await serving
        assert peer.sent == [ACCEPT, *[sent(str(number)) for number in range(60)], CLOSE]

    @pytest.mark.parametrize(
        'settings, messages, code',
        [({'max_message_size': 10}, [text('x' * 11)], 1009), ({'max_messages_per_second': 2}, [text('a')] * 20, 1008)],
    )
    @virtual
    async def test_stream_has_limits_too(self, settings, messages, code):
        """The limits count for the client of a stream, too."""

        @websocket_stream('/', **settings)
        async def ticks():
            while True:
                yield 'tick'
                await asyncio.sleep(1)

        peer = Peer(CONNECT)
        serving = asyncio.ensure_future(ASyncApp(collect_routes(ticks))(scope('/'), peer.receive, peer.send))
        await asyncio.sleep(10)
        peer.add(*messages)
        await asyncio.wait_for(serving, PROMISED)
        assert peer.sent[-1]['code'] == code
