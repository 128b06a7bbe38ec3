"""The handler's half of a connection: connect, receive, send and close."""

import asyncio
import functools
import inspect
import logging
from types import MappingProxyType
from typing import Any, AsyncIterator, Coroutine, Dict, Iterable, Mapping, Optional, Tuple, Type, TypeVar, overload

from apistar import http, types
from werkzeug.sansio.http import parse_cookie

from apistar_ws.codes import CloseCode, check_close_code, fit_reason
from apistar_ws.connection.asgi import broken_limit, message_data
from apistar_ws.connection.connection import SENDS_PER_YIELD, SLOW_HANDSHAKE, Connection, call_error, require_client
from apistar_ws.connection.ending import NO_ENDING
from apistar_ws.connection.handshake import (
    HeaderItems,
    connection_url,
    decode_headers,
    encode_accept_headers,
    encode_headers,
    printable,
    query_pairs,
)
from apistar_ws.connection.state import WebSocketState
from apistar_ws.exceptions import InvalidMessage, UnsupportedMessage, WebSocketDisconnect, WebSocketStateError
from apistar_ws.interruption import Task, current_task, is_current
from apistar_ws.messages.codecs import decode_json
from apistar_ws.messages.schema import Schema
from apistar_ws.settings import Settings
from apistar_ws.types import Data, Message, Receive, Scope, Send

logger = logging.getLogger('apistar_ws')

T = TypeVar('T')
_new: Any = object.__new__

#: The latest expiry, in seconds since the epoch; a time in milliseconds is later.
_MAX_EXPIRY_TIME = 1e12
_DEFAULT_SETTINGS = Settings()
_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
CONNECTING, OPEN, CLOSED, DISCONNECTED = WebSocketState


class Handshake:
    """The read-only part of a ``WebSocket``: the handshake, the state, the close code and reason."""

    __slots__ = ('_connection', '__dict__')

    _connection: Connection

    @property
    def scope(self) -> Scope:
        """The ASGI scope of the connection."""
        return self._connection.scope

    @property
    def path_params(self) -> Mapping[str, Any]:
        """The parameters of the path, converted."""
        return self._connection.path_params

    @property
    def settings(self) -> Settings:
        """The limits of the route."""
        return self._connection.settings

    @property
    def subprotocol(self) -> Optional[str]:
        """The subprotocol that was accepted, or None."""
        return self._connection.subprotocol

    @property
    def state(self) -> WebSocketState:
        """The state of the connection."""
        return self._connection.state

    @property
    def close_code(self) -> Optional[int]:
        """The close code, once the connection is over."""
        return self._connection.close_code

    @property
    def close_reason(self) -> Optional[str]:
        """The close reason, once the connection is over."""
        return self._connection.close_reason

    @property
    def disconnected(self) -> bool:
        """Whether the connection is over, but was not closed by the handler."""
        return self._connection.state is DISCONNECTED

    @functools.cached_property
    def headers(self) -> http.Headers:
        """The headers of the handshake; ``get_list`` returns repeated ones."""
        return http.Headers(decode_headers(self.scope))

    @functools.cached_property
    def query_params(self) -> http.QueryParams:
        """The query parameters as text; to have them validated, declare them as arguments of the handler."""
        return http.QueryParams(query_pairs(self.scope.get('query_string', b'').decode('utf-8', 'replace')))

    @functools.cached_property
    def cookies(self) -> Dict[str, str]:
        """The cookies of the handshake; the first of a name counts (RFC 6265 section 5.4)."""
        return parse_cookie(self.headers.get('cookie')).to_dict()

    @functools.cached_property
    def url(self) -> http.URL:
        """The URL that the client requested, ``ws`` or ``wss``, with its port if that is not the default."""
        return http.URL(connection_url(self.scope))

    @property
    def client(self) -> Optional[Tuple[str, int]]:
        """Host and port of the peer, or None if the server does not know them."""
        client = self.scope.get('client')
        return None if client is None else (client[0], client[1])

    @property
    def subprotocols(self) -> Tuple[str, ...]:
        """The subprotocols that the client offered, the preferred one first."""
        return tuple(self.scope.get('subprotocols') or ())


class WebSocket(Handshake):
    """One connection: annotate a handler's argument with it, ``ws: WebSocket``.

    The decorator connects before the handler and closes after it; in between, call ``receive`` and ``send``, or iterate
    with ``async for message in ws``. You may set attributes on it, under names that it does not use itself.

    :param scope: the ASGI scope of the connection.
    :param receive: the server's ``receive``.
    :param send: the server's ``send``.
    :param settings: the limits of the route.
    :param path_params: the parameters of the path, converted.
    :param owner: the task that the handler runs in.
    """

    __slots__ = ('__weakref__',)

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: Settings = _DEFAULT_SETTINGS,
        path_params: Mapping[str, Any] = _NO_PARAMS,
        owner: Task = None,
    ) -> None:
        self._connection = Connection(scope, receive, send, settings, path_params, owner)

    def __repr__(self) -> str:
        return repr(self._connection)

    # Handshake

    async def connect(self, subprotocol: Optional[str] = None, headers: Optional[HeaderItems] = None) -> None:
        """Accept the connection; the decorator does it, except with ``connect=False``.

        A second call does nothing.

        :param subprotocol: one that the client offered; by default the one that the route prefers.
        :param headers: headers of the answer, by name.
        :raises ValueError: for a subprotocol that was not offered, or a header that cannot be sent; nothing is sent.
        :raises WebSocketStateError: for a second call with other arguments, or after ``close``.
        :raises WebSocketDisconnect: if the client is gone.
        :raises HTTPException: 503, if the application is being drained; not caught, it denies the handshake.
        """
        connection = self._connection
        if connection.state is not CONNECTING:
            return self._connected_before(subprotocol, headers)
        if connection.loop is None:
            await self._receive_handshake()
        if subprotocol is None:
            if connection.settings.subprotocols:
                offered = self.subprotocols
                subprotocol = next((name for name in connection.settings.subprotocols if name in offered), None)
        elif subprotocol not in self.subprotocols:
            raise ValueError(
                'The client did not offer the subprotocol %r, only %r: connect with one of these or with none '
                '(RFC 6455 section 4.2.2).' % (subprotocol, list(self.subprotocols))
            )
        encoded = encode_accept_headers(headers) if headers else []
        if connection.ending is not NO_ENDING or connection.ahead is not None:
            await self._require_acceptable()
        connection.subprotocol = subprotocol
        connection.change_state(OPEN)
        try:
            await connection.server_send({'type': 'websocket.accept', 'subprotocol': subprotocol, 'headers': encoded})
        except BaseException as exc:
            raise call_error(connection, exc, 'connect()') from None

    async def _receive_handshake(self) -> None:
        connection = self._connection
        if connection.scope['type'] != 'websocket':
            raise WebSocketStateError(
                'There is no WebSocket to connect on %s: it is a plain HTTP request. Check ws.scope["type"] first.'
                % printable(connection.scope['path'])
            )
        connection.begin(await connection.server_receive(), asyncio.get_running_loop())

    def _connected_before(self, subprotocol: Optional[str], headers: Optional[HeaderItems]) -> None:
        connection = self._connection
        if connection.state is DISCONNECTED:
            raise connection.disconnect_error()
        if connection.state is CLOSED:
            raise connection.state_error('connect()', 'Connect before closing, or not at all.')
        if headers or subprotocol not in (None, connection.subprotocol):
            raise connection.state_error(
                'connect(subprotocol=%r, headers=%r)' % (subprotocol, headers),
                'It was accepted with other arguments; write connect=False in the decorator to choose them yourself.',
            )

    async def _require_acceptable(self) -> None:
        """Check that a handshake that took long can still be accepted."""
        connection = self._connection
        since = connection.ending.waiting_since
        if connection.ahead is not None or (
            since is not None and asyncio.get_running_loop().time() - since > SLOW_HANDSHAKE
        ):
            await require_client(connection)
        if connection.ending.denial is not None:
            raise connection.ending.denial

    def deny(
        self, status: int, headers: Iterable[Tuple[str, str]] = (), body: bytes = b''
    ) -> Coroutine[Any, Any, None]:
        """Answer the handshake with an HTTP response; raise an ``HTTPException`` to let API Star make it.

        :param status: the HTTP status code.
        :param headers: name and value of each header.
        :param body: the bytes of the response.
        :raises ValueError: for a header that cannot be sent; nothing is sent.
        :raises WebSocketDisconnect: if the client is gone.
        :raises WebSocketStateError: once the handshake is answered.
        """
        return self._deny(status, headers, body, not is_current(self._connection.owner))

    async def _deny(self, status: int, headers: Iterable[Tuple[str, str]], body: bytes, by_another: bool) -> None:
        connection = self._connection
        if connection.state is DISCONNECTED:
            raise connection.disconnect_error()
        if connection.state is not CONNECTING:
            raise connection.state_error('deny()', 'A handshake is answered once; close() ends an open connection.')
        start = {'type': 'websocket.http.response.start', 'status': status, 'headers': encode_headers(headers)}
        connection.own_ending().is_refused = True
        # The watch cancels a handler that another task has denied.
        connection.change_state(DISCONNECTED if by_another else CLOSED, CloseCode.ABNORMAL_CLOSURE, '')
        send = connection.server_send
        if 'websocket.http.response' not in (connection.scope.get('extensions') or {}):
            return await connection.deliver({'type': 'websocket.close', 'code': 1000, 'reason': ''}, send)
        await connection.deliver(start, send)
        await connection.deliver({'type': 'websocket.http.response.body', 'body': body}, send)
        # uvicorn logs an error if the application returns before the transport has noted the end.
        await asyncio.sleep(0)

    # Expiry

    @property
    def expires_at(self) -> Optional[float]:
        """When the connection closes with 4401, in seconds since the epoch; None, the default, for never.

        Set it where the client is authenticated, in a component, a hook or the handler:
        ``ws.expires_at = claims['exp']``. Set it again to change it. It is checked four times a second.

        :raises TypeError: when set to a value that is not a number.
        :raises ValueError: when set to a number that is not a time, or is in milliseconds.
        """
        return self._connection.ending.expires_at

    @expires_at.setter
    def expires_at(self, seconds: Optional[float]) -> None:
        if seconds is not None:
            _require_time(seconds)
        self._connection.own_ending().expires_at = seconds
        self._connection.wake_watch()

    # Receive

    @overload
    async def receive(self, message_type: None = None) -> Any: ...

    @overload
    async def receive(self, message_type: Type[T]) -> T: ...

    @overload
    async def receive(self, message_type: Any) -> Any: ...

    async def receive(self, message_type: Any = None) -> Any:
        """Return the next message: text or bytes, or an instance of the type that the route ``receives``.

        :param message_type: the type of this one message: a ``types.Type``, a validator, or a list of types.
        :raises WebSocketDisconnect: once the client is gone, or was closed for breaking a limit.
        :raises InvalidMessage: if the message is not of that type.
        :raises WebSocketStateError: before ``connect``, after ``close``, or while another task receives.
        """
        connection = self._connection
        if connection.is_receiving:
            raise connection.state_error(
                'receive()', 'Another task of the handler is receiving: let one do it for all.'
            )
        if not connection.received and connection.loop not in (None, asyncio.get_running_loop()):
            raise _foreign_loop_error('receive()', self)
        connection.is_receiving = True
        try:
            message = await connection.pull()
        except BaseException as exc:
            connection.wake_watch()
            raise call_error(connection, exc, 'receive()') from None
        finally:
            connection.is_receiving = False
        connection.received += 1
        data = message.get('text')
        if data is None or len(data) > connection.small_message:
            data = self._examine(message)
        return data if message_type is None else await self._receive_valid(Schema.for_one(message_type), data)

    recv = receive

    async def receive_text(self) -> str:
        """Return the next message, which has to be text.

        :raises UnsupportedMessage: if it is bytes; not caught, it closes the connection with 1003.
        """
        data = await _receive_data(self)
        if isinstance(data, str):
            return data
        raise UnsupportedMessage('Expected text, got bytes')

    async def receive_bytes(self) -> bytes:
        """Return the next message, which has to be bytes.

        :raises UnsupportedMessage: if it is text; not caught, it closes the connection with 1003.
        """
        data = await _receive_data(self)
        if isinstance(data, bytes):
            return data
        raise UnsupportedMessage('Expected bytes, got text')

    async def receive_json(self) -> Any:
        """Return the decoded value of the next message, which has to be JSON, as text or bytes.

        :raises InvalidMessage: if it is not; not caught, it closes the connection with 1007.
        """
        return decode_json(self.settings.codec, await _receive_data(self))

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except WebSocketDisconnect:
            raise StopAsyncIteration from None
        except WebSocketStateError:
            # The handler has closed the connection, or another task of its has.
            if self._connection.state is not CLOSED:
                raise
            raise StopAsyncIteration from None

    async def _receive_valid(self, schema: Schema, data: Data) -> Any:
        """Return ``data``, or the first valid message after it, as an instance of its type."""
        while True:
            try:
                return schema.decode(decode_json(self.settings.codec, data))
            except InvalidMessage as exc:
                await self._answer_invalid(exc)
            data = await _receive_data(self)

    async def _answer_invalid(self, exc: InvalidMessage) -> None:
        on_invalid = self.settings.on_invalid
        if on_invalid == 'close':
            raise exc
        if on_invalid == 'reply':
            return await self.send_json({self.settings.error_key: exc.detail})
        answer = on_invalid(self, exc)
        if inspect.isawaitable(answer):
            await answer

    def _examine(self, message: Message) -> Data:
        """Return the data of a message; it may be a disconnect, too large or too fast."""
        connection = self._connection
        if connection.small_message < 0:
            # The connection was idle: the watch has not seen the handler receive.
            connection.last_received = asyncio.get_running_loop().time()
        connection.wake_watch()
        if message['type'] == 'websocket.disconnect':
            connection.note_disconnect(message)
            raise connection.disconnect_error()
        if message['type'] != 'websocket.receive':
            raise RuntimeError(
                'The server sent %r to %r, where ASGI knows websocket.receive and websocket.disconnect: '
                'use a server that speaks ASGI 3.' % (message['type'], self)
            )
        broken = broken_limit(message, connection.settings)
        if broken is not None:
            connection.close_for_limit(*broken)
            raise connection.disconnect_error()
        return message_data(message)

    # Send

    async def send(self, data: Any) -> None:
        """Send one message: a ``str`` as text, ``bytes`` as they are, a ``types.Type`` as JSON.

        If the route declares what it ``sends``, the value is checked and encoded as that type.

        :raises ValueError: for text that UTF-8 cannot encode; nothing is sent.
        :raises TypeError: for anything else; nothing is sent.
        :raises ValidationError: API Star's, for a value that is not of the type the route ``sends``; nothing is sent.
        :raises WebSocketDisconnect: once the client is gone.
        :raises WebSocketStateError: before ``connect`` and after ``close``.
        """
        connection = self._connection
        if not connection.sent and connection.loop not in (None, asyncio.get_running_loop()):
            raise _foreign_loop_error('send()', self)
        if connection.sender is not None or type(data) is not str or not data.isascii():
            return await connection.deliver(self._send_message(data), connection.push)
        connection.sender = current_task(connection.loop)
        try:
            await connection.push({'type': 'websocket.send', 'text': data})
        except BaseException as exc:
            raise call_error(connection, exc, 'send()') from None
        finally:
            connection.sender = None
        connection.sent = sent = connection.sent + 1
        if not sent & (SENDS_PER_YIELD - 1):
            await asyncio.sleep(0)

    async def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON text, encoded by the codec of the application.

        :raises TypeError: or another exception of the codec, for a value that JSON does not have; nothing is sent.
        """
        await send_data(self, self.settings.codec.dumps(value))

    def close(self, code: int = 1000, reason: str = '') -> Coroutine[Any, Any, None]:
        """Close the connection; before ``connect``, deny it. The decorator does it after the handler.

        A second call, or one after the client has left, does nothing. If a task other than the handler's calls it, the
        handler ends as if its client had left with this code.

        :param code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4).
        :param reason: for the peer; cut to 123 bytes.
        :raises ValueError: for a code that must not be sent; nothing is sent.
        """
        return self._close(check_close_code(code), fit_reason(reason), not is_current(self._connection.owner))

    async def _close(self, code: int, reason: str, by_another: bool) -> None:
        connection = self._connection
        if connection.loop not in (None, asyncio.get_running_loop()):
            raise _foreign_loop_error('close()', self)
        if connection.loop is None:
            await self._receive_handshake()
        if not by_another or connection.is_over:
            return await connection.close(code, reason)
        if connection.state is CONNECTING:
            connection.own_ending().is_refused = True
        # The watch cancels a handler that does not notice.
        connection.close_without_waiting(code, reason)
        assert connection.ending.closing is not None
        await asyncio.wait({connection.ending.closing}, timeout=connection.settings.send_timeout)

    def _send_message(self, data: Any) -> Message:
        if isinstance(data, str):
            return {'type': 'websocket.send', 'text': _encodable(data)}
        if isinstance(data, (bytes, bytearray, memoryview)):
            return {'type': 'websocket.send', 'bytes': bytes(data)}
        if isinstance(data, types.Type):
            return {'type': 'websocket.send', 'text': _encodable(self.settings.codec.dumps(data))}
        raise TypeError(
            'send() takes text, bytes or a types.Type, not %s: send_json() sends any JSON.' % type(data).__name__
        )


#: Receive and send without the types that the route declares.
_receive_data, send_data = WebSocket.receive, WebSocket.send


def connection_of(ws: WebSocket) -> Connection:
    """Return the package's half of a connection."""
    return ws._connection


class TypedWebSocket(WebSocket):
    """The WebSocket of a route that declares what it ``receives`` or ``sends``; handlers are annotated ``WebSocket``.

    It is made by :func:`typed_websocket_of`.
    """

    __slots__ = ('_receives', '_sends')

    _receives: Optional[Schema]
    _sends: Optional[Schema]

    async def receive(self, message_type: Any = None) -> Any:
        """Return the next message as an instance of the type the route ``receives``; see ``WebSocket.receive``."""
        if message_type is not None or self._receives is None:
            return await super().receive(message_type)
        return await self._receive_valid(self._receives, await _receive_data(self))

    recv = receive

    async def send(self, data: Any) -> None:
        """Check ``data`` against the type the route ``sends``, and send it as JSON; see ``WebSocket.send``."""
        if self._sends is None:
            return await super().send(data)
        await send_data(self, self._sends.dumps(self.settings.codec, data))


def websocket_of(connection: Connection) -> WebSocket:
    """Return the WebSocket for a connection; cheaper than a call of the class."""
    ws: WebSocket = _new(WebSocket)
    ws._connection = connection
    return ws


def typed_websocket_of(
    connection: Connection, receives: Optional[Schema] = None, sends: Optional[Schema] = None
) -> WebSocket:
    """Return the WebSocket for a connection of a route that declares the types of its messages."""
    ws: TypedWebSocket = _new(TypedWebSocket)
    ws._connection, ws._receives, ws._sends = connection, receives, sends
    return ws


def _foreign_loop_error(call: str, ws: WebSocket) -> RuntimeError:
    """Return the error for a call from another event loop, which could neither be woken nor cancelled.

    Checked at the first call only, since each message would pay for it.
    """
    return RuntimeError(
        '%s of %r was called outside of its event loop, in another thread for example: use '
        'asyncio.run_coroutine_threadsafe.' % (call, ws)
    )


def _require_time(seconds: Any) -> None:
    """Refuse a value that is not a time in seconds since the epoch.

    :raises TypeError: for a value that is not a number.
    :raises ValueError: for a number that is so large that it is in another unit, or is not a time.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError('expires_at is a number of seconds since the epoch, as in a JWT, not %r.' % (seconds,))
    if not -_MAX_EXPIRY_TIME < seconds < _MAX_EXPIRY_TIME:
        raise ValueError(
            'expires_at is a time in seconds since the epoch, and not in milliseconds; this one is not before the '
            'year 33658. Set None for a connection that does not expire.'
        )


def _encodable(text: str) -> str:
    """Return ``text`` as a plain ``str``.

    :raises ValueError: if UTF-8 cannot encode it, where servers would fail in the middle of a frame.
    """
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(
            'The text holds %r at position %d, a lone surrogate that UTF-8 cannot encode: '
            'nothing was sent.' % (text[exc.start], exc.start)
        ) from None
    return str(text)
