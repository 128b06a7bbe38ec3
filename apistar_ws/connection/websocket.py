"""The WebSocket between a handler and its client: one state machine over the ASGI websocket messages."""

import asyncio
import inspect
import logging
from types import MappingProxyType
from typing import Any, AsyncIterator, Coroutine, Iterable, Mapping, Optional, Tuple, Type, TypeVar, overload

from apistar import types
from apistar.exceptions import HTTPException

from apistar_ws.codes import CloseCode, check_close_code, fit_reason
from apistar_ws.connection.connection import (
    SENDS_PER_TURN,
    SETTLING_TURNS,
    Ending,
    WebSocketState,
    close_message,
    message_data,
    not_open,
)
from apistar_ws.connection.handshake import HeaderItems, encode_accept_headers, encode_headers, printable
from apistar_ws.connection.pace import Pace
from apistar_ws.exceptions import InvalidMessage, UnsupportedMessage, WebSocketDisconnect, WebSocketStateError
from apistar_ws.interruption import Task, current_task
from apistar_ws.messages.codecs import decode_json
from apistar_ws.messages.schema import Schema
from apistar_ws.settings import Settings
from apistar_ws.types import Data, Message, Receive, Scope, Send

logger = logging.getLogger('apistar_ws')

T = TypeVar('T')

#: Seconds that a handshake may take before it is worth a look whether the client is still there.
QUICK = 0.001
#: No connection expires later, in seconds since the epoch; milliseconds are beyond it.
LAST_TIME = 1e12
DEFAULT_SETTINGS = Settings()
NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
CONNECTING, OPEN, CLOSED, DISCONNECTED = WebSocketState


class WebSocket(Ending):
    """One connection: annotate a handler's argument with it, ``ws: WebSocket``.

    The decorator connects before the handler and closes after it; in between, ``receive`` and ``send``, or
    ``async for message in ws``. Attributes of your own may be set on it, under any name that is not one of its own.

    :param scope: the ASGI scope of the connection.
    :param receive: the server's ``receive``.
    :param send: the server's ``send``.
    :param settings: the limits of the route.
    :param path_params: the parameters of the path, converted.
    :param owner: the task that the handler runs in.
    """

    # Slots, for what every message touches; __dict__ for what is asked for now and then, and for the user's own.
    __slots__ = ('subprotocol', '__weakref__')

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: Settings = DEFAULT_SETTINGS,
        path_params: Mapping[str, Any] = NO_PARAMS,
        owner: Task = None,
    ) -> None:
        self.scope = scope
        self.path_params = path_params
        self.settings = settings
        self._state = CONNECTING
        #: The subprotocol that was accepted, or None.
        self.subprotocol: Optional[str] = None
        self._close_code = self._close_reason = None
        rate = settings.max_messages_per_second
        self._server_receive = receive if rate is None else Pace(receive, int(rate)).receive
        self._server_send = send
        self._pull = self._push = not_open
        self._small = settings.small_message
        self._receiving = self._is_unfinished = False
        self._received = self._sent = 0
        self._sender = self._ahead = self._loop = self._wake = self._waits_since = None
        self._owner = owner

    # Handshake

    def _begin(self, message: Message, loop: asyncio.AbstractEventLoop, connects: bool) -> None:
        """Take the server's first message: the handshake, or the disconnect of a client that did not wait."""
        self._loop = loop
        if not connects:
            # The handler may let the client wait before it does.
            self._waits_since = loop.time()
        if message['type'] != 'websocket.connect':
            self._disconnected(message)
            raise self._told_disconnect()

    async def connect(self, subprotocol: Optional[str] = None, headers: Optional[HeaderItems] = None) -> None:
        """Accept the connection; the decorator does it, unless it is told ``connect=False``.

        A second call does nothing.

        :param subprotocol: one of those the client offered; the route's preferred one when left out.
        :param headers: headers of the answer, by name.
        :raises ValueError: for a subprotocol that was not offered, or a header that cannot be sent; nothing is sent.
        :raises WebSocketStateError: for a second call with other arguments, or after ``close``.
        :raises WebSocketDisconnect: if the client is gone.
        :raises HTTPException: 503, if the application is being drained; left alone, it is the denial.
        """
        if self._state is not CONNECTING:
            return self._connected_before(subprotocol, headers)
        if self._loop is None:
            await self._receive_handshake()
        if subprotocol is None:
            if self.settings.subprotocols:
                subprotocol = self._preferred_subprotocol()
        elif subprotocol not in self.subprotocols:
            raise ValueError(
                'The client did not offer the subprotocol %r, only %r: connect with one of these or with none '
                '(RFC 6455 section 4.2.2).' % (subprotocol, list(self.subprotocols))
            )
        encoded = encode_accept_headers(headers) if headers else []
        if self._ahead is not None or self._waits_since is not None:
            await self._look_again()
        self.subprotocol = subprotocol
        self._change(OPEN)
        try:
            await self._server_send({'type': 'websocket.accept', 'subprotocol': subprotocol, 'headers': encoded})
        except BaseException as exc:
            raise self._failure(exc, 'connect()') from None

    async def _receive_handshake(self) -> None:
        if self.scope['type'] != 'websocket':
            raise WebSocketStateError(
                'There is no WebSocket to connect on %s: it is a plain HTTP request. Ask ws.scope["type"] first.'
                % printable(self.scope['path'])
            )
        self._begin(await self._server_receive(), asyncio.get_running_loop(), True)

    def _connected_before(self, subprotocol: Optional[str], headers: Optional[HeaderItems]) -> None:
        if self._state is DISCONNECTED:
            raise self._told_disconnect()
        if self._state is CLOSED:
            raise self._refusal('connect()', 'Connect before closing, or not at all.')
        if headers or subprotocol not in (None, self.subprotocol):
            raise self._refusal(
                'connect(subprotocol=%r, headers=%r)' % (subprotocol, headers),
                'It was accepted with other arguments; say connect=False in the decorator to choose them yourself.',
            )

    def _preferred_subprotocol(self) -> Optional[str]:
        offered = self.subprotocols
        return next((name for name in self.settings.subprotocols if name in offered), None)

    async def _look_again(self) -> None:
        """Look whether the handshake may still be accepted, since something may have happened meanwhile."""
        if self._ahead is not None or (self._waits_since is not None and self._is_late(self._waits_since)):
            await self._require_client()
        if self._turned_away is not None:
            raise self._turned_away

    def _is_late(self, since: float) -> bool:
        return asyncio.get_running_loop().time() - since > QUICK

    def _turn_away(self, exc: HTTPException) -> None:
        """Have ``connect`` raise ``exc`` if it is called from now on."""
        self._turned_away = exc
        if self._waits_since is None:
            self._waits_since = asyncio.get_running_loop().time()

    async def _require_client(self) -> None:
        """Make sure that the client is still there, since the handshake took its time."""
        if self._ahead is None:
            self._read_ahead()
        for _ in range(SETTLING_TURNS):
            if self._state is DISCONNECTED:
                raise self._told_disconnect()
            await asyncio.sleep(0)

    async def deny(self, status: int, headers: Iterable[Tuple[str, str]] = (), body: bytes = b'') -> None:
        """Answer the handshake with an HTTP response; raise an ``HTTPException`` to have API Star make it.

        :param status: the HTTP status code.
        :param headers: name and value of each header.
        :param body: the bytes of the response.
        :raises ValueError: for a header that cannot be sent; nothing is sent.
        :raises WebSocketDisconnect: if the client is gone.
        :raises WebSocketStateError: once the handshake is answered.
        """
        if self._state is DISCONNECTED:
            raise self._told_disconnect()
        if self._state is not CONNECTING:
            raise self._refusal('deny()', 'A handshake is answered once; close() ends an open connection.')
        start = {'type': 'websocket.http.response.start', 'status': status, 'headers': encode_headers(headers)}
        self._was_refused = True
        self._change(CLOSED, CloseCode.ABNORMAL_CLOSURE, '')
        if 'websocket.http.response' not in (self.scope.get('extensions') or {}):
            return await self._deliver({'type': 'websocket.close'}, self._server_send)
        await self._deliver(start, self._server_send)
        await self._deliver({'type': 'websocket.http.response.body', 'body': body}, self._server_send)
        # uvicorn logs an error if the application returns before its transport has noted the end.
        await asyncio.sleep(0)

    # Expiry

    @property
    def expires_at(self) -> Optional[float]:
        """When the connection closes with 4401, in seconds since the epoch; None, the default, for never.

        Set it where the client is authenticated, in a component, a hook or the handler:
        ``ws.expires_at = claims['exp']``. Set it again to move it. It is looked at four times a second.

        :raises TypeError: for what is not a number, as it is set.
        :raises ValueError: for a number that no clock shows, as it is set.
        """
        return self._expires_at

    @expires_at.setter
    def expires_at(self, seconds: Optional[float]) -> None:
        if seconds is not None:
            require_time(seconds)
        self._expires_at = seconds
        self._wake_watch()

    # Receive

    @overload
    async def receive(self, message_type: None = None) -> Any: ...

    @overload
    async def receive(self, message_type: Type[T]) -> T: ...

    @overload
    async def receive(self, message_type: Any) -> Any: ...

    async def receive(self, message_type: Any = None) -> Any:
        """Return the next message: text or bytes, or an instance of what the route ``receives``.

        :param message_type: what this one message has to be: a ``types.Type``, a validator, or a list of types.
        :raises WebSocketDisconnect: once the client is gone, or was closed for breaking a limit.
        :raises InvalidMessage: if the message is not of that type.
        :raises WebSocketStateError: before ``connect``, after ``close``, or while another task receives.
        """
        if self._receiving:
            raise self._refusal('receive()', 'Another task of the handler is receiving: let one receive for all.')
        if not self._received:
            self._require_loop('receive()')
        self._receiving = True
        try:
            message = await self._pull()
        except BaseException as exc:
            self._wake_watch()
            raise self._failure(exc, 'receive()') from None
        finally:
            self._receiving = False
        self._received += 1
        data = message.get('text')
        if data is None or len(data) > self._small:
            data = await self._examine(message)
        return data if message_type is None else await self._receive_valid(Schema.for_one(message_type), data)

    recv = receive

    async def receive_text(self) -> str:
        """Return the next message, which has to be text.

        :raises UnsupportedMessage: if it is bytes; left alone, the connection closes with 1003.
        """
        data = await WebSocket.receive(self)
        if isinstance(data, str):
            return data
        raise UnsupportedMessage('Expected text, got bytes')

    async def receive_bytes(self) -> bytes:
        """Return the next message, which has to be bytes.

        :raises UnsupportedMessage: if it is text; left alone, the connection closes with 1003.
        """
        data = await WebSocket.receive(self)
        if isinstance(data, bytes):
            return data
        raise UnsupportedMessage('Expected bytes, got text')

    async def receive_json(self) -> Any:
        """Return the value of the next message, which has to be JSON, in text or in bytes.

        :raises InvalidMessage: if it is not; left alone, the connection closes with 1007.
        """
        return decode_json(self.settings.codec, await WebSocket.receive(self))

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._state is CLOSED:
            raise StopAsyncIteration
        try:
            return await self.receive()
        except WebSocketDisconnect:
            raise StopAsyncIteration from None
        except WebSocketStateError:
            # Another task of the handler has closed meanwhile.
            if self._state is not CLOSED:
                raise
            raise StopAsyncIteration from None

    async def _receive_valid(self, schema: Schema, data: Data) -> Any:
        """Return the instance that ``data`` makes, or that the first message after it makes that is valid."""
        while True:
            try:
                return schema.decode(decode_json(self.settings.codec, data))
            except InvalidMessage as exc:
                await self._answer_invalid(exc)
            data = await WebSocket.receive(self)

    async def _answer_invalid(self, exc: InvalidMessage) -> None:
        on_invalid = self.settings.on_invalid
        if on_invalid == 'close':
            raise exc
        if on_invalid == 'reply':
            return await self.send_json({self.settings.error_key: exc.detail})
        answer = on_invalid(self, exc)
        if inspect.isawaitable(answer):
            await answer

    async def _examine(self, message: Message) -> Data:
        """Return the data of a message that may be the disconnect, be too large or come too fast."""
        self._wake_watch()
        if message['type'] != 'websocket.receive':
            raise self._no_message(message)
        broken = self._broken_limit(message)
        if broken is not None:
            self._break(*broken)
            raise self._told_disconnect()
        return message_data(message)

    def _no_message(self, message: Message) -> Exception:
        if message['type'] != 'websocket.disconnect':
            return RuntimeError(
                'The server sent %r to %r, where ASGI knows websocket.receive and websocket.disconnect: '
                'use a server that speaks ASGI 3.' % (message['type'], self)
            )
        self._disconnected(message)
        return self._told_disconnect()

    # Send

    async def send(self, data: Any) -> None:
        """Send one message: a ``str`` as text, ``bytes`` as they are, a ``types.Type`` as JSON.

        Where the route declares what it ``sends``, the value is checked and encoded as that.

        :raises ValueError: for text that UTF-8 cannot encode; nothing is sent.
        :raises TypeError: for anything else; nothing is sent.
        :raises ValidationError: API Star's, for a value that is not what the route ``sends``; nothing is sent.
        :raises WebSocketDisconnect: once the client is gone.
        :raises WebSocketStateError: before ``connect`` and after ``close``.
        """
        if not self._sent:
            self._require_loop('send()')
        if self._sender is not None or type(data) is not str or not data.isascii():
            return await self._deliver(self._send_message(data), self._push)
        self._sender = current_task(self._loop)
        try:
            await self._push({'type': 'websocket.send', 'text': data})
        except BaseException as exc:
            raise self._failure(exc, 'send()') from None
        finally:
            self._sender = None
        self._sent = sent = self._sent + 1
        if sent % SENDS_PER_TURN == 0:
            await asyncio.sleep(0)

    async def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON text, by the codec of the application.

        :raises TypeError: or what else the codec raises for a value that JSON does not have; nothing is sent.
        """
        await WebSocket.send(self, self.settings.codec.dumps(value))

    def close(self, code: int = 1000, reason: str = '') -> Coroutine[Any, Any, None]:
        """Close the connection; before ``connect``, refuse it. The decorator does it after the handler.

        A second call, or one after the client has left, does nothing. The task that calls it decides: where it is not
        the handler's own, the handler is ended as if its client had left, with this code.

        :param code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4).
        :param reason: for the peer; cut to 123 bytes.
        :raises ValueError: for a code that must not be sent; nothing is sent.
        """
        return self._close(check_close_code(code), fit_reason(reason), self._is_called_by_another())

    def _is_called_by_another(self) -> bool:
        """Tell whether another task than the handler's is running, or none, as in another thread."""
        if self._owner is None:
            return False
        try:
            return asyncio.current_task() is not self._owner
        except RuntimeError:
            return True

    async def _close(self, code: int = 1000, reason: str = '', by_another: bool = False) -> None:
        """Close the connection with a code and a reason that are known to be allowed."""
        if by_another and self._state is OPEN:
            return await self._close_from_outside(code, reason)
        if self._state is not OPEN:
            if self._loop is None:
                await self._receive_handshake()
            if self._state is not CONNECTING:
                return
            self._was_refused = True
        self._change(CLOSED, code, reason)
        try:
            await self._deliver(close_message(code, reason), self._server_send)
        except WebSocketDisconnect:
            logger.debug('%r: the client left before the close.', self)
        except asyncio.CancelledError:
            # Given up by the handler, the close is still owed to the client.
            self._close_later(code, reason)
            raise

    async def _close_from_outside(self, code: int, reason: str) -> None:
        """Close, and leave it to the watch to end a handler that is not told by what it awaits."""
        self._give_up(code, reason)
        assert self._closing is not None
        await asyncio.wait({self._closing})

    def _send_message(self, data: Any) -> Message:
        if isinstance(data, str):
            return {'type': 'websocket.send', 'text': encodable(data)}
        if isinstance(data, (bytes, bytearray, memoryview)):
            return {'type': 'websocket.send', 'bytes': bytes(data)}
        if isinstance(data, types.Type):
            return {'type': 'websocket.send', 'text': encodable(self.settings.codec.dumps(data))}
        raise TypeError(
            'send() takes text, bytes or a types.Type, not %s: send_json() sends any JSON.' % type(data).__name__
        )


class TypedWebSocket(WebSocket):
    """The WebSocket of a route that declares what it ``receives`` or ``sends``; handlers see a ``WebSocket``.

    :param receives: what every message from the client has to be, or None.
    :param sends: what every message to the client has to be, or None.
    """

    __slots__ = ('_receives', '_sends')

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: Settings,
        path_params: Mapping[str, Any],
        owner: Task,
        receives: Optional[Schema],
        sends: Optional[Schema],
    ) -> None:
        super().__init__(scope, receive, send, settings, path_params, owner)
        self._receives = receives
        self._sends = sends

    async def receive(self, message_type: Any = None) -> Any:
        """Return the next message as an instance of what the route ``receives``; see ``WebSocket.receive``."""
        if message_type is not None or self._receives is None:
            return await super().receive(message_type)
        return await self._receive_valid(self._receives, await WebSocket.receive(self))

    recv = receive

    async def send(self, data: Any) -> None:
        """Check ``data`` against what the route ``sends``, and send it as JSON; see ``WebSocket.send``."""
        if self._sends is None:
            return await super().send(data)
        await WebSocket.send(self, self._sends.dumps(self.settings.codec, data))


def require_time(seconds: Any) -> None:
    """Refuse what is no time in seconds since the epoch.

    :raises TypeError: for what is not a number.
    :raises ValueError: for what is so far away that it is in another unit, or no time at all.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError('expires_at is a number of seconds since the epoch, as in a JWT, not %r.' % (seconds,))
    if not -LAST_TIME < seconds < LAST_TIME:
        raise ValueError(
            'expires_at is a time in seconds since the epoch, and not in milliseconds; this one is not before the '
            'year 33658. Set None for a connection that does not expire.'
        )


def encodable(text: str) -> str:
    """Return ``text`` if UTF-8 can encode it; servers fail in the middle of a frame where it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(
            'The text holds %r at position %d, a lone surrogate that UTF-8 cannot encode: '
            'nothing was sent.' % (text[exc.start], exc.start)
        ) from None
    return str(text)
