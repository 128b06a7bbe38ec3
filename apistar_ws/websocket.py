"""The channel between a handler and its client: one state machine over the ASGI websocket messages."""

import asyncio
import contextlib
import enum
import functools
import inspect
import logging
import sys
from collections import deque
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Deque,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Set,
    Tuple,
    Union,
)
from urllib.parse import parse_qsl

import werkzeug.http
from apistar import http, types

from apistar_ws.codes import CloseCode, check_close_code, fit_reason
from apistar_ws.exceptions import InvalidMessage, UnsupportedMessage, WebSocketDisconnect, WebSocketStateError
from apistar_ws.messages import Schema, decode_json
from apistar_ws.origins import DEFAULT_PORTS
from apistar_ws.readahead import Message, ReadAhead, Receive
from apistar_ws.settings import Settings, is_token

logger = logging.getLogger('apistar_ws')

if sys.version_info >= (3, 12):  # pragma: no cover
    current_task = asyncio.current_task
else:  # pragma: no cover
    # The same look-up: before 3.12 asyncio's own is written in Python, and a send would pay for it.
    current_task = asyncio.tasks._current_tasks.get

Scope = Dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Data = Union[str, bytes]
HeaderItems = Union[Mapping[str, str], Iterable[Tuple[str, str]]]

#: A handler that sends without end gives way to the other connections after so many messages.
SENDS_PER_TURN = 1024
#: Seconds that a client which does not read is given to take the close frame.
CLOSE_PATIENCE = 10.0
#: Methods that tell of a disconnect.
CALLS = frozenset(['receive', 'receive_text', 'receive_bytes', 'receive_json', 'send', 'send_json', '__anext__'])
DEFAULT_SETTINGS = Settings()
NO_PARAMS: Mapping[str, Any] = {}


class WebSocketState(enum.Enum):
    """Where a channel stands; ``ws.state``.

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


class NotOpen(Exception):
    """Raised in place of the server's ``receive`` and ``send`` while the channel is not open."""


async def not_open(*message: Message) -> Any:
    """Stand in for the server's ``receive`` and ``send`` while the channel is not open."""
    raise NotOpen


class WebSocket:
    """The channel of one connection: annotate a handler's argument with it, ``ws: WebSocket``.

    The decorator connects before the handler and closes after it; in between, ``receive`` and ``send``, or
    ``async for message in ws``. Attributes of your own may be set on it.

    :param scope: the ASGI scope of the connection.
    :param receive: the server's ``receive``.
    :param send: the server's ``send``.
    :param settings: the limits of the route.
    :param path_params: the parameters of the path, converted.
    """

    # Slots, for what every message touches; __dict__ for what is asked for now and then, and for the user's own.
    __slots__ = (
        'scope', 'server_receive', 'server_send', 'settings', 'path_params', 'state', 'subprotocol', 'close_code',
        'close_reason', '_small', '_pull', '_push', '_receiving', '_received', '_sender', '_sent', '_ahead', '_told',
        '_handshaken', 'unfinished', '_loop', '_owner', '_closing', '__dict__', '__weakref__',
    )  # fmt: skip

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: Settings = DEFAULT_SETTINGS,
        path_params: Mapping[str, Any] = NO_PARAMS,
    ) -> None:
        #: The ASGI scope of the connection.
        self.scope = scope
        #: The limits of the route.
        self.settings = settings
        #: The parameters of the path, converted.
        self.path_params = path_params
        #: Where the channel stands.
        self.state = CONNECTING
        #: The subprotocol that was accepted, or None.
        self.subprotocol: Optional[str] = None
        #: The close code, once the connection is over.
        self.close_code: Optional[int] = None
        #: The close reason, once the connection is over.
        self.close_reason: Optional[str] = None
        self.server_receive = receive
        self.server_send = send
        # What receive() and send() await in the present state: while OPEN, the server's own.
        self._pull: Receive = not_open
        self._push: Send = not_open
        self._small = settings.small_message
        # What the watch looks at.
        self._receiving = False
        self._received = 0
        self._sender: Optional['asyncio.Task[Any]'] = None
        self._sent = 0
        self._ahead: Optional[ReadAhead] = None
        self._told = False
        # The task that the handler runs in, and how it is being ended.
        self._handshaken = False
        #: Whether anything of the connection outlives its handler, for ``finish`` to end.
        self.unfinished = False
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._owner: Optional['asyncio.Task[Any]'] = None
        self._closing: Optional['asyncio.Task[None]'] = None

    def __repr__(self) -> str:
        return '<WebSocket %s %s>' % (self.scope.get('path'), self.state.value)

    # What a handler wants to read

    @functools.cached_property
    def headers(self) -> http.Headers:
        """The headers of the handshake; repeated ones by ``get_list``."""
        return http.Headers(decode_headers(self.scope))

    @functools.cached_property
    def query_params(self) -> http.QueryParams:
        """The query parameters as text; declare them as arguments of the handler to have them validated."""
        return http.QueryParams(parse_qsl(self.scope.get('query_string', b'').decode()))

    @functools.cached_property
    def cookies(self) -> Dict[str, str]:
        """The cookies of the handshake; the first of a name counts (RFC 6265 section 5.4)."""
        return werkzeug.http.parse_cookie(self.headers.get('cookie')).to_dict()

    @functools.cached_property
    def url(self) -> http.URL:
        """The URL that the client asked for, ``ws`` or ``wss``, with its port where that is not the default."""
        return http.URL(connection_url(self.scope))

    @property
    def client(self) -> Optional[Tuple[str, int]]:
        """Host and port of the peer, or None where the server does not know them."""
        client = self.scope.get('client')
        return None if client is None else (client[0], client[1])

    @property
    def subprotocols(self) -> Tuple[str, ...]:
        """The subprotocols that the client offered, its preferred one first."""
        return tuple(self.scope.get('subprotocols') or ())

    # Handshake

    async def handshake(self) -> None:
        """Receive the client's handshake; called before hooks and components, and by ``connect``.

        A handler has no need of it.

        :raises WebSocketDisconnect: if the client is gone already.
        """
        if self.scope['type'] != 'websocket':
            raise WebSocketStateError(
                'There is no WebSocket to connect on %s: it is a plain HTTP request. Ask ws.scope["type"] first.'
                % self.scope['path']
            )
        if not self._handshaken:
            self.begin(await self.server_receive(), asyncio.get_running_loop())

    def begin(self, message: Message, loop: asyncio.AbstractEventLoop) -> None:
        """Take the first message of the server; the application does it.

        :param message: ``websocket.connect``, or the disconnect of a client that did not wait.
        :param loop: the event loop that the connection runs on.
        :raises WebSocketDisconnect: if the client is gone already.
        """
        self._handshaken = True
        self._loop = loop
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
        """
        if self.state is not CONNECTING:
            return self._connected_before(subprotocol, headers)
        if not self._handshaken:
            await self.handshake()
        if subprotocol is None:
            if self.settings.subprotocols:
                subprotocol = self._preferred_subprotocol()
        elif subprotocol not in self.subprotocols:
            raise ValueError(
                'The client did not offer the subprotocol %r, only %r: connect with one of these or with none '
                '(RFC 6455 section 4.2.2).' % (subprotocol, list(self.subprotocols))
            )
        encoded = encode_headers(headers) if headers else []
        for name, _ in encoded:
            if name.decode() in RESERVED_HEADERS:
                raise ValueError('The header %s is the server\'s: connect() takes the subprotocol.' % name.decode())
        if self._ahead is not None:
            await self.require_client()
        self.state = OPEN
        self.subprotocol = subprotocol
        self._pull = self.server_receive if self._ahead is None else self._receive_ahead
        self._push = self.server_send
        try:
            await self.server_send({'type': 'websocket.accept', 'subprotocol': subprotocol, 'headers': encoded})
        except BaseException as exc:
            raise self._failure(exc, 'connect()') from None

    def _connected_before(self, subprotocol: Optional[str], headers: Optional[HeaderItems]) -> None:
        if self.state is DISCONNECTED:
            raise self._told_disconnect()
        if self.state is CLOSED:
            raise self._refusal('connect()', 'Connect before closing, or not at all.')
        if headers or subprotocol not in (None, self.subprotocol):
            raise self._refusal(
                'connect(subprotocol=%r, headers=%r)' % (subprotocol, headers),
                'It was accepted with other arguments; say connect=False in the decorator to choose them yourself.',
            )

    def _preferred_subprotocol(self) -> Optional[str]:
        offered = self.subprotocols
        return next((name for name in self.settings.subprotocols if name in offered), None)

    async def require_client(self) -> None:
        """Make sure that the client is still there; called when the handshake took its time.

        :raises WebSocketDisconnect: if it is gone.
        """
        if self._ahead is None:
            self.read_ahead()
        # One turn of the event loop: what the server knows of the client is read in it.
        await asyncio.sleep(0)
        if self.state is DISCONNECTED:
            raise self._told_disconnect()

    async def deny(self, status: int, headers: Iterable[Tuple[str, str]] = (), body: bytes = b'') -> None:
        """Answer the handshake with an HTTP response; raise an ``HTTPException`` to have API Star make it.

        :param status: the HTTP status code.
        :param headers: name and value of each header.
        :param body: the bytes of the response.
        :raises WebSocketDisconnect: if the client is gone.
        :raises WebSocketStateError: once the handshake is answered.
        """
        if self.state is DISCONNECTED:
            raise self._told_disconnect()
        if self.state is not CONNECTING:
            raise self._refusal('deny()', 'A handshake is answered once; close() ends an open connection.')
        start = {'type': 'websocket.http.response.start', 'status': status, 'headers': encode_headers(headers)}
        self._closed(CloseCode.ABNORMAL_CLOSURE, '')
        if 'websocket.http.response' not in (self.scope.get('extensions') or {}):
            return await self._deliver({'type': 'websocket.close'}, self.server_send)
        await self._deliver(start, self.server_send)
        await self._deliver({'type': 'websocket.http.response.body', 'body': body}, self.server_send)
        # uvicorn logs an error if the application returns before its transport has noted the end.
        await asyncio.sleep(0)

    # Receive

    async def receive(self, message_type: Any = None) -> Any:
        """Return the next message: text or bytes, or an instance of what the route ``receives``.

        :param message_type: what this one message has to be: a ``types.Type``, a validator, or a list of types.
        :raises WebSocketDisconnect: once the client is gone, or was closed for breaking a limit.
        :raises InvalidMessage: if the message is not of that type.
        :raises WebSocketStateError: before ``connect``, after ``close``, or while another task receives.
        """
        if self._receiving:
            raise self._refusal('receive()', 'Another task of the handler is receiving: let one receive for all.')
        self._receiving = True
        try:
            message = await self._pull()
        except BaseException as exc:
            raise self._failure(exc, 'receive()') from None
        finally:
            self._receiving = False
        self._received += 1
        data = message.get('text')
        if data is None or len(data) > self._small:
            data = await self._examine(message)
        return data if message_type is None else await self._receive_valid(Schema(message_type), data)

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
        if self.state is CLOSED:
            raise StopAsyncIteration
        try:
            return await self.receive()
        except WebSocketDisconnect:
            raise StopAsyncIteration from None
        except WebSocketStateError:
            # Another task of the handler has closed meanwhile.
            if self.state is not CLOSED:
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
            return await self.send_json(exc.detail)
        answer = on_invalid(self, exc)  # type: ignore[operator]
        if inspect.isawaitable(answer):
            await answer

    async def _examine(self, message: Message) -> Data:
        """Return the data of a message that may be the disconnect, be too large or come too fast."""
        if message['type'] == 'websocket.disconnect':
            self._disconnected(message)
            raise self._told_disconnect()
        text = message.get('text')
        data: Data = text if text is not None else message.get('bytes') or b''
        limit = self.settings.max_message_size
        if limit is not None and is_longer(data, limit):
            await self._end_for(CloseCode.MESSAGE_TOO_BIG, 'Message larger than %d bytes' % limit)
        rate = self.settings.max_messages_per_second
        # Received ahead, a message has the time of its arrival: that the handler was busy is not the client's fault.
        arrival = message.get('arrival') or asyncio.get_running_loop().time()
        if rate is not None and self._comes_too_fast(int(rate), arrival):
            await self._end_for(CloseCode.POLICY_VIOLATION, 'More than %d messages per second' % rate)
        return data

    @functools.cached_property
    def _arrivals(self) -> Deque[float]:
        return deque()

    def _comes_too_fast(self, rate: int, arrival: float) -> bool:
        arrivals = self._arrivals
        arrivals.append(arrival)
        return len(arrivals) > rate and arrival - arrivals.popleft() < 1.0

    async def _receive_ahead(self) -> Message:
        """Take what was received ahead; then let the handler receive by itself again."""
        assert self._ahead is not None
        message = await self._ahead.take()
        if self._ahead is not None and self._ahead.drained:
            self._ahead = None
            self._pull = self.server_receive if self.state is OPEN else not_open
        return message if message is not None else await self._pull()

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

    async def close(self, code: int = 1000, reason: str = '') -> None:
        """Close the connection; before ``connect``, refuse it. The decorator does it after the handler.

        A second call, or one after the client has left, does nothing.

        :param code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4).
        :param reason: for the peer; cut to 123 bytes.
        :raises ValueError: for a code that must not be sent; nothing is sent.
        """
        code, reason = check_close_code(code), fit_reason(reason)
        if self.state is not OPEN:
            if self.state is not CONNECTING:
                return
            await self.handshake()
        self._closed(code, reason)
        try:
            await self._deliver({'type': 'websocket.close', 'code': code, 'reason': reason}, self.server_send)
        except WebSocketDisconnect:
            logger.debug('%r: the client left before the close.', self)
        except asyncio.CancelledError:
            # Given up by the handler, the close is still owed to the client.
            self._close_later(code, reason)
            raise

    async def _deliver(self, message: Message, push: Send) -> None:
        """Hand ``message`` to the server, in sight of the watch, also while another task is sending."""
        task = current_task(self._loop)
        first = self._sender is None
        if first:
            self._sender = task
        else:
            self._more_senders.add(task)
        try:
            await push(message)
        except BaseException as exc:
            if not await self._closed_privately(message, exc):
                raise self._failure(exc, 'send()') from None
        finally:
            if first:
                self._sender = None
            else:
                self._more_senders.discard(task)
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
            await self.server_send({**message, 'code': message['code'] + 3000})
        return True

    @functools.cached_property
    def _more_senders(self) -> Set[Optional['asyncio.Task[Any]']]:
        return set()

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

    # Ends

    def _disconnected(self, message: Message) -> None:
        """Note that the client is gone; the handler learns it from what it awaits next."""
        code = message.get('code')
        self._disconnect(CloseCode.NO_STATUS_RECEIVED if code is None else code, message.get('reason') or '')

    def _client_left(self, message: Message) -> None:
        """Note that the client is gone, and end the handler, unless it is receiving and so is told."""
        if self.state in (CLOSED, DISCONNECTED):
            return
        accepted = self.state is OPEN
        self._disconnected(message)
        if not self._receiving and (not accepted or self.settings.cancel_on_disconnect):
            self.interrupt()

    def _disconnect(self, code: int, reason: str) -> None:
        if self.state in (CLOSED, DISCONNECTED):
            return
        self.state = DISCONNECTED
        self.close_code, self.close_reason = int(code), reason
        self._push = not_open
        # What was received ahead is still for the handler to take.
        if self._ahead is None or not self._ahead.unread:
            self._pull = not_open

    def _closed(self, code: int, reason: str) -> None:
        self.state = CLOSED
        self.close_code, self.close_reason = code, reason
        self._pull = not_open
        self._push = not_open

    def _told_disconnect(self) -> WebSocketDisconnect:
        """Return what tells the caller that the connection is over."""
        task = asyncio.current_task()
        # A task that runs nothing but this call hands the news on to who awaits it, as in wait_for before 3.12.
        if task is self._owner or (task is not None and getattr(task.get_coro(), '__name__', '') in CALLS):
            self._told = True
        assert self.close_code is not None
        return WebSocketDisconnect(self.close_code, self.close_reason or '')

    def _refusal(self, call: str, advice: str) -> WebSocketStateError:
        return WebSocketStateError(
            '%s is not possible on the WebSocket of %s, which is %s. %s'
            % (call, self.scope.get('path'), self.state.value, advice)
        )

    def _not_open(self, call: str) -> Exception:
        """Return what the handler sees of a call for which the channel has to be open."""
        if self.state is DISCONNECTED:
            return self._told_disconnect()
        if self.state is CLOSED:
            return self._refusal(call, 'The handler has closed it: receive and send before close().')
        return self._refusal(call, 'Await connect() first.')

    def _failure(self, exc: BaseException, call: str) -> BaseException:
        """Return what the handler sees of ``exc``, which ended what it awaited in ``call``."""
        if isinstance(exc, NotOpen):
            return self._not_open(call)
        if isinstance(exc, asyncio.CancelledError):
            interrupted = self.was_interrupted(asyncio.current_task())
            return self._told_disconnect() if interrupted else exc
        if not isinstance(exc, Exception):
            return exc
        logger.debug('%r: the server raised %r.', self, exc)
        self._disconnect(CloseCode.ABNORMAL_CLOSURE, '')
        return self._told_disconnect()

    async def _end_for(self, code: int, reason: str) -> None:
        """Close on a client that broke a limit, and tell the handler."""
        logger.info('%r: closed with %d, %s.', self, code, reason)
        self._disconnect(code, reason)
        self._pull = not_open
        message = {'type': 'websocket.close', 'code': int(code), 'reason': fit_reason(reason)}
        await self._deliver(message, self.server_send)
        raise self._told_disconnect()

    def abort(self, code: int, reason: str) -> None:
        """Close from outside of the handler, and end the handler; the watch does it when a limit is reached.

        :param code: the close code.
        :param reason: for the peer.
        """
        logger.info('%r: closed with %d, %s.', self, code, reason)
        if self.state is OPEN:
            self._disconnect(code, reason)
            self._pull = not_open
            self._close_later(int(code), reason)
        self.interrupt()

    def _close_later(self, code: int, reason: str) -> None:
        self.unfinished = True
        self._closing = asyncio.ensure_future(self._close_patiently(code, reason))

    async def _close_patiently(self, code: int, reason: str) -> None:
        message = {'type': 'websocket.close', 'code': code, 'reason': fit_reason(reason)}
        # Out of sight of the watch, which would end this send too.
        try:
            await asyncio.wait_for(self.server_send(message), CLOSE_PATIENCE)
        except asyncio.TimeoutError:
            logger.debug('%r: the client did not take the close.', self)
        except Exception as exc:
            await self._closed_privately(message, exc)

    def read_ahead(self) -> None:
        """Receive for a handler that does not, to see the client leave; the watch does it."""
        self.unfinished = True
        self._ahead = ReadAhead(self.server_receive, self._client_left)
        if self.state is OPEN:
            self._pull = self._receive_ahead

    def interrupt(self) -> None:
        """End the handler, and the sends to this client of all others; the client is gone."""
        self.unfinished = True
        for task in {self._owner, self._sender, *self._more_senders} - {None} - set(self._interrupted):
            # What others have asked of the task before, as a number of cancellations, stays theirs.
            self._interrupted[task] = cancellations(task)
            task.cancel()  # type: ignore[union-attr]

    @functools.cached_property
    def _interrupted(self) -> Dict[Optional['asyncio.Task[Any]'], int]:
        return {}

    @property
    def sending(self) -> bool:
        """Whether a send is waiting for the client."""
        return self._sender is not None or bool(self.__dict__.get('_more_senders'))

    @property
    def disconnected(self) -> bool:
        """Whether the connection is over, and not because the handler closed it."""
        return self.state is DISCONNECTED

    async def finish(self) -> None:
        """Leave nothing of this connection running; called when the handler has ended."""
        self.release()
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead, self._pull = None, not_open
        if self._closing is not None:
            await self._closing

    def was_interrupted(self, task: Optional['asyncio.Task[Any]']) -> bool:
        """Tell whether the cancellation that ``task`` just got was ours; if so it is taken back."""
        if not self.unfinished or task not in self._interrupted:
            return False
        before = self._interrupted.pop(task)
        # Where somebody else has cancelled the task as well, it stays cancelled.
        return sys.version_info < (3, 11) or task is None or task.uncancel() <= before

    def release(self) -> None:
        """Let the handler's task go its own way from now on, whatever becomes of the client."""
        self.was_interrupted(self._owner)
        self._owner = None


class TypedWebSocket(WebSocket):
    """The channel of a route that declares what it ``receives`` or ``sends``; handlers see a ``WebSocket``.

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
        receives: Optional[Schema],
        sends: Optional[Schema],
    ) -> None:
        super().__init__(scope, receive, send, settings, path_params)
        self._receives = receives
        self._sends = sends

    async def receive(self, message_type: Any = None) -> Any:
        """Return the next message as an instance of what the route ``receives``; see ``WebSocket.receive``."""
        if message_type is not None or self._receives is None:
            return await super().receive(message_type)
        return await self._receive_valid(self._receives, await super().receive())

    recv = receive

    async def send(self, data: Any) -> None:
        """Check ``data`` against what the route ``sends``, and send it as JSON; see ``WebSocket.send``."""
        if self._sends is None:
            return await super().send(data)
        await self.send_json(self._sends.encode(data))


def cancellations(task: Optional['asyncio.Task[Any]']) -> int:
    """Return how often ``task`` was asked to end; Python 3.10 does not count."""
    return task.cancelling() if sys.version_info >= (3, 11) and task is not None else 0


def is_longer(data: Data, limit: float) -> bool:
    """Tell whether ``data`` is longer than ``limit`` bytes in UTF-8."""
    if isinstance(data, bytes) or data.isascii():
        return len(data) > limit
    return len(data) > limit or len(data.encode('utf-8', 'replace')) > limit


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


#: Headers of the answer that are the server's: the first has an argument of its own, the others make the upgrade.
RESERVED_HEADERS = frozenset(
    ['sec-websocket-protocol', 'sec-websocket-accept', 'sec-websocket-extensions', 'connection', 'upgrade']
)


def encode_headers(headers: HeaderItems) -> List[Tuple[bytes, bytes]]:
    """Return headers as ASGI wants them: names in lower case, both in bytes.

    :raises ValueError: for a name or value that HTTP does not allow (RFC 9110 section 5.5).
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [encode_header(name, value) for name, value in pairs]


def encode_header(name: str, value: str) -> Tuple[bytes, bytes]:
    """Return one header in bytes; see :func:`encode_headers`."""
    if not is_token(name) or not all(c >= ' ' and c != '\x7f' or c == '\t' for c in value) or value != value.strip():
        raise ValueError('The header %r: %r cannot be sent: HTTP does not allow it.' % (name, value))
    return name.lower().encode('ascii'), value.encode()


def decode_headers(scope: Scope) -> List[Tuple[str, str]]:
    """Return the headers of a handshake; where they do not decode, it is being denied."""
    return [(name.decode('utf-8', 'replace'), value.decode('utf-8', 'replace')) for name, value in scope['headers']]


def connection_url(scope: Scope) -> str:
    """Return the URL that the client asked for, by its Host header, or by the server's address without one."""
    scheme = scope.get('scheme') or 'ws'
    path = scope.get('root_path', '') + scope['path']
    query = scope.get('query_string', b'').decode('utf-8', 'replace')
    host = next((value.decode('utf-8', 'replace') for name, value in scope['headers'] if name == b'host'), None)
    return '%s://%s%s%s' % (scheme, host or server_host(scope, scheme), path, query and '?' + query)


def server_host(scope: Scope, scheme: str) -> str:
    """Return host and port of the server, without the port where it is the scheme's own."""
    host, port = scope.get('server') or ('localhost', None)
    if port is None:
        return 'localhost'
    return host if port == DEFAULT_PORTS.get(scheme) else '%s:%d' % (host, port)
