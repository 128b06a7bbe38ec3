"""API Star's ``TestClient`` with WebSockets, for tests that are not ``async``."""

import asyncio
import contextlib
import functools
import weakref
from typing import Any, Callable, ContextManager, Coroutine, Dict, Iterator, Optional, Sequence, TypeVar

import requests
import urllib3
from apistar import http
from apistar.test import _ASGIAdapter, _MockOriginalResponse, _TestClient
from requests.cookies import extract_cookies_to_jar

from apistar_ws.testing.calls import Opening, warn_of_misspelt_query
from apistar_ws.testing.connection import TIMEOUT, Connection, abandon, open_connection
from apistar_ws.testing.errors import ConnectionClosed, HandshakeDenied, WaitTimeout
from apistar_ws.testing.portal import Portal
from apistar_ws.testing.scope import HeaderMapping, handshake_scope, name_as_text
from apistar_ws.testing.starting import LIFESPAN_TIMEOUT, Lifespan
from apistar_ws.testing.waits import wait
from apistar_ws.types import Data

T = TypeVar('T')

#: Seconds that a plain HTTP request may take.
HTTP_TIMEOUT = 10.0


class _FakeLoop:
    """A replacement for the event loop that API Star's adapter runs the application on.

    :param call: runs a coroutine and returns its result.
    """

    def __init__(self, call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.run_until_complete = call


class _RawHeader(str):
    """A header's value given in bytes, which API Star's adapter encodes to the same bytes.

    :param raw: the bytes.
    """

    def __new__(cls, raw: bytes) -> '_RawHeader':
        value = super().__new__(cls, raw.decode('latin-1'))
        value._raw = raw
        return value

    _raw: bytes

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        """Return the bytes."""
        return self._raw


class _PortalAdapter(_ASGIAdapter):  # type: ignore[misc]
    """API Star's adapter for HTTP requests, which runs the application on the same event loop as its WebSockets.

    :param app: the application.
    :param portal: the event loop.
    """

    def __init__(self, app: Callable[..., Any], portal: Portal) -> None:
        super().__init__(lambda scope: functools.partial(self._serve, scope))
        self._application = app
        self._portal = portal

    async def _serve(self, scope: Dict[str, Any], receive: Any, send: Any) -> None:
        task = asyncio.ensure_future(self._application(scope)(receive, send))
        if not await wait({task}, HTTP_TIMEOUT):
            task.cancel()
            raise WaitTimeout('Waited %g seconds for %s %s' % (HTTP_TIMEOUT, scope['method'], scope['path']))
        task.result()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Make the request; called by ``requests``."""
        for name, value in request.headers.items():
            if isinstance(value, bytes):
                request.headers[name] = _RawHeader(value)
        # The adapter uses the current event loop of asyncio, which may not exist here, or be a different one.
        running = asyncio._get_running_loop()
        with _running_loop(_FakeLoop(functools.partial(self._run, running))):
            response: requests.Response = super().send(request, *args, **kwargs)
            return response

    def _run(self, running: Any, coro: Coroutine[Any, Any, Any]) -> Any:
        with _running_loop(running):
            return self._portal.call(coro, 2 * HTTP_TIMEOUT)


@contextlib.contextmanager
def _running_loop(loop: Any) -> Iterator[None]:
    """Make ``loop`` the running event loop of this thread."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


class TestClient(_TestClient):  # type: ignore[misc]
    """API Star's ``TestClient`` with WebSockets.

    Make one per test, with ``with TestClient(app) as client:`` if the application has something to start and stop.
    It has the methods of ``requests`` for HTTP and :meth:`websocket_connect` for WebSockets, with the same cookies and
    headers. The application runs on one event loop, and only during calls of the client: in the thread of the test if
    that is the main thread and runs no event loop, otherwise in another thread.

    :param app: the application.
    :param scheme: ``http`` or ``https``.
    :param hostname: the host of the requests.
    :param timeout: seconds that each wait for a WebSocket may take.
    """

    __test__ = False

    def __init__(
        self, app: Callable[..., Any], scheme: str = 'http', hostname: str = 'testserver', timeout: float = TIMEOUT
    ) -> None:
        super().__init__(app, scheme, hostname)
        #: Seconds that each wait for a WebSocket may take.
        self.timeout = timeout
        self._app = app
        self._portal = Portal()
        self._stop = weakref.finalize(self, self._portal.stop)
        self._speaks_asgi = getattr(app, 'interface', None) != 'wsgi'
        if self._speaks_asgi:
            for prefix in ('http://', 'https://'):
                self.mount(prefix, _PortalAdapter(app, self._portal))

    def __enter__(self) -> 'TestClient':
        """Start the application. Leaving the block stops it and closes the client."""
        if self._speaks_asgi:
            self._lifespan = Lifespan(self._app)
            self._portal.call(self._lifespan.start(), 2 * LIFESPAN_TIMEOUT)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        try:
            if self._speaks_asgi:
                self._portal.call(self._lifespan.stop(), 2 * LIFESPAN_TIMEOUT)
        finally:
            self.close()

    def close(self) -> None:
        """Stop the event loop of the client, which is also stopped when the client is garbage-collected."""
        self._stop()

    def websocket_connect(
        self,
        url: str,
        subprotocols: Sequence[str] = (),
        headers: Optional[HeaderMapping] = None,
        timeout: Optional[float] = None,
        raises: bool = True,
    ) -> ContextManager['BlockingConnection']:
        """Open a WebSocket to the application; use it with ``with``.

        Leaving the block closes the connection and waits for the handler.

        :param url: the path with its query string, or a whole URL.
        :param subprotocols: the subprotocols that the client offers.
        :param headers: headers of the handshake, in addition to those of the client; bytes are sent unchanged.
        :param timeout: seconds that each wait may take; by default the client's timeout.
        :param raises: whether exceptions of the handler are raised in the test. If False, the test sees the close with
            1011, as a client would.
        :raises HandshakeDenied: if the application denies the handshake.
        """
        request = self._handshake(url, headers)
        pairs = [pair for pair in request.headers.items() if pair[0].lower() != 'connection']
        scope = handshake_scope(str(request.url), subprotocols, pairs)
        warn_of_misspelt_query(self._app, scope)
        connection = Connection(self._app, scope, self.timeout if timeout is None else timeout, raises)
        return Opening(self._opened(connection, request))

    @contextlib.contextmanager
    def _opened(self, connection: Connection, request: requests.PreparedRequest) -> Iterator['BlockingConnection']:
        blocking = BlockingConnection(connection, self._portal)
        try:
            blocking._run(open_connection(connection))
            self._store_cookies(request, connection.headers)
            yield blocking
        except HandshakeDenied as exc:
            self._store_cookies(request, exc.headers)
            raise
        except BaseException:
            # If the event loop is blocked, the first error already says so.
            with contextlib.suppress(WaitTimeout):
                blocking._run(abandon(connection))
            raise
        blocking.close()

    def _handshake(self, url: str, headers: Optional[HeaderMapping]) -> requests.PreparedRequest:
        if '://' not in url:
            url = '%s://%s%s' % (self.scheme, self.hostname, url)
        # Cookies follow the rules of http and https.
        url = url.replace('ws', 'http', 1) if url.startswith('ws') else url
        named = {name_as_text(name): value for name, value in (headers or {}).items()}
        request: requests.PreparedRequest = self.prepare_request(requests.Request('GET', url, headers=named))
        return request

    def _store_cookies(self, request: requests.PreparedRequest, headers: http.Headers) -> None:
        answer = urllib3.HTTPResponse(original_response=_MockOriginalResponse(headers.items()))
        extract_cookies_to_jar(self.cookies, request, answer)


class BlockingConnection:
    """The client's side of a WebSocket, for tests that are not ``async``; see :class:`Connection`.

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
        self._run(self._connection.send(data))

    def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON text."""
        self._run(self._connection.send_json(value))

    def receive(self) -> Data:
        """Return the next message of the application; see :meth:`Connection.receive`."""
        return self._run(self._connection.receive())

    def receive_json(self) -> Any:
        """Return the value of the next message, which must be JSON."""
        return self._run(self._connection.receive_json())

    def __iter__(self) -> Iterator[Data]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield self.receive()

    def close(self, code: int = 1000, reason: str = '') -> None:
        """Close the connection and wait until the handler has ended; see :meth:`Connection.close`."""
        self._run(self._connection.close(code, reason))

    def _run(self, coro: Coroutine[Any, Any, T]) -> T:
        # Each wait of the coroutine ends within the timeout: after two timeouts and a reserve the loop must be blocked.
        return self._portal.call(coro, 2 * self._connection.timeout + TIMEOUT)
