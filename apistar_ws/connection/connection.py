"""The package's half of a connection: state, counters, limits and closing.

Everything that ends a connection calls it: a client that leaves, a shutdown, a broken limit, the handler's close.
"""

import asyncio
import logging
from typing import Any, Callable, Mapping, Optional

from apistar_ws.codes import CloseCode, fit_reason
from apistar_ws.connection.asgi import broken_limit, close_with_private_code, is_clean_close, is_shutdown
from apistar_ws.connection.ending import KNOWN_ENDING, NO_ENDING, Ending
from apistar_ws.connection.handshake import printable
from apistar_ws.connection.pace import Pace
from apistar_ws.connection.readahead import ReadAhead
from apistar_ws.connection.state import WebSocketState
from apistar_ws.exceptions import WebSocketDisconnect, WebSocketStateError
from apistar_ws.interruption import Interruption, Task, current_task
from apistar_ws.settings import Settings
from apistar_ws.types import Message, Receive, Scope, Send

logger = logging.getLogger('apistar_ws')

#: Iterations of the event loop until everything that the server has received of a client reaches the application.
SETTLING_ITERATIONS = 10
#: Seconds after which a handshake checks that the client has not left.
SLOW_HANDSHAKE = 0.001
#: Seconds in which messages before a clean close are delivered, where the route has no ``backlog_timeout``.
_BACKLOG_TIMEOUT = 20.0
#: Messages, a power of two, after which a handler that sends without pause yields to the other connections.
SENDS_PER_YIELD = 1024

CONNECTING, OPEN, CLOSED, DISCONNECTED = WebSocketState


class _NotOpen(Exception):
    """Raised in place of the server's ``receive`` and ``send`` while the connection is not open."""


async def _not_open(*message: Message) -> Any:
    """Replace the server's ``receive`` and ``send`` while the connection is not open."""
    # A loop that catches the exception must not block the event loop.
    await asyncio.sleep(0)
    raise _NotOpen


class Connection:
    """The package's half of a connection: state, counters, limits and closing.

    The handler's ``WebSocket`` refers to it and never the reverse, so that neither waits for the garbage collector.

    :param scope: the ASGI scope of the connection.
    :param receive: the server's ``receive``.
    :param send: the server's ``send``.
    :param settings: the limits of the route.
    :param path_params: the parameters of the path, converted.
    :param owner: the task that the handler runs in.
    """

    __slots__ = {
        'scope': 'The ASGI scope of the connection.',
        'path_params': 'The parameters of the path, converted.',
        'settings': 'The limits of the route.',
        'state': 'The state, written by ``change_state`` only.',
        'subprotocol': 'The subprotocol that was accepted, or None.',
        'close_code': 'The close code, once the connection is over.',
        'close_reason': 'The close reason, once the connection is over.',
        'server_receive': "The server's ``receive``.",
        'server_send': "The server's ``send``.",
        'pull': 'The function that ``receive`` awaits in this state; while open, ``server_receive``.',
        'push': 'The function that ``send`` awaits in this state; while open, ``server_send``.',
        'small_message': 'Characters of a text that needs no check; negative on an idle connection.',
        'is_receiving': 'Whether a task is receiving.',
        'received': 'The number of messages received.',
        'last_received': "When the handler was last known to receive a message, in the loop's time, or None.",
        'sender': 'The task that is sending.',
        'sent': 'The number of messages sent.',
        'is_unfinished': 'Whether ``finish`` has work to do when the handler has ended.',
        'ending': 'Facts about the end; shared by all connections until the first one is set.',
        'owner': 'The task that the handler runs in.',
        'loop': 'The event loop, once the handshake was received.',
        'ahead': 'The buffer of messages received while the handler does not receive.',
        '_wake': 'Reports activity to the watch, while the connection is idle.',
    }

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: Settings,
        path_params: Mapping[str, Any],
        owner: Task = None,
    ) -> None:
        self.scope = scope
        self.path_params = path_params
        self.settings = settings
        self.state = CONNECTING
        self.subprotocol: Optional[str] = None
        self.close_code: Optional[int] = None
        self.close_reason: Optional[str] = None
        rate = settings.max_messages_per_second
        self.server_receive = receive if rate is None else Pace(receive, int(rate)).receive
        self.server_send = send
        self.pull: Receive = _not_open
        self.push: Send = _not_open
        self.small_message = settings.small_message
        self.is_receiving = self.is_unfinished = False
        self.received = self.sent = 0
        self.last_received: Optional[float] = None
        self.sender: Task = None
        self.ending = NO_ENDING
        self.owner = owner
        self.loop: Optional[asyncio.AbstractEventLoop] = None
        self.ahead: Optional[ReadAhead] = None
        self._wake: Optional[Callable[['Connection'], None]] = None

    def __repr__(self) -> str:
        return '<WebSocket %s %s>' % (printable(self.scope.get('path')), self.state.value)

    @property
    def interruption(self) -> Interruption:
        """The tasks that were cancelled because the connection is over."""
        return self.own_ending().interruption

    @property
    def is_over(self) -> bool:
        """Whether the connection was closed or lost."""
        return self.state is CLOSED or self.state is DISCONNECTED

    @property
    def is_refused(self) -> bool:
        """Whether the handshake is unanswered or was denied; False if the client left first."""
        return self.state is CONNECTING or self.ending.is_refused

    def own_ending(self) -> Ending:
        """Return the facts about the end of this connection, to be written."""
        if self.ending is NO_ENDING or self.ending is KNOWN_ENDING:
            is_known = self.ending.interruption.is_known
            self.ending = Ending(self.owner)
            self.ending.interruption.is_known = is_known
        return self.ending

    # State

    def change_state(self, state: WebSocketState, code: Optional[int] = None, reason: Optional[str] = None) -> None:
        """Change the state, the close code and reason, and the functions that receive and send await.

        No other code changes them.
        """
        if self._wake is not None:
            self.wake_watch()
        self.state = state
        if state is OPEN:
            self.pull, self.push = self.server_receive, self.server_send
        else:
            self.close_code, self.close_reason = code, reason
            self.pull = self.push = _not_open
        if self.ahead is not None:
            # The handler receives messages that were read ahead even after the client has left.
            is_readable = state is OPEN or (state is DISCONNECTED and self.ahead.unread)
            self.pull = self._receive_ahead if is_readable else _not_open

    def note_disconnect(self, message: Message) -> None:
        """Note the server's ``websocket.disconnect``; the handler learns of it from what it awaits next."""
        if self.state is DISCONNECTED or self.state is CLOSED:
            return
        code = message.get('code')
        code = CloseCode.NO_STATUS_RECEIVED if code is None else code
        self.change_state(DISCONNECTED, int(code), message.get('reason') or '')
        if is_shutdown(message, self.scope):
            self.own_ending().server_stops = True

    def _client_left(self, message: Message) -> None:
        """Note that the client has left, and cancel the handler unless it is receiving."""
        if self.is_over:
            return
        was_open = self.state is OPEN
        timeout = self.settings.backlog_timeout or _BACKLOG_TIMEOUT
        now, last = asyncio.get_running_loop().time(), self.last_received
        has_unread = self.ahead is not None and self.ahead.unread and is_clean_close(message, self.scope)
        self.note_disconnect(message)
        if has_unread and last is not None and now - last < timeout and self.settings.cancel_on_disconnect:
            self.own_ending().delivers_until = now + timeout
            return
        # A handler that is receiving gets the disconnect; one that may be busy with a message has time left. Before the
        # accept the setting does not apply.
        may_be_busy = last is not None and self.ahead is not None and self.ahead.has_just_started
        has_time = self.is_receiving or may_be_busy
        if not was_open or (self.settings.cancel_on_disconnect and not has_time):
            self.interrupt()

    def end_delivery(self) -> None:
        """Drop the messages that the handler has not received in time after a clean close."""
        self.own_ending().delivers_until = None
        if self.ahead is not None:
            self.ahead.stop()
            self.pull = _not_open

    # Handshake

    def begin(self, message: Message, loop: asyncio.AbstractEventLoop, connects: bool = True) -> None:
        """Note the server's first message: the handshake, or the disconnect of a client that left already.

        :raises WebSocketDisconnect: if the client has left.
        """
        self.loop = loop
        if not connects:
            # The handler may let the client wait before it does.
            self.own_ending().waiting_since = loop.time()
        if message['type'] != 'websocket.connect':
            self.note_disconnect(message)
            raise self.disconnect_error()

    def set_denial(self, exc: Exception) -> None:
        """Make ``connect`` raise ``exc`` from now on."""
        ending = self.own_ending()
        ending.denial = exc
        if ending.waiting_since is None:
            ending.waiting_since = asyncio.get_running_loop().time()

    # Close

    async def close(self, code: int = 1000, reason: str = '') -> None:
        """Close with a code and a reason that may be sent; before the accept, deny the handshake."""
        if self.state is not OPEN:
            if self.state is not CONNECTING:
                return
            self.own_ending().is_refused = True
        self.change_state(CLOSED, code, reason)
        try:
            close = {'type': 'websocket.close', 'code': code, 'reason': reason}
            await self.deliver(close, self.server_send)
        except WebSocketDisconnect:
            logger.debug('%r: the client left before the close.', self)
        except asyncio.CancelledError:
            # The handler was cancelled, but the client still has to get the close.
            self._close_in_background(code, reason)
            raise

    def close_without_waiting(self, code: int, reason: str) -> None:
        """Close without waiting for the client to read the close; the handler sees a disconnect."""
        self.change_state(DISCONNECTED, code, reason)
        self._close_in_background(code, reason)

    def close_for_limit(self, code: int, reason: str) -> None:
        """Close because the client broke a limit, and drop the messages that it sent before."""
        self.own_ending().broke_limit = True
        if self.ahead is not None:
            self.ahead.stop()
        self.close_without_waiting(int(code), fit_reason(reason))

    def abort(self, code: int, reason: str) -> None:
        """Close and cancel the handler, because of a limit or a shutdown."""
        if self.state is OPEN:
            self.close_for_limit(code, reason)
        elif self.state is CLOSED and self.is_sending and self.close_code != CloseCode.ABNORMAL_CLOSURE:
            # The handler's own close is waiting; 1006 marks a denial, which is not repeated.
            self._close_in_background(self.close_code or code, self.close_reason or '')
        self.interrupt()

    def _close_in_background(self, code: int, reason: str) -> None:
        self.is_unfinished = True
        self.own_ending().close_in_background(self.server_send, code, reason)

    async def finish(self, timeout: Optional[float] = None) -> None:
        """Stop all tasks of this connection after its handler has ended.

        :param timeout: seconds to wait for a client that does not read the close; None to wait until it is lost.
        """
        ending = self.own_ending()
        await ending.interruption.release()
        if self.ahead is not None:
            self.ahead.stop()
            self.ahead, self.pull = None, _not_open
        await ending.wait_for_close(timeout)

    def interrupt(self, with_handler: bool = True) -> None:
        """Cancel the tasks that send to this client, and the handler; the watch repeats it if necessary."""
        self.is_unfinished = True
        ending = self.own_ending()
        if not ending.is_postponed:
            handler = ending.interruption.owner if with_handler else None
            ending.interruption.cancel({handler, self.sender, *ending.other_senders})

    # Errors

    def disconnect_error(self) -> WebSocketDisconnect:
        """Return the exception for a call on a connection that is over, and note that this task has got it."""
        if self.ending is NO_ENDING and self.owner is asyncio.current_task():
            # Most connections end like this, and need nothing of their own.
            self.ending = KNOWN_ENDING
        elif self.ending is not KNOWN_ENDING:
            self.own_ending().interruption.note_known()
        assert self.close_code is not None
        return WebSocketDisconnect(self.close_code, self.close_reason or '')

    def is_own_cancellation(self, exc: BaseException) -> bool:
        """Return whether ``exc`` is the package's cancellation of the current task."""
        return isinstance(exc, asyncio.CancelledError) and self.interruption.is_ours(asyncio.current_task())

    def as_disconnect(self) -> WebSocketDisconnect:
        """Return the disconnect for which the package has cancelled the handler."""
        return WebSocketDisconnect(self.close_code or CloseCode.ABNORMAL_CLOSURE, self.close_reason or '')

    def state_error(self, call: str, advice: str) -> WebSocketStateError:
        """Return the exception for a call that is not possible in the current state."""
        return WebSocketStateError(
            '%s is not possible on the WebSocket of %s, which is %s. %s'
            % (call, printable(self.scope.get('path')), self.state.value, advice)
        )

    # Sending

    async def deliver(self, message: Message, push: Send) -> None:
        """Pass ``message`` to the server, and record the sending task for the watch; several tasks may send at once."""
        task = current_task(self.loop)
        is_first = self.sender is None
        if is_first:
            self.sender = task
        else:
            self.own_ending().other_senders |= {task}
        try:
            await push(message)
        except BaseException as exc:
            if not await close_with_private_code(self.server_send, message, exc):
                raise call_error(self, exc, 'send()') from None
        finally:
            if is_first:
                self.sender = None
            else:
                self.ending.other_senders -= {task}
        self.sent += 1
        if not self.sent & (SENDS_PER_YIELD - 1):
            await asyncio.sleep(0)

    @property
    def is_sending(self) -> bool:
        """Whether a send is waiting for the client."""
        return self.sender is not None or bool(self.ending.other_senders)

    # Receiving

    @property
    def arrived(self) -> int:
        """The number of messages from the client, received by the handler or read ahead."""
        return self.received + (0 if self.ahead is None else self.ahead.unread)

    @property
    def is_held_back(self) -> bool:
        """Whether the client has to wait because the handler does not receive."""
        return self.ahead is not None and self.ahead.is_full

    @property
    def is_listening(self) -> bool:
        """Whether the handler or a read-ahead is receiving, so that a disconnect is noticed at once."""
        return self.is_receiving or (self.ahead is not None and self.ahead.is_filling)

    def read_ahead(self) -> None:
        """Receive while the handler does not, to notice a disconnect."""
        if self.ahead is None:
            self.is_unfinished = True
            self.ahead = ReadAhead(self.server_receive, self._keep, self._client_left)
            if self.state is OPEN:
                self.pull = self._receive_ahead
        # A message may arrive at once if tasks start eagerly.
        self.ahead.resume()

    def _keep(self, message: Message) -> bool:
        """Check a message that was read ahead, and return whether to keep it for the handler."""
        self.wake_watch()
        broken = broken_limit(message, self.settings)
        if broken is not None:
            self.abort(*broken)
        elif self.ending.discards:
            self.received += 1
        return broken is None and not self.ending.discards

    async def _receive_ahead(self) -> Message:
        """Return the next message that was read ahead; after the last one, receive from the server again."""
        assert self.ahead is not None
        message = await self.ahead.take()
        if message is not None:
            self.last_received = asyncio.get_running_loop().time()
        if self.ahead is not None and self.ahead.is_drained:
            self.ahead = None
            self.pull = self.server_receive if self.state is OPEN else _not_open
        return message if message is not None else await self.pull()

    # Idle connections

    def become_idle(self, wake: Callable[['Connection'], None]) -> None:
        """Call ``wake`` at the next message, send or change of state; the watch makes no checks until then."""
        self._wake = wake
        self.small_message = -1
        self.push = self._wake_and_push

    def _wake_and_push(self, message: Message) -> Any:
        self.wake_watch()
        return self.server_send(message)

    def wake_watch(self) -> None:
        """Make the watch check the connection again, if it is idle."""
        wake, self._wake = self._wake, None
        if wake is not None:
            self.small_message = self.settings.small_message
            self.push = self.server_send
            wake(self)


async def require_client(connection: Connection) -> None:
    """Check that the client of a handshake has not left.

    :raises WebSocketDisconnect: if it has left.
    """
    if connection.ahead is None:
        connection.read_ahead()
    for _ in range(SETTLING_ITERATIONS):
        if connection.state is DISCONNECTED:
            raise connection.disconnect_error()
        await asyncio.sleep(0)


def call_error(connection: Connection, exc: BaseException, call: str) -> BaseException:
    """Return the exception that ``call`` raises in the handler, given ``exc`` from the server or a cancellation."""
    if isinstance(exc, _NotOpen):
        return _not_open_error(connection, call)
    if isinstance(exc, asyncio.CancelledError):
        is_ours = not connection.ending.is_looping and connection.interruption.was_ours(asyncio.current_task())
        return connection.disconnect_error() if is_ours and connection.close_code is not None else exc
    if not isinstance(exc, Exception):
        return exc
    logger.debug('%r: the server raised %r.', connection, exc)
    connection.note_disconnect({'code': CloseCode.ABNORMAL_CLOSURE})
    return connection.disconnect_error()


def _not_open_error(connection: Connection, call: str) -> Exception:
    """Return the exception for a call that needs an open connection."""
    counts = connection.settings.cancel_on_disconnect and connection.ending.delivers_until is None
    if connection.is_over and counts and connection.own_ending().note_call(call, connection):
        connection.is_unfinished = True
    if connection.state is DISCONNECTED:
        return connection.disconnect_error()
    if connection.state is CLOSED:
        return connection.state_error(call, 'Its handler has ended or has closed it: receive and send before that.')
    return connection.state_error(call, 'Await connect() first.')
