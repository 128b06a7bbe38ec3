"""How a connection ends: its state, who changes it, who is told, and what is sent to the client then.

The client may leave, the server go down, a limit be broken, or the handler close. Whoever notices comes here.
"""

import asyncio
import contextlib
import enum
import functools
import logging
import re
from typing import Any, Callable, Iterator, Optional, Set, Tuple

from apistar_ws.codes import CloseCode, fit_reason
from apistar_ws.connection.handshake import Handshake, printable
from apistar_ws.connection.pace import TOO_FAST
from apistar_ws.connection.readahead import ReadAhead, byte_length
from apistar_ws.exceptions import WebSocketDisconnect, WebSocketStateError
from apistar_ws.interruption import Interruption, Task, current_task
from apistar_ws.settings import Settings
from apistar_ws.types import Data, Message, Receive, Scope, Send

logger = logging.getLogger('apistar_ws')

#: Turns of the event loop in which what a server knows of a client has reached the application.
SETTLING_TURNS = 10
#: So many calls after the end are a loop that does not see it.
VAIN_CALLS = 10
#: Seconds that resources of a message have to be closed, once their client has left.
TIME_TO_HOLD = 1.8
#: A handler that sends without end gives way to the other connections after so many messages.
SENDS_PER_TURN = 1024


class WebSocketState(enum.Enum):
    """Where a WebSocket stands; ``ws.state``.

    Compare with ``is``: ``if ws.state is WebSocketState.OPEN``.
    """

    #: The handshake is not answered yet: ``connect``, or ``close`` to refuse.
    CONNECTING = 'connecting'
    #: Accepted: ``receive``, ``send``, ``close``.
    OPEN = 'open'
    #: The handler closed or refused the connection.
    CLOSED = 'closed'
    #: The client left, the server went down, or a limit was reached.
    DISCONNECTED = 'disconnected'


CONNECTING, OPEN, CLOSED, DISCONNECTED = WebSocketState


def _refuse_attribute(state: WebSocketState, name: str, value: Any) -> None:
    raise AttributeError(
        'ws.state is the state of the connection, which all connections share: set attributes of your own on the '
        'WebSocket, as in ws.%s = ...' % name
    )


# After the class, whose creation sets attributes of its members.
WebSocketState.__setattr__ = _refuse_attribute  # type: ignore[assignment,method-assign]


class NotOpen(Exception):
    """Raised in place of the server's ``receive`` and ``send`` while the WebSocket is not open."""


def is_shutdown(message: Message, scope: Scope) -> bool:
    """Tell whether a disconnect says that the server goes down.

    A client may close with 1012 too. Its close has a reason, if an empty one (ASGI specification, WebSocket, 2.4).
    """
    if message.get('code') != CloseCode.SERVICE_RESTART or 'reason' in message:
        return False
    version = str((scope.get('asgi') or {}).get('spec_version', '2.0'))
    return tuple(map(int, re.findall(r'\d+', version))) >= (2, 4)


async def not_open(*message: Message) -> Any:
    """Stand in for the server's ``receive`` and ``send`` while the WebSocket is not open."""
    # A loop that catches what it is told must not hold up everybody.
    await asyncio.sleep(0)
    raise NotOpen


class Ending(Handshake):
    """The part of a ``WebSocket`` that ends it; ``receive``, ``send`` and ``close`` stand on it.

    What begins with an underscore is for the package: the lifecycle and the watch say in a ``Protocol`` each what they
    use of it.
    """

    __slots__ = (
        'settings', '_state', '_close_code', '_close_reason', '_server_receive', '_server_send', '_pull', '_push',
        '_small', '_receiving', '_received', '_sender', '_sent', '_ahead', '_loop', '_owner', '_wake',
        '_is_unfinished', '_waits_since', '__dict__',
    )  # fmt: skip

    #: The limits of the route.
    settings: Settings
    _state: WebSocketState
    _close_code: Optional[int]
    _close_reason: Optional[str]
    _server_receive: Receive
    _server_send: Send
    # What receive() and send() await in the present state: while OPEN, the server's own.
    _pull: Receive
    _push: Send
    # Characters of a text that needs no further look; below 0, every message gets one.
    _small: int
    _receiving: bool
    _received: int
    _sender: Task
    _sent: int
    _ahead: Optional[ReadAhead]
    # Set once the client's handshake was received.
    _loop: Optional[asyncio.AbstractEventLoop]
    # The task that the handler runs in.
    _owner: Task
    _wake: Optional[Callable[[Any], None]]
    # Whether something would be left running when the handler has ended.
    _is_unfinished: bool
    # When the client began to wait, where the handler connects by itself.
    _waits_since: Optional[float]
    # Seldom set, and then in the __dict__: what sends a close that the client does not take at once.
    _closing: Optional['asyncio.Task[None]'] = None
    # Likewise: what connect() raises, once nobody is let in any more.
    _turned_away: Optional[Exception] = None
    # Likewise: when the connection expires, in seconds since the epoch.
    _expires_at: Optional[float] = None
    # Likewise: the tasks that send while another one does.
    _more_senders: Optional[Set[Task]] = None
    # Whether the handshake was answered with a refusal.
    _was_refused = False
    # Whether the end waits for something, and until when it does.
    _holds = False
    _held_until: Optional[float] = None
    # Whether messages are dropped that nobody asks for: those of the client of a stream.
    _discards = False
    # Whether a limit was broken; the lifecycle has a line for the log.
    _was_broken = False
    # Whether the server is known to go down, which no close code of a client decides.
    _server_stops = False
    # Calls of the handler after the end.
    _vain = 0

    def __repr__(self) -> str:
        return '<WebSocket %s %s>' % (printable(self.scope.get('path')), self._state.value)

    @property
    def state(self) -> WebSocketState:
        """The state of the connection."""
        return self._state

    @property
    def close_code(self) -> Optional[int]:
        """The close code, once the connection is over."""
        return self._close_code

    @property
    def close_reason(self) -> Optional[str]:
        """The close reason, once the connection is over."""
        return self._close_reason

    @property
    def disconnected(self) -> bool:
        """Whether the connection is over, and not because the handler closed it."""
        return self._state is DISCONNECTED

    @property
    def _is_refused(self) -> bool:
        """Whether it was never accepted, and not because the client left."""
        return self._state is CONNECTING or self._was_refused

    @functools.cached_property
    def _interruption(self) -> Interruption:
        """Who knows of the end, made when it begins."""
        return Interruption(self._owner)

    # The state

    def _change(self, state: WebSocketState, code: Optional[int] = None, reason: Optional[str] = None) -> None:
        """Change the state, with close code and reason, and what a call awaits in it: the only place that does."""
        if self._wake is not None:
            self._wake_watch()
        self._state = state
        if state is OPEN:
            self._pull, self._push = self._server_receive, self._server_send
        else:
            self._close_code, self._close_reason = code, reason
            self._pull = self._push = not_open
        if self._ahead is not None:
            # What was received ahead is for the handler to take, also when the client has left.
            takes = state is OPEN or (state is DISCONNECTED and self._ahead.unread)
            self._pull = self._receive_ahead if takes else not_open

    def _disconnected(self, message: Message) -> None:
        """Note what the server says: the client is gone. The handler learns it from what it awaits next."""
        if self._state in (CONNECTING, OPEN):
            code = message.get('code')
            code = CloseCode.NO_STATUS_RECEIVED if code is None else code
            self._change(DISCONNECTED, int(code), message.get('reason') or '')
            if is_shutdown(message, self.scope):
                self._server_stops = True

    def _client_left(self, message: Message) -> None:
        """Note that the client is gone, and end the handler, unless it is receiving by itself and so is told."""
        if self._state in (CLOSED, DISCONNECTED):
            return
        accepted = self._state is OPEN
        self._disconnected(message)
        if not self._receiving and (not accepted or self.settings.cancel_on_disconnect):
            self._interrupt()

    def _break(self, code: int, reason: str) -> None:
        """Close on a client that broke a limit, whoever noticed; what it sent before is not delivered any more."""
        self._was_broken = True
        if self._ahead is not None:
            self._ahead.stop()
        self._give_up(int(code), fit_reason(reason))

    def _give_up(self, code: int, reason: str) -> None:
        """Close without waiting for the client to take it."""
        self._change(DISCONNECTED, code, reason)
        self._close_later(code, reason)

    def _abort(self, code: int, reason: str) -> None:
        """Close from outside of the handler, and end it; the watch does it when a limit of time is reached."""
        if self._state is OPEN:
            self._break(code, reason)
        elif self._state is CLOSED and self._sending and self._close_code != CloseCode.ABNORMAL_CLOSURE:
            # The handler's own close is what waits; a denial has no code.
            self._close_later(self._close_code or code, self._close_reason or '')
        self._interrupt()

    def _close_later(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._is_unfinished = True
            self._closing = asyncio.ensure_future(self._close_patiently(code, reason))

    async def _close_patiently(self, code: int, reason: str) -> None:
        # Out of sight of the watch, which would end this send too: it ends when the client reads, or is lost.
        message = close_message(code, reason)
        try:
            await self._server_send(message)
        except Exception as exc:
            await self._closed_privately(message, exc)

    def _interrupt(self) -> None:
        """End the handler, and the sends to this client of all others; the watch does it again if need be."""
        self._is_unfinished = True
        if self._is_held():
            return
        self._interruption.cancel({self._interruption.owner, self._sender, *(self._more_senders or ())})

    @contextlib.contextmanager
    def _holding(self) -> Iterator[None]:
        """Have the end of the connection wait for the block, which closes what was opened for a message."""
        self._holds = True
        try:
            yield
        finally:
            self._holds, self._held_until = False, None

    def _is_held(self) -> bool:
        if not self._holds:
            return False
        now = asyncio.get_running_loop().time()
        if self._held_until is None:
            self._held_until = now + TIME_TO_HOLD
        return now < self._held_until

    def _told_disconnect(self) -> WebSocketDisconnect:
        """Return what tells the caller that the connection is over."""
        self._interruption.tell()
        assert self._close_code is not None
        return WebSocketDisconnect(self._close_code, self._close_reason or '')

    def _stands_for(self, exc: BaseException) -> BaseException:
        """Return what ``exc`` means to who is told why the handler ends: a cancellation of ours is the disconnect."""
        if not isinstance(exc, asyncio.CancelledError) or not self._interruption.is_ours(asyncio.current_task()):
            return exc
        return WebSocketDisconnect(self._close_code or CloseCode.ABNORMAL_CLOSURE, self._close_reason or '')

    def _require_loop(self, call: str) -> None:
        """Refuse a call in another event loop: what it awaits would not wake up, and nobody could end it.

        Asked at the first call only, since each message would pay for it.
        """
        if self._loop is not None and asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                '%s of %r was called outside of its event loop, in another thread say: use '
                'asyncio.run_coroutine_threadsafe.' % (call, self)
            )

    def _refusal(self, call: str, advice: str) -> WebSocketStateError:
        return WebSocketStateError(
            '%s is not possible on the WebSocket of %s, which is %s. %s'
            % (call, printable(self.scope.get('path')), self._state.value, advice)
        )

    def _not_open(self, call: str) -> Exception:
        """Return what the handler sees of a call for which the WebSocket has to be open."""
        if self._state in (CLOSED, DISCONNECTED) and self.settings.cancel_on_disconnect:
            self._note_vain(call)
        if self._state is DISCONNECTED:
            return self._told_disconnect()
        if self._state is CLOSED:
            return self._refusal(call, 'Its handler has ended or has closed it: receive and send before that.')
        return self._refusal(call, 'Await connect() first.')

    def _note_vain(self, call: str) -> None:
        """End a handler that calls again and again after the end, in a loop that catches what it is told."""
        interruption = self._interruption
        if interruption.owner is None or interruption.owner is not asyncio.current_task():
            return
        self._vain += 1
        if self._vain % VAIN_CALLS == 0:
            self._is_unfinished = True
            interruption.cancel_again()
        if self._vain == VAIN_CALLS:
            logger.warning(
                '%r: the handler calls %s again and again after the end, and is cancelled: let the exception pass that '
                'the call raises, or leave the loop.' % (self, call)
            )

    def _failure(self, exc: BaseException, call: str) -> BaseException:
        """Return what the handler sees of ``exc``, which ended what it awaited in ``call``."""
        if isinstance(exc, NotOpen):
            return self._not_open(call)
        if isinstance(exc, asyncio.CancelledError):
            if self._vain >= VAIN_CALLS:
                return exc
            is_ours = self._interruption.was_ours(asyncio.current_task()) and self._close_code is not None
            return self._told_disconnect() if is_ours else exc
        if not isinstance(exc, Exception):
            return exc
        logger.debug('%r: the server raised %r.', self, exc)
        self._disconnected({'code': CloseCode.ABNORMAL_CLOSURE})
        return self._told_disconnect()

    async def _finish(self, patience: Optional[float] = None) -> None:
        """Leave nothing of this connection running; the lifecycle does it when the handler has ended.

        A close that the client has not taken is waited for, so long or until the server knows that the client is lost.
        """
        await self._interruption.release()
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead, self._pull = None, not_open
        if self._closing is not None:
            # From here on the server may end it again.
            self._interruption.owner = asyncio.current_task()
            try:
                await asyncio.wait({self._closing}, timeout=patience)
            finally:
                self._closing.cancel()

    # Sends, of which a close is one

    async def _deliver(self, message: Message, push: Send) -> None:
        """Hand ``message`` to the server, in sight of the watch, also while another task is sending."""
        task = current_task(self._loop)
        others: Optional[Set[Task]] = None
        if self._sender is None:
            self._sender = task
        else:
            others = self._more_senders = self._more_senders or set()
            others.add(task)
        try:
            await push(message)
        except BaseException as exc:
            if not await self._closed_privately(message, exc):
                raise self._failure(exc, 'send()') from None
        finally:
            if others is None:
                self._sender = None
            else:
                others.discard(task)
        self._sent += 1
        if self._sent % SENDS_PER_TURN == 0:
            await asyncio.sleep(0)

    async def _closed_privately(self, message: Message, exc: BaseException) -> bool:
        """Close with a private code where the server cannot send the one of the protocol, and tell whether it could.

        daphne sends none but 1000: of the others it raises, and would leave the client open.
        """
        if isinstance(exc, OSError) or not isinstance(exc, Exception) or not 1000 < message.get('code', 0) < 3000:
            return False
        with contextlib.suppress(Exception):
            await self._server_send({**message, 'code': message['code'] + 3000})
        return True

    # What the watch reads and asks for

    @property
    def _arrived(self) -> int:
        """How many messages have come from the client, received by the handler or ahead of it."""
        return self._received + (0 if self._ahead is None else self._ahead.unread)

    @property
    def _sending(self) -> bool:
        """Whether a send is waiting for the client."""
        return self._sender is not None or bool(self._more_senders)

    @property
    def _held_back(self) -> bool:
        """Whether the client is held back because the handler does not receive."""
        return self._ahead is not None and self._ahead.full

    @property
    def _is_listening(self) -> bool:
        """Whether somebody receives, so that the client's leaving is seen at once."""
        return self._receiving or (self._ahead is not None and self._ahead.filling)

    def _read_ahead(self) -> None:
        """Receive for a handler that does not, to see the client leave."""
        if self._ahead is None:
            self._is_unfinished = True
            self._ahead = ReadAhead(self._server_receive, self._came_ahead, self._client_left)
            if self._state is OPEN:
                self._pull = self._receive_ahead
        # The news may come at once, where tasks start eagerly.
        self._ahead.resume()

    def _came_ahead(self, message: Message) -> bool:
        """Look at a message for which nobody asks yet, and tell whether it is kept for the handler."""
        self._wake_watch()
        broken = self._broken_limit(message)
        if broken is not None:
            self._abort(*broken)
        elif self._discards:
            self._received += 1
        return broken is None and not self._discards

    def _broken_limit(self, message: Message) -> Optional[Tuple[int, str]]:
        """Return the code and the reason of the close if ``message`` is too large or came too fast."""
        limit = self.settings.max_message_size
        if limit is not None and is_longer(message_data(message), limit):
            return CloseCode.MESSAGE_TOO_BIG, 'Message larger than %d bytes' % limit
        if TOO_FAST in message:
            rate = self.settings.max_messages_per_second
            return CloseCode.POLICY_VIOLATION, 'More than %s messages per second' % rate
        return None

    async def _receive_ahead(self) -> Message:
        """Take what was received ahead; then let the handler receive by itself again."""
        assert self._ahead is not None
        message = await self._ahead.take()
        if self._ahead is not None and self._ahead.drained:
            self._ahead = None
            self._pull = self._server_receive if self._state is OPEN else not_open
        return message if message is not None else await self._pull()

    def _rest(self, wake: Callable[[Any], None]) -> None:
        """Do without the watch until something moves: a message, a send, the end. Then call ``wake``."""
        self._wake = wake
        self._small = -1
        self._push = self._push_awake

    def _push_awake(self, message: Message) -> Any:
        self._wake_watch()
        return self._server_send(message)

    def _wake_watch(self) -> None:
        """Call the watch back, if it is away."""
        wake, self._wake = self._wake, None
        if wake is not None:
            self._small = self.settings.small_message
            self._push = self._server_send
            wake(self)


def close_message(code: int, reason: str) -> Message:
    """Return the message that closes a connection."""
    return {'type': 'websocket.close', 'code': code, 'reason': reason}


def message_data(message: Message) -> Data:
    """Return the text or the bytes of a message; servers may have both keys, one of them None."""
    text = message.get('text')
    return text if text is not None else message.get('bytes') or b''


def is_longer(data: Data, limit: float) -> bool:
    """Tell whether ``data`` is longer than ``limit`` bytes in UTF-8."""
    return len(data) > limit or byte_length(data) > limit
