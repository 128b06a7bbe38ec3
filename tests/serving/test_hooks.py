"""The calls of event hooks, row by row as in docs/outcomes.rst, on each of uvicorn's implementations.

Each row runs with an application of its own. The notes hold what ran, in its order, on one connection.
"""

import asyncio
import contextlib
import logging
import re
import socket
from typing import Any, Callable, Iterator, List, NamedTuple

import pytest
from apistar import Route, exceptions, http, types, validators
from apistar.exceptions import ConfigurationError
from apistar.server.components import Component
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from apistar_ws import ASyncApp, GroupsComponent, WebSocket, WebSocketComponent, collect_routes, websocket_route
from apistar_ws.testing import TestClient
from tests.servers import IMPLEMENTATIONS, ROOT, eventually, serving

#: What ran on the connection of a row, in order; each row empties it.
notes: List[Any] = []


class Session:
    """A resource."""


class SessionComponent(Component):
    def resolve(self) -> Iterator[Session]:
        notes.append('opened')
        try:
            yield Session()
        except BaseException as exc:
            notes.append('closed, %s' % type(exc).__name__)
            raise
        else:
            notes.append('closed')


class Slow:
    """What a component supplies after its client has left."""


class SlowComponent(Component):
    async def resolve(self) -> Slow:
        notes.append('waiting')
        while 'left' not in notes:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        return Slow()


class Tenant:
    """What a component refuses to supply."""


class TenantComponent(Component):
    def resolve(self, tenant: http.QueryParam) -> Tenant:
        if tenant == 'unknown':
            raise exceptions.NotFound('No such tenant')
        raise RuntimeError('password=hunter2')


class Noting:
    """Notes what it sees, and whether it is the object that saw the request."""

    def on_request(self, session: Session, headers: http.Headers):
        self.session = session
        notes.append('on_request')
        if 'x-refuse' in headers:
            raise exceptions.Forbidden()
        if 'x-break' in headers:
            raise RuntimeError('password=hunter2')

    def on_response(self, response: http.Response, exc: Exception, session: Session):
        known = getattr(self, 'session', session) is session
        notes.append('on_response %s, %s' % (response.status_code, type(exc).__name__) if known else 'a stranger')

    def on_error(self, response: http.Response, exc: Exception, session: Session):
        known = getattr(self, 'session', session) is session
        notes.append('on_error %s, %s' % (response.status_code, type(exc).__name__) if known else 'a stranger')


class Order(types.Type):
    item = validators.String()


@websocket_route('/return')
async def returning():
    """Return."""


@websocket_route('/each')
async def each(ws: WebSocket):
    async for _ in ws:
        """Go on until it ends."""


@websocket_route('/receive')
async def receiving(ws: WebSocket):
    await ws.receive_json()


@websocket_route('/bytes')
async def receiving_bytes(ws: WebSocket):
    await ws.receive_bytes()


@websocket_route('/orders', receives=Order)
async def orders(ws: WebSocket):
    await ws.receive()


@websocket_route('/sleep')
async def sleeping(ws: WebSocket):
    notes.append('sleeps')
    await asyncio.sleep(3600)


@websocket_route('/cleanup')
async def cleaning_up(ws: WebSocket):
    try:
        await ws.receive()
    finally:
        raise KeyError('password=hunter2')


@websocket_route('/idle', idle_timeout=0.3)
async def idle(ws: WebSocket):
    await asyncio.sleep(3600)


@websocket_route('/forbidden')
async def forbidden():
    raise exceptions.Forbidden({'room': 'closed'})


@websocket_route('/taken')
async def taken():
    raise LookupError('seat 12')


@websocket_route('/broken')
async def broken():
    raise RuntimeError('password=hunter2')


@websocket_route('/never', connect=False)
async def never(ws: WebSocket):
    """Return without connecting."""


@websocket_route('/refuses', connect=False)
async def refuses(ws: WebSocket):
    await ws.close()


@websocket_route('/slow')
async def slow(slow: Slow):
    """Ask for what comes too late."""


@websocket_route('/tenant')
async def tenant(tenant: Tenant):
    """Ask for what is refused."""


@websocket_route('/full', max_connections=1)
async def full(ws: WebSocket):
    await ws.receive()


@websocket_route('/slash/')
async def slash():
    """Be found with the slash only."""


class App(ASyncApp):
    """Knows an exception of its own."""

    def exception_handler(self, exc: Exception) -> http.Response:
        if isinstance(exc, LookupError) and not isinstance(exc, KeyError):
            return http.JSONResponse('%s is taken' % exc, 409)
        return super().exception_handler(exc)


def made() -> App:
    handlers = [
        returning, each, receiving, receiving_bytes, orders, sleeping, cleaning_up, idle, forbidden, taken, broken,
        never, refuses, slow, tenant, full, slash,
    ]  # fmt: skip
    components = [SessionComponent(), SlowComponent(), TenantComponent()]
    return App(collect_routes(handlers), components=components, event_hooks=[Noting])


# What the clients do


async def wait(server: Any, url: str, **options: Any) -> Any:
    """Return what the client sees that only listens: the answer that denies it, or how it is closed."""
    try:
        async with websockets_connect(server.ws_url + url, **options) as ws:
            await asyncio.wait_for(ws.wait_closed(), 10)
            return (ws.close_code, ws.close_reason)
    except InvalidStatus as exc:
        return exc.response.status_code


def sending(message: Any) -> Callable[..., Any]:
    async def send(server: Any, url: str) -> Any:
        """Return how a client is closed that sends ``message``."""
        async with websockets_connect(server.ws_url + url) as ws:
            await ws.send(message)
            await asyncio.wait_for(ws.wait_closed(), 10)
            return (ws.close_code, ws.close_reason)

    return send


async def leave(server: Any, url: str) -> Any:
    """Close once the hooks have run, so that nobody closes on this client."""
    async with websockets_connect(server.ws_url + url):
        assert 'on_request' in notes
    return 'left'


def handshake(server: Any, url: str, *lines: bytes) -> socket.socket:
    """Send a handshake, byte by byte as given, and return the socket."""
    sock = socket.create_connection(('127.0.0.1', server.port), 10)
    head = [
        b'GET %s HTTP/1.1' % url.encode('latin-1'), b'Host: 127.0.0.1:%d' % server.port, b'Connection: Upgrade',
        b'Upgrade: websocket', b'Sec-WebSocket-Version: 13', b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', *lines,
    ]  # fmt: skip
    sock.sendall(b'\r\n'.join(head) + b'\r\n\r\n')
    return sock


def raw(*lines: bytes) -> Callable[..., Any]:
    """Return what tells the status of the answer, whatever it is, to a handshake with these lines."""

    async def ask(server: Any, url: str) -> Any:
        with contextlib.closing(handshake(server, url, *lines)) as sock:
            answer = await asyncio.to_thread(sock.recv, 65536)
        return int((answer.split(b' ', 2) + [b'0'] * 2)[1])

    return ask


async def vanish(server: Any, url: str) -> Any:
    """Leave before the answer to the handshake."""
    with contextlib.closing(handshake(server, url)):
        while 'waiting' not in notes:
            await asyncio.sleep(0.01)
    notes.append('left')
    return 'left'


def with_headers(**headers: str) -> Callable[..., Any]:
    """Return what waits, with these headers."""

    async def waiting(server: Any, url: str) -> Any:
        given = {name.replace('_', '-'): value for name, value in headers.items()}
        return await wait(server, url, additional_headers=given)

    return waiting


async def second(server: Any, url: str) -> Any:
    """Return what a client sees while another has the only place."""
    async with websockets_connect(server.ws_url + url) as ws:
        before = list(notes)
        seen = await wait(server, url)
        assert notes == before
        await ws.send('{}')
        with contextlib.suppress(ConnectionClosed):
            await ws.recv()
    return seen


async def drained(server: Any, url: str) -> Any:
    """Return how a client is closed when the application is drained."""
    async with websockets_connect(server.ws_url + url) as ws:
        await drain(server)
        await asyncio.wait_for(ws.wait_closed(), 10)
    return (ws.close_code, ws.close_reason)


async def drain(server: Any) -> None:
    """Drain the application, on the event loop of the server."""
    app = server.uvicorn.config.app
    future = asyncio.run_coroutine_threadsafe(app.drain(0), server.uvicorn.servers[0].get_loop())
    await asyncio.wait_for(asyncio.wrap_future(future), 10)


async def late(server: Any, url: str) -> Any:
    """Return what a client sees that comes after the drain."""
    await drain(server)
    return await wait(server, url)


async def shut_down(server: Any, url: str) -> Any:
    """Return how a client is closed when the server shuts down."""
    async with websockets_connect(server.ws_url + url) as ws:
        server.uvicorn.should_exit = True
        await asyncio.wait_for(ws.wait_closed(), 10)
    return (ws.close_code, ws.close_reason)


class Row(NamedTuple):
    """One row of the table; several stand for one row of the documentation."""

    fault: str
    name: str
    url: str
    client: Callable[..., Any]
    seen: Any
    noted: List[str]


def response(status: int, exc: str = 'NoneType') -> List[str]:
    """Return the notes of a connection whose hooks see a response."""
    ended = 'closed' if exc == 'NoneType' else 'closed, ' + exc
    return ['opened', 'on_request', 'on_response %d, %s' % (status, exc), ended]


def error(exc: str) -> List[str]:
    """Return the notes of a connection whose hooks see an error."""
    return ['opened', 'on_request', 'on_error 500, ' + exc, 'closed, ' + exc]


GONE = 'WebSocketDisconnect'
AWAY = 'The server restarts'
UNSUPPORTED = 'UnsupportedMessage'
RETURNED = 'returned, also when ``async for`` ended because the client disconnected'
ENDED = 'raised ``WebSocketDisconnect``, or was cancelled by a disconnect, a limit, a drain or the shutdown'
INVALID = 'raised ``InvalidMessage``'
ANSWERED = 'raised an exception that ``exception_handler`` turns into a response of status S'
BROKEN = 'raised any other exception, also in its clean-up after a disconnect'
NEVER = 'never connected (``connect=False``)'
EARLY = 'did not run: the client disconnected after ``on_request`` ran'
DENIED = 'did not run: ``on_request`` or a component raised an ``HTTPException``'
FAILED = 'did not run: any other exception was raised'
REFUSED = 'did not run: origin, undecodable bytes, full route, drain'
NOWHERE = 'no route, redirect'
ROWS = [
    Row(RETURNED, 'returned', '/return', wait, (1000, ''), response(101)),
    Row(RETURNED, 'the client left', '/each', leave, 'left', response(101)),
    Row(ENDED, 'raised the disconnect', '/receive', leave, 'left', response(101, GONE)),
    Row(ENDED, 'cancelled', '/sleep', leave, 'left', response(101, GONE)),
    Row(ENDED, 'a limit', '/idle', wait, (1001, 'Nothing received for 0.3 seconds'), response(101, GONE)),
    Row(ENDED, 'a drain', '/sleep', drained, (1012, AWAY), response(101, GONE)),
    Row(ENDED, 'the shutdown', '/sleep', shut_down, (1012, ''), response(101, GONE)),
    Row(INVALID, 'no JSON', '/receive', sending('{'), (1007, 'Malformed JSON'), response(101, 'InvalidMessage')),
    Row(INVALID, 'type', '/orders', sending('{}'), (1007, 'Invalid message: item'), response(101, 'InvalidMessage')),
    Row(INVALID, 'text', '/bytes', sending('x'), (1003, 'Expected bytes, got text'), response(101, UNSUPPORTED)),
    Row(ANSWERED, 'HTTP', '/forbidden', wait, (4403, '{"room":"closed"}'), response(403, 'Forbidden')),
    Row(ANSWERED, 'own', '/taken', wait, (4409, 'seat 12 is taken'), response(409, 'LookupError')),
    Row(BROKEN, 'broken', '/broken', wait, (1011, 'Internal error'), error('RuntimeError')),
    Row(BROKEN, 'clean-up', '/cleanup', leave, 'left', error('KeyError')),
    Row(NEVER, 'never connected', '/never', wait, 403, response(403)),
    Row(NEVER, 'closed before', '/refuses', wait, 403, response(403)),
    Row(EARLY, 'the client left before', '/slow', vanish, 'left', response(101, GONE)),
    Row(DENIED, 'by on_request', '/return', with_headers(x_refuse='1'), 403, response(403, 'Forbidden')),
    Row(DENIED, 'by a component', '/tenant?tenant=unknown', wait, 404, response(404, 'NotFound')),
    Row(FAILED, 'on_request', '/return', with_headers(x_break='1'), 500, error('RuntimeError')),
    Row(FAILED, 'a component', '/tenant?tenant=x', wait, 500, error('RuntimeError')),
    Row(REFUSED, 'a foreign origin', '/return', with_headers(origin='http://evil.example'), 403, []),
    Row(REFUSED, 'undecodable bytes', '/return?a=\xff', raw(), 400, []),
    Row(REFUSED, 'a full route', '/full', second, 503, response(101)),
    Row(REFUSED, 'a drain before', '/return', late, 503, []),
    Row(NOWHERE, 'no route', '/nope', wait, 404, ['opened', 'on_response 404, NotFound', 'closed, NotFound']),
    Row(NOWHERE, 'a redirect', '/slash', raw(), 302, ['opened', 'on_response 302, Found', 'closed, Found']),
]  # fmt: skip


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.name)
async def test_what_the_hooks_see(row, implementation, caplog):
    notes.clear()
    with serving(made(), implementation) as server:
        seen = await row.client(server, row.url)
        expected = [note for note in row.noted if note != 'opened']
        await asyncio.to_thread(eventually, lambda: len(heard()) >= len(expected), 'the hooks')
    assert (seen, heard()) == (row.seen, expected)
    failed = [record for record in caplog.records if record.name == 'apistar_ws' and record.levelno > logging.WARNING]
    assert len(failed) == (1 if 'on_error' in ''.join(expected) else 0)


def heard() -> List[str]:
    """Return the notes of hooks and resources."""
    return [note for note in notes if note.startswith(('on_', 'closed', 'a stranger'))]


def test_documented_rows_are_tested_in_order():
    """Each documented row is tested, in the same order."""
    page = (ROOT / 'docs' / 'outcomes.rst').read_text(encoding='utf-8')
    _, _, hooks = page.partition('Event hooks\n')
    documented = re.findall(r'^   \* - (.+?)\n     - ', hooks, re.MULTILINE | re.DOTALL)
    assert documented[1:] == list(dict.fromkeys(row.fault for row in ROWS))


@pytest.mark.parametrize(
    'name, meant', [('on_reqest', 'on_request'), ('on_start_up', 'on_startup'), ('onerror', 'on_error')]
)
def test_misspelt_hook_method_is_refused(name, meant):
    """A misspelt method of a hook is refused, since it may be a guard."""
    hook = type('Guard', (), {name: lambda self: None})
    for given in (hook, hook()):
        with pytest.raises(
            ConfigurationError, match='Guard has a method %s, which nobody calls: did you mean %s' % (name, meant)
        ):
            ASyncApp([], event_hooks=[given])


def test_other_attributes_are_allowed():
    """A hook may have other attributes."""

    class Hook:
        on_requests = 5

        def on_request(self):
            """Nothing."""

        def once(self):
            """Nothing."""

    ASyncApp([], event_hooks=[Hook, Hook()])


class Unknown:
    def on_connect(self):
        """Never called."""


class Empty(Component):
    def resolve(self) -> str:
        """Not called."""

    def on_startup(self):
        """Not called."""


@pytest.mark.parametrize(
    'hook, message',
    [
        (Unknown, 'Unknown has none of the methods that are called: on_request, on_response, on_error'),
        (Unknown(), 'Unknown has none of the methods that are called'),
        (Empty(), 'Empty: give it to components='),
        (GroupsComponent(), 'event_hooks holds the component .*GroupsComponent: give it to components='),
    ],
)
def test_unused_hook_is_refused(hook, message):
    """A hook that would never be called is refused."""
    with pytest.raises(ConfigurationError, match=message):
        ASyncApp([], event_hooks=[hook])


def test_hook_may_set_its_methods():
    """A hook may set its methods in its constructor."""

    class Hook:
        def __init__(self):
            self.on_request = lambda: None

    ASyncApp([], event_hooks=[Hook, Hook()])


@pytest.mark.parametrize('made', [WebSocketComponent, GroupsComponent])
def test_duplicate_component_is_refused(made):
    """A second component for the same type is refused."""
    with pytest.raises(ConfigurationError, match='components holds two of %s' % made.__name__):
        ASyncApp([], components=[made(), made()])


@pytest.mark.parametrize('kind', ['class', 'instance', 'async'])
@pytest.mark.parametrize('value', [False, http.JSONResponse('no', 403)])
async def test_on_request_value_is_discarded(kind, value, caplog):
    """The return value of on_request is discarded, which is logged once."""

    class Guard:
        def on_request(self):
            return value

    class AsyncGuard:
        async def on_request(self):
            return value

    hook = {'class': Guard, 'instance': Guard(), 'async': AsyncGuard}[kind]
    app = ASyncApp(
        [*collect_routes(websocket_route('/')(noted_nowhere)), Route('/page', 'GET', lambda: 'page', name='page')],
        event_hooks=[hook],
    )
    client = TestClient(app)
    for _ in range(2):
        with client.websocket_connect('/'):
            """It is let in."""
        assert client.get('/page').text == 'page'
    lines = [record.getMessage() for record in caplog.records if 'was discarded' in record.getMessage()]
    assert len(lines) == 1 and 'on_request returned %s,' % type(value).__name__ in lines[0]
    client.close()


async def noted_nowhere(ws: WebSocket):
    """Do nothing."""
