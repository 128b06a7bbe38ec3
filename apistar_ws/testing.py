"""Tests without a server: API Star's ``TestClient`` with WebSockets, in process, and no wait without an end."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import json
import linecache
import sys
import threading
import traceback
import typing
import weakref
from http import HTTPStatus
from types import FrameType
from typing import Any, AsyncIterator, Callable, Coroutine, Dict, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from apistar import http
from apistar.test import _ASGIAdapter, _MockOriginalResponse, _TestClient
from requests.cookies import extract_cookies_to_jar

from apistar_ws.readahead import Message
from apistar_ws.websocket import Data

T = typing.TypeVar('T')
HeaderPairs = List[Tuple[bytes, bytes]]

#: Seconds that a wait may take, unless the test says otherwise; a handler whose client left may take one to end.
TIMEOUT = 2.0
#: Seconds that a plain HTTP request may take.
HTTP_TIMEOUT = 10.0


class HandshakeDenied(Exception):
    """Raised where the application refused the connection.

    Expect it with ``pytest.raises``, around the ``with`` of the connection.

    :param status: the HTTP status code; 403 for a close before the accept.
    :param headers: the headers of the answer.
    :param body: its bytes.
    """

    def __init__(self, status: int, headers: Optional[http.Headers] = None, body: bytes = b'') -> None:
        self.status = status
        self.headers = headers or http.Headers()
        self.body = body
        super().__init__('The handshake was denied with %d: %s' % (status, body.decode('utf-8', 'replace')))

    def json(self) -> Any:
        """Return the value of the JSON body."""
        return json.loads(self.body)


class ConnectionClosed(Exception):
    """Raised by ``receive`` once the application has closed the connection.

    Expect it with ``pytest.raises``, or iterate, which it ends.

    :param code: the close code.
    :param reason: the close reason.
    """

    def __init__(self, code: int, reason: str = '') -> None:
        self.code = code
        self.reason = reason
        super().__init__('The application closed the connection with %d %s' % (code, reason))


class WaitTimeout(AssertionError):
    """Raised where a wait took too long; it names what was awaited, and what the handler was doing."""


class TasksLeft(AssertionError):
    """Raised at the end of a connection whose handler left tasks running."""


class Connection:
    """The client's end of a WebSocket to an application in this process.

    Made by :func:`connect`; the connection of ``TestClient`` has the same methods without ``await``.

    :param app: the application.
    :param scope: the ASGI scope of the handshake.
    :param timeout: seconds that each wait may take.
    """

    def __init__(self, app: Callable[..., Any], scope: Dict[str, Any], timeout: float) -> None:
        #: The subprotocol that the application accepted, or None.
        self.subprotocol: Optional[str] = None
        #: The headers of the application's answer.
        self.headers = http.Headers()
        self.timeout = timeout
        self._app = app
        self._scope = scope
        self._to_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._from_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._closed: Optional[ConnectionClosed] = None
        self._left = False
        self._ended = False
        self._tasks: 'weakref.WeakSet[asyncio.Task[Any]]' = weakref.WeakSet()

    async def open_tracked(self) -> None:
        """Have the event loop note the tasks of the handler from now on, and :meth:`open`."""
        asyncio.get_running_loop().set_task_factory(track_task)
        await self.open()

    async def open(self) -> None:
        """Send the handshake and wait for the answer; :func:`connect` does it.

        :raises HandshakeDenied: if the application refuses.
        """
        context = contextvars.copy_context()
        context.run(current_connection.set, self)
        self._task = context.run(asyncio.ensure_future, self._run())
        self._to_app.put_nowait({'type': 'websocket.connect'})
        message = await self._next('an answer to the handshake')
        if message['type'] == 'websocket.accept':
            self.subprotocol = message.get('subprotocol')
            self.headers = decode_headers(message.get('headers', []))
            return
        await self._end()
        if message['type'] == 'websocket.http.response.start':
            body = b''.join([message.get('body', b'') for message in self._waiting()])
            raise HandshakeDenied(message['status'], decode_headers(message.get('headers', [])), body)
        raise HandshakeDenied(HTTPStatus.FORBIDDEN)

    async def send(self, data: Data) -> None:
        """Send text or bytes to the application.

        :raises ConnectionClosed: if it has closed the connection, and that was received.
        """
        if self._closed is not None:
            raise self._closed
        kind = 'text' if isinstance(data, str) else 'bytes'
        self._to_app.put_nowait({'type': 'websocket.receive', kind: data})

    async def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON text."""
        await self.send(json.dumps(value))

    async def receive(self) -> Data:
        """Return the next message of the application.

        :raises ConnectionClosed: if it closed the connection instead.
        :raises WaitTimeout: if it does neither in time.
        """
        if self._closed is not None:
            raise self._closed
        message = await self._next('a message')
        if message['type'] == 'websocket.close':
            self._closed = ConnectionClosed(message.get('code', 1000), message.get('reason') or '')
            await self._end()
            raise self._closed
        text = message.get('text')
        data: Data = text if text is not None else message['bytes']
        return data

    async def receive_json(self) -> Any:
        """Return the value of the next message, which has to be JSON."""
        return json.loads(await self.receive())

    def __aiter__(self) -> AsyncIterator[Data]:
        return self

    async def __anext__(self) -> Data:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def close(self, code: int = 1000, reason: str = '') -> None:
        """Close the connection and wait until the handler has ended; leaving the block does it.

        :param code: the close code that the handler sees.
        :param reason: the close reason that the handler sees.
        :raises WaitTimeout: if the handler does not end in time.
        :raises TasksLeft: if it left tasks running.
        """
        self._leave(code, reason)
        await self._end()

    def _leave(self, code: int, reason: str) -> None:
        if not self._left:
            self._left = True
            self._to_app.put_nowait({'type': 'websocket.disconnect', 'code': code, 'reason': reason})

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._receive_from_app)
        finally:
            self._from_app.put_nowait({'type': 'ended'})

    async def _receive_from_app(self, message: Message) -> None:
        if self._left:
            # What servers do, each with an error of its own.
            raise OSError('The client has left.')
        if message['type'] == 'websocket.close':
            self._leave(message.get('code', 1000), message.get('reason') or '')
        self._from_app.put_nowait(message)

    async def _next(self, what: str) -> Message:
        """Return what the application sends next; raise what its handler raised instead."""
        try:
            message = await asyncio.wait_for(self._from_app.get(), self.timeout)
        except asyncio.TimeoutError:
            raise self._timed_out('Waited %g seconds for %s' % (self.timeout, what)) from None
        if message['type'] != 'ended':
            return message
        await self._end()
        raise ConnectionClosed(1006, 'the application returned')

    def _waiting(self) -> Iterator[Message]:
        while not self._from_app.empty():
            yield self._from_app.get_nowait()

    async def _end(self) -> None:
        """Wait for the handler, raise what it raised, and see that it left nothing running."""
        done, _ = await asyncio.wait({self._task}, timeout=self.timeout)
        if not done:
            raise await self._given_up()
        await self._refuse_leftovers()
        # What the handler raised is raised once; a test that expected it may leave the block in peace.
        if not self._ended:
            self._ended = True
            self._task.result()

    async def _given_up(self) -> WaitTimeout:
        error = self._timed_out('Waited %g seconds for the handler to end' % self.timeout)
        await self.abandon()
        return error

    async def abandon(self) -> None:
        """End the handler and its tasks without regard to what they were doing."""
        running = [task for task in self._tasks if not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=self.timeout)

    async def _refuse_leftovers(self) -> None:
        # One turn of the event loop, for tasks that were just told to end.
        await asyncio.sleep(0)
        left = [task for task in self._tasks if not task.done()]
        if left:
            places = '\n'.join(describe_task(task, 'A task') for task in left)
            await self.abandon()
            raise TasksLeft('The handler left %d task(s) running:\n%s' % (len(left), places))

    def _timed_out(self, what: str) -> WaitTimeout:
        return WaitTimeout('%s of %s.\n%s' % (what, self._scope['path'], describe_task(self._task, 'The handler')))


current_connection: 'contextvars.ContextVar[Optional[Connection]]' = contextvars.ContextVar('connection', default=None)


def track_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T], **options: Any) -> 'asyncio.Task[T]':
    """Make a task, and note it with the connection whose handler started it; a task factory."""
    task = asyncio.Task(coro, loop=loop, **options)
    connection = current_connection.get()
    if connection is not None:
        connection._tasks.add(task)
    return task


@contextlib.contextmanager
def tracking_tasks() -> Iterator[None]:
    """Have the running event loop note, for each connection, the tasks that its handler starts."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(track_task)
    try:
        yield
    finally:
        loop.set_task_factory(before)


def describe_task(task: 'asyncio.Task[Any]', who: str) -> str:
    """Return where ``task`` is: the innermost line outside of this package and of asyncio, and its function."""
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, 'cr_frame', None) or getattr(awaited, 'gi_frame', None)
        if frame is not None:
            frames.append(frame)
        awaited = getattr(awaited, 'cr_await', None)
    if task.done() or not frames:
        return '%s has ended.' % who
    return '%s was in %s' % (who, describe_frame(frames))


def describe_frame(frames: List[FrameType]) -> str:
    """Return function, place and line of the innermost of ``frames`` that is the user's."""
    users = [frame for frame in frames if not is_library(frame)] or frames[-1:]
    frame = users[-1]
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return '%s, %s line %d: %s' % (frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno, line)


def is_library(frame: FrameType) -> bool:
    """Tell whether ``frame`` is of this package, of API Star or of asyncio."""
    return frame.f_globals.get('__name__', '').split('.')[0] in (
        'apistar_ws',
        'apistar',
        'asyncio',
        'threading',
        'wrapt',
    )


@contextlib.asynccontextmanager
async def connect(
    app: Callable[..., Any],
    url: str,
    subprotocols: typing.Sequence[str] = (),
    headers: Optional[Mapping[str, str]] = None,
    timeout: float = TIMEOUT,
) -> AsyncIterator[Connection]:
    """Open a WebSocket to ``app`` in this event loop, for tests that are ``async`` themselves.

    Use it with ``async with``; leaving the block closes the connection and waits for the handler.

    :param app: the application.
    :param url: the path with its query string, or a whole URL.
    :param subprotocols: what the client offers.
    :param headers: headers of the handshake.
    :param timeout: seconds that each wait may take.
    :raises HandshakeDenied: if the application refuses.
    """
    with tracking_tasks():
        connection = Connection(app, handshake_scope(url, subprotocols, list((headers or {}).items())), timeout)
        try:
            await connection.open()
            yield connection
        except BaseException:
            await connection.abandon()
            raise
        await connection.close()


def handshake_scope(
    url: str, subprotocols: typing.Sequence[str], headers: typing.Sequence[Tuple[str, str]]
) -> Dict[str, Any]:
    """Return the scope that a server would make of the handshake."""
    parts = urlsplit(url if '://' in url else 'ws://testserver' + url)
    secure = parts.scheme in ('wss', 'https')
    port = parts.port or (443 if secure else 80)
    given = {name.lower() for name, _ in headers}
    defaults = [
        ('host', parts.netloc),
        ('connection', 'Upgrade'),
        ('upgrade', 'websocket'),
        ('sec-websocket-version', '13'),
        ('sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ=='),
    ]
    if subprotocols:
        defaults.append(('sec-websocket-protocol', ', '.join(subprotocols)))
    return {
        'type': 'websocket',
        'asgi': {'version': '3.0', 'spec_version': '2.4'},
        'http_version': '1.1',
        'scheme': 'wss' if secure else 'ws',
        'path': unquote(parts.path),
        'raw_path': parts.path.encode(),
        'query_string': parts.query.encode(),
        'root_path': '',
        'headers': encode_pairs([pair for pair in defaults if pair[0] not in given] + list(headers)),
        'client': ('testclient', 50000),
        'server': (parts.hostname, port),
        'subprotocols': list(subprotocols),
        'state': {},
        'extensions': {'websocket.http.response': {}},
        # Not of the ASGI specification: API Star's word for "let the test see what the handler raised".
        'raise_exceptions': True,
    }


def encode_pairs(pairs: typing.Sequence[Tuple[str, str]]) -> HeaderPairs:
    """Return headers as a server puts them into a scope."""
    return [(name.lower().encode(), value.encode()) for name, value in pairs]


def decode_headers(pairs: typing.Iterable[Tuple[bytes, bytes]]) -> http.Headers:
    """Return the headers of a message of the application."""
    return http.Headers([(name.decode(), value.decode()) for name, value in pairs])


class Portal:
    """An event loop in a thread of its own: what blocks there cannot block the test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name='apistar-ws test client', daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.closing(self.loop):
            self.loop.run_forever()
            running = asyncio.all_tasks(self.loop)
            for task in running:
                task.cancel()
            if running:
                self.loop.run_until_complete(asyncio.wait(running, timeout=TIMEOUT))

    def call(self, coro: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run ``coro`` on the loop and return its result.

        :raises WaitTimeout: if it has none in time, because the loop is blocked.
        """
        future = asyncio.run_coroutine_threadsafe(coro, self.loop)
        done, _ = concurrent.futures.wait({future}, timeout)
        if not done:
            future.cancel()
            raise self._timed_out(timeout)
        return future.result()

    def _timed_out(self, timeout: float) -> WaitTimeout:
        frames = [frame for frame, _ in traceback.walk_stack(sys._current_frames()[self._thread.ident or 0])]
        return WaitTimeout('Waited %g seconds; the event loop was in %s' % (timeout, describe_frame(frames[::-1])))

    def stop(self) -> None:
        """End the loop and its thread, unless the thread is blocked."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)


class PortalAdapter(_ASGIAdapter):  # type: ignore[misc]
    """API Star's adapter for plain HTTP, with the application on the event loop of its WebSockets.

    :param app: the application.
    :param portal: the event loop.
    """

    def __init__(self, app: Callable[..., Any], portal: Portal) -> None:
        super().__init__(lambda scope: functools.partial(self._serve, scope))
        self._served = app
        self._portal = portal

    async def _serve(self, scope: Dict[str, Any], receive: Any, send: Any) -> None:
        future = asyncio.run_coroutine_threadsafe(self._served(scope)(receive, send), self._portal.loop)
        served = asyncio.wrap_future(future)
        done, _ = await asyncio.wait({served}, timeout=HTTP_TIMEOUT)
        if not done:
            served.cancel()
            raise WaitTimeout('Waited %g seconds for %s %s' % (HTTP_TIMEOUT, scope['method'], scope['path']))
        served.result()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Make the request; called by ``requests``."""
        # API Star runs the application on the current event loop, which need not exist here, or may be running.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(self._send, request, *args, **kwargs).result()

    def _send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            asyncio.set_event_loop(loop)
            try:
                response: requests.Response = super().send(request, *args, **kwargs)
                return response
            finally:
                asyncio.set_event_loop(None)


class TestClient(_TestClient):  # type: ignore[misc]
    """API Star's ``TestClient`` with WebSockets.

    Make one per test: the calls of ``requests`` for HTTP, :meth:`websocket_connect` for WebSockets, on one event
    loop, with the same cookies and headers.

    :param app: the application.
    :param scheme: ``http`` or ``https``.
    :param hostname: the host that requests are for.
    :param timeout: seconds that each wait for a WebSocket may take.
    """

    __test__ = False

    def __init__(
        self, app: Callable[..., Any], scheme: str = 'http', hostname: str = 'testserver', timeout: float = TIMEOUT
    ) -> None:
        super().__init__(app, scheme, hostname)
        self.timeout = timeout
        self._app = app
        self._portal = Portal()
        self._stop = weakref.finalize(self, self._portal.stop)
        if getattr(app, 'interface', None) != 'wsgi':
            for prefix in ('http://', 'https://'):
                self.mount(prefix, PortalAdapter(app, self._portal))

    def close(self) -> None:
        """End the event loop of the client; it ends by itself when the client is no longer used."""
        self._stop()

    @contextlib.contextmanager
    def websocket_connect(
        self,
        url: str,
        subprotocols: typing.Sequence[str] = (),
        headers: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
    ) -> Iterator['BlockingConnection']:
        """Open a WebSocket to the application; use it with ``with``.

        Leaving the block closes the connection and waits for the handler.

        :param url: the path with its query string, or a whole URL.
        :param subprotocols: what the client offers.
        :param headers: headers of the handshake, with those of the client.
        :param timeout: seconds that each wait may take; the client's when left out.
        :raises HandshakeDenied: if the application refuses.
        """
        request = self._handshake(url, headers)
        given = [(name, str(value)) for name, value in request.headers.items() if name.lower() != 'connection']
        scope = handshake_scope(str(request.url), subprotocols, given)
        connection = Connection(self._app, scope, self.timeout if timeout is None else timeout)
        blocking = BlockingConnection(connection, self._portal)
        try:
            blocking._call(connection.open_tracked())
            self._take_cookies(request, connection.headers)
            yield blocking
        except HandshakeDenied as exc:
            self._take_cookies(request, exc.headers)
            raise
        except BaseException:
            # Where the loop is blocked, the first error says so.
            with contextlib.suppress(WaitTimeout):
                blocking._call(connection.abandon())
            raise
        blocking.close()

    def _handshake(self, url: str, headers: Optional[Mapping[str, str]]) -> requests.PreparedRequest:
        if '://' not in url:
            url = '%s://%s%s' % (self.scheme, self.hostname, url)
        # The rules for cookies are those of http and https.
        url = url.replace('ws', 'http', 1) if url.startswith('ws') else url
        request: requests.PreparedRequest = self.prepare_request(requests.Request('GET', url, headers=headers))
        return request

    def _take_cookies(self, request: requests.PreparedRequest, headers: http.Headers) -> None:
        answer = urllib3.HTTPResponse(original_response=_MockOriginalResponse(headers.items()))
        extract_cookies_to_jar(self.cookies, request, answer)


class BlockingConnection:
    """The client's end of a WebSocket, for tests that are not ``async``; see :class:`Connection`.

    Made by :meth:`TestClient.websocket_connect`.
    """

    def __init__(self, connection: Connection, portal: Portal) -> None:
        self._connection = connection
        self._portal = portal

    @property
    def subprotocol(self) -> Optional[str]:
        """The subprotocol that the application accepted, or None."""
        return self._connection.subprotocol

    @property
    def headers(self) -> http.Headers:
        """The headers of the application's answer."""
        return self._connection.headers

    def send(self, data: Data) -> None:
        """Send text or bytes to the application."""
        self._call(self._connection.send(data))

    def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON text."""
        self._call(self._connection.send_json(value))

    def receive(self) -> Data:
        """Return the next message of the application; see :meth:`Connection.receive`."""
        return self._call(self._connection.receive())

    def receive_json(self) -> Any:
        """Return the value of the next message, which has to be JSON."""
        return self._call(self._connection.receive_json())

    def __iter__(self) -> Iterator[Data]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield self.receive()

    def close(self, code: int = 1000, reason: str = '') -> None:
        """Close the connection and wait until the handler has ended; see :meth:`Connection.close`."""
        self._call(self._connection.close(code, reason))

    def _call(self, coro: Coroutine[Any, Any, T]) -> T:
        # Within, each wait is bounded by the timeout; beyond two of them and some time to spare, the loop is blocked.
        return self._portal.call(coro, 2 * self._connection.timeout + TIMEOUT)
