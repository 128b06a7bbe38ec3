"""API Star's ``TestClient`` with WebSockets, for tests that are not ``async``."""

import asyncio
import contextlib
import functools
import weakref
from typing import (
    Any,
    Callable,
    ContextManager,
    Coroutine,
    Dict,
    Iterator,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
)

import requests
import urllib3
from apistar import http
from apistar.test import _ASGIAdapter, _MockOriginalResponse, _TestClient
from requests.cookies import extract_cookies_to_jar

from apistar_ws.testing.calls import Opening, warn_of_misspelt_query
from apistar_ws.testing.connection import TIMEOUT, Connection, abandon, open_connection
from apistar_ws.testing.errors import ConnectionClosed, HandshakeDenied, WaitTimeout
from apistar_ws.testing.portal import Portal
from apistar_ws.testing.scope import HeaderPart, handshake_scope, name_as_text
from apistar_ws.testing.starting import LIFESPAN_TIMEOUT, Lifespan
from apistar_ws.testing.waits import wait
from apistar_ws.types import Data

T = TypeVar('T')

#: Seconds that a plain HTTP request may take.
HTTP_TIMEOUT = 10.0


class StandIn:
    """Stands for the event loop that API Star's adapter asks for: it runs the application where the client does.

    :param call: runs a coroutine, and returns its result.
    """

    def __init__(self, call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.run_until_complete = call


class RawValue(str):
    """A header's value that was given in bytes: API Star's adapter encodes it, and gets these bytes.

    :param raw: the bytes.
    """

    def __new__(cls, raw: bytes) -> 'RawValue':
        value = super().__new__(cls, raw.decode('latin-1'))
        value._raw = raw
        return value

    _raw: bytes

    def encode(self, *args: Any, **kwargs: Any) -> bytes:
        """Return the bytes."""
        return self._raw


class PortalAdapter(_ASGIAdapter):  # type: ignore[misc]
    """API Star's adapter for plain HTTP, with the application on the event loop of its WebSockets.

    :param app: the application.
    :param portal: that event loop.
    """

    def __init__(self, app: Callable[..., Any], portal: Portal) -> None:
        super().__init__(lambda scope: functools.partial(self._serve, scope))
        self._served = app
        self._portal = portal

    async def _serve(self, scope: Dict[str, Any], receive: Any, send: Any) -> None:
        served = asyncio.ensure_future(self._served(scope)(receive, send))
        if not await wait({served}, HTTP_TIMEOUT):
            served.cancel()
            raise WaitTimeout('Waited %g seconds for %s %s' % (HTTP_TIMEOUT, scope['method'], scope['path']))
        served.result()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Make the request; called by ``requests``."""
        for name, value in request.headers.items():
            if isinstance(value, bytes):
                request.headers[name] = RawValue(value)
        # The adapter asks asyncio for the current event loop, which need not exist here, or be another one.
        running = asyncio._get_running_loop()
        with running_loop(StandIn(functools.partial(self._run, running))):
            response: requests.Response = super().send(request, *args, **kwargs)
            return response

    def _run(self, running: Any, coro: Coroutine[Any, Any, Any]) -> Any:
        with running_loop(running):
            return self._portal.call(coro, 2 * HTTP_TIMEOUT)


@contextlib.contextmanager
def running_loop(loop: Any) -> Iterator[None]:
    """Have asyncio take ``loop`` for the running event loop of this thread."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


class TestClient(_TestClient):  # type: ignore[misc]
    """API Star's ``TestClient`` with WebSockets.

    Make one per test, ``with TestClient(app) as client:`` where the application has something to start and stop: the
    calls of ``requests`` for HTTP, :meth:`websocket_connect` for WebSockets, on one event
    loop, with the same cookies and headers. The application runs during the calls of the client only: in the thread of
    the test where that is the main one and runs no event loop, else in another one.

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
        #: Seconds that each wait for a WebSocket may take.
        self.timeout = timeout
        self._app = app
        self._portal = Portal()
        self._stop = weakref.finalize(self, self._portal.stop)
        self._speaks_asgi = getattr(app, 'interface', None) != 'wsgi'
        if self._speaks_asgi:
            for prefix in ('http://', 'https://'):
                self.mount(prefix, PortalAdapter(app, self._portal))

    def __enter__(self) -> 'TestClient':
        """Start the application; leaving the block stops it, and closes the client."""
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
        """End the event loop of the client; it ends by itself when the client is no longer used."""
        self._stop()

    def websocket_connect(
        self,
        url: str,
        subprotocols: Sequence[str] = (),
        headers: Optional[Mapping[HeaderPart, HeaderPart]] = None,
        timeout: Optional[float] = None,
        raises: bool = True,
    ) -> ContextManager['BlockingConnection']:
        """Open a WebSocket to the application; use it with ``with``.

        Leaving the block closes the connection and waits for the handler.

        :param url: the path with its query string, or a whole URL.
        :param subprotocols: what the client offers.
        :param headers: headers of the handshake, with those of the client; bytes are sent unchanged.
        :param timeout: seconds that each wait may take; the client's when left out.
        :param raises: False to see a close with 1011 where the handler fails, and not what it raised.
        :raises HandshakeDenied: if the application refuses.
        """
        request = self._handshake(url, headers)
        given = [pair for pair in request.headers.items() if pair[0].lower() != 'connection']
        scope = handshake_scope(str(request.url), subprotocols, given)
        warn_of_misspelt_query(self._app, scope)
        connection = Connection(self._app, scope, self.timeout if timeout is None else timeout, raises)
        return Opening(self._opened(connection, request))

    @contextlib.contextmanager
    def _opened(self, connection: Connection, request: requests.PreparedRequest) -> Iterator['BlockingConnection']:
        blocking = BlockingConnection(connection, self._portal)
        try:
            blocking._run(open_connection(connection))
            self._take_cookies(request, connection.headers)
            yield blocking
        except HandshakeDenied as exc:
            self._take_cookies(request, exc.headers)
            raise
        except BaseException:
            # Where the loop is blocked, the first error says so.
            with contextlib.suppress(WaitTimeout):
                blocking._run(abandon(connection))
            raise
        blocking.close()

    def _handshake(self, url: str, headers: Optional[Mapping[HeaderPart, HeaderPart]]) -> requests.PreparedRequest:
        if '://' not in url:
            url = '%s://%s%s' % (self.scheme, self.hostname, url)
        # The rules for cookies are those of http and https.
        url = url.replace('ws', 'http', 1) if url.startswith('ws') else url
        named = {name_as_text(name): value for name, value in (headers or {}).items()}
        request: requests.PreparedRequest = self.prepare_request(requests.Request('GET', url, headers=named))
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
        self._run(self._connection.send(data))

    def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON text."""
        self._run(self._connection.send_json(value))

    def receive(self) -> Data:
        """Return the next message of the application; see :meth:`Connection.receive`."""
        return self._run(self._connection.receive())

    def receive_json(self) -> Any:
        """Return the value of the next message, which has to be JSON."""
        return self._run(self._connection.receive_json())

    def __iter__(self) -> Iterator[Data]:
        with contextlib.suppress(ConnectionClosed):
            while True:
                yield self.receive()

    def close(self, code: int = 1000, reason: str = '') -> None:
        """Close the connection and wait until the handler has ended; see :meth:`Connection.close`."""
        self._run(self._connection.close(code, reason))

    def _run(self, coro: Coroutine[Any, Any, T]) -> T:
        # Within, each wait is bounded by the timeout; beyond two of them and some time to spare, the loop is blocked.
        return self._portal.call(coro, 2 * self._connection.timeout + TIMEOUT)
