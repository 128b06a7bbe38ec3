"""The contract, row by row as in docs/outcomes.rst: what the client sees, on each of uvicorn's implementations.

Each test's docstring is the fault of its row.
"""

import asyncio
import contextlib
import inspect
import json
import logging
import re
import socket
import struct
import time
from collections import defaultdict

import pytest
import requests
from apistar import App, Route, exceptions, http, types, validators
from apistar.server.components import Component
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    GroupsUnavailable,
    WebSocket,
    WebSocketComponent,
    WebSocketDisconnect,
    WebSocketStateError,
    collect_routes,
    websocket_route,
    websocket_stream,
)
from tests.servers import IMPLEMENTATIONS, ROOT, eventually, serving

DOCUMENTED = ROOT / 'docs' / 'outcomes.rst'

#: What handlers and hooks noted, by topic; each test empties it.
noted = defaultdict(list)


class Refused(exceptions.HTTPException):
    default_status_code = 401
    default_detail = 'Who are you?'

    def get_headers(self):
        return {'WWW-Authenticate': 'Bearer'}


class Session:
    """What a component supplies, or refuses to."""


class SessionComponent(Component):
    def resolve(self, session: http.QueryParam) -> Session:
        if session == 'none':
            raise Refused()
        if session == 'broken':
            raise RuntimeError('password=hunter2')
        return Session()


class Hooks:
    """A guard as API Star's documentation teaches it, a header on every response, and a note of every error."""

    def on_request(self, headers: http.Headers):
        if headers.get('x-guard') == 'refuse':
            raise Refused({'guard': 'no'})
        if 'x-block' in headers:
            noted['blocked'].append('began')
            time.sleep(float(headers['x-block']))

    def on_response(self, response: http.Response):
        response.headers['X-Hook'] = 'ran'

    def on_error(self, exc: Exception):
        noted['on_error'].append(type(exc))


class Slow:
    """What a component supplies after the client has left."""


class SlowComponent(Component):
    async def resolve(self) -> Slow:
        noted['slow'].append('started')
        while 'go on' not in noted['slow']:
            await asyncio.sleep(0.01)
        return Slow()


class Order(types.Type):
    item = validators.String(max_length=10)


def page() -> str:
    return str(noted['page'].append('ran'))


@websocket_route('/echo/{n}')
async def echo(n: int, session: Session, ws: WebSocket, limit: int = 5):
    noted['echo'].append('ran')
    async for message in ws:
        await ws.send(message)
    noted['echo'].append((ws.close_code, ws.close_reason))


@websocket_route('/where')
async def where(path: http.Path, ws: WebSocket):
    await ws.send('%s, %s' % (path, ws.url.components.path))


@websocket_route('/closes/{how}')
async def closes(how: str, ws: WebSocket):
    if how == 'itself':
        await asyncio.wait_for(ws.close(4000, 'over'), 10)
    else:
        noted['tasks'].append(asyncio.ensure_future(kick(ws)))
    try:
        await (ws.receive() if how == 'receives' else asyncio.sleep(1 if how == 'itself' else 60))
        noted['closes'].append('went on')
    except BaseException as exc:
        noted['closes'].append(type(exc))
        raise


async def kick(ws):
    await ws.close(4000, 'over')


@websocket_route('/limited-busy', max_message_size=100, max_messages_per_second=5)
async def limited_busy(ws: WebSocket):
    await asyncio.sleep(60)


@websocket_stream('/ticks')
async def ticks():
    try:
        while True:
            await asyncio.sleep(0.1)
            yield 'tick'
    finally:
        noted['ticks'].append('ended')


@websocket_route('/lingers')
async def lingers(ws: WebSocket):
    try:
        async for _ in ws:
            """Wait for the end."""
    finally:
        noted['lingers'].append('clean-up')
        await asyncio.sleep(2)
        noted['lingers'].append('saved')


@websocket_route('/opted-out', cancel_on_disconnect=False)
async def opted_out(ws: WebSocket):
    noted['opted out'].append('started')
    for _ in range(30):
        with contextlib.suppress(WebSocketDisconnect):
            await ws.send('step')
        await asyncio.sleep(0.05)
    noted['opted out'].append('worked')


@websocket_route('/slash/')
async def slash():
    """Be found with the slash only."""


@websocket_route('/slow')
async def slow(slow: Slow, ws: WebSocket):
    noted['slow'].append('ran')


@websocket_route('/one', max_connections=1)
async def one(ws: WebSocket):
    await ws.receive()


@websocket_route('/never', connect=False)
async def never(ws: WebSocket):
    """Return without connecting."""


@websocket_route('/choosy', connect=False)
async def choosy(ws: WebSocket):
    await ws.connect(subprotocol='x')


@websocket_route('/return')
async def returning():
    """Return."""


@websocket_route('/raise/{what}')
async def raising(what: str, ws: WebSocket):
    if what == 'http':
        raise exceptions.Forbidden({'why': 'not you'})
    raise RuntimeError('password=hunter2')


@websocket_route('/order', receives=Order)
async def order(ws: WebSocket):
    async for message in ws:
        await ws.send('%s, please' % message.item)


@websocket_route('/json')
async def some_json(ws: WebSocket):
    await ws.receive_json()


@websocket_route('/text')
async def only_text(ws: WebSocket):
    await ws.receive_text()


@websocket_route('/bytes')
async def only_bytes(ws: WebSocket):
    await ws.receive_bytes()


@websocket_route('/small', max_message_size=100)
async def small(ws: WebSocket):
    async for message in ws:
        await ws.send(message)


@websocket_route('/slowly', max_messages_per_second=5)
async def slowly(ws: WebSocket):
    async for message in ws:
        await ws.send(message)


@websocket_route('/lively', idle_timeout=0.2)
async def lively(ws: WebSocket):
    async for message in ws:
        await ws.send(message)


@websocket_route('/firehose', send_timeout=0.5)
async def firehose(ws: WebSocket):
    try:
        while True:
            await ws.send(b'x' * 65536)
    except WebSocketDisconnect as exc:
        noted['firehose'].append(exc.code)
        raise
    finally:
        noted['firehose'].append('ended')


@websocket_route('/receive')
async def receiving(ws: WebSocket):
    try:
        noted['receive'].append('started')
        await ws.receive()
    except WebSocketDisconnect as exc:
        noted['receive'].append((exc.code, exc.reason))
        raise


@websocket_route('/busy/{how}')
async def busy(how: str, ws: WebSocket):
    await ws.receive()
    noted['busy'].append('started')
    try:
        while True:
            if how == 'sleeps':
                await asyncio.sleep(3600)
            elif how == 'computes':
                await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.01)
            elif how == 'gathers':
                await asyncio.gather(drain(ws), asyncio.sleep(3600))
            else:
                await ws.send('tick')
                await asyncio.sleep(0.001 if how == 'sends' else 0)
    finally:
        noted['busy'].append('ended')


async def drain(ws):
    async for _ in ws:
        """Read on."""


@websocket_route('/save')
async def save(ws: WebSocket):
    async for message in ws:
        await asyncio.sleep(0.3)
        noted['save'].append(message)
    noted['save'].append(ws.close_code)


@websocket_route('/deaf', cancel_on_disconnect=False)
async def deaf(ws: WebSocket):
    noted['deaf'].append('started')
    with contextlib.suppress(asyncio.TimeoutError):
        while 'left' not in noted['deaf']:
            await asyncio.sleep(0.01)
    try:
        while True:
            await ws.send('x' * 65536)
    except Exception as exc:
        noted['deaf'].append(type(exc))


@websocket_route('/backlog', backlog_timeout=0.5)
async def backlog(ws: WebSocket):
    noted['backlog'].append('started')
    try:
        await asyncio.sleep(3600)
    finally:
        noted['backlog'].append('ended')


@websocket_route('/blocking')
@websocket_route('/blocking-by-hand', connect=False)
async def blocking(ws: WebSocket):
    await ws.connect()
    noted['blocked'].append('ran')


@websocket_route('/after')
async def after(ws: WebSocket):
    await ws.close(4001, 'done')
    for call in (ws.receive, lambda: ws.send('a')):
        try:
            await call()
        except WebSocketStateError as exc:
            noted['after'].append(str(exc))
    await ws.close(4002, 'again')


@websocket_route('/twice')
async def twice(ws: WebSocket):
    await ws.connect()
    try:
        await ws.connect(headers={'x-a': 'b'})
    except WebSocketStateError:
        await ws.send('refused')


@websocket_route('/unsendable')
async def unsendable(ws: WebSocket):
    for call in (
        lambda: ws.send('a\ud800'),
        *[lambda code=code: ws.close(code) for code in (999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)],
    ):
        try:
            await call()
        except ValueError:
            noted['unsendable'].append('refused')
    await ws.close(4000, '\N{SNOWMAN}' * 42)


@websocket_route('/flooded')
async def flooded(ws: WebSocket):
    noted['flooded'].append('started')
    while 'go on' not in noted['flooded']:
        await asyncio.sleep(0.01)
    count = 0
    async for message in ws:
        count += len(message)
        if message == 'end':
            await ws.send(str(count))


visitors = set()


@websocket_route('/visitor')
async def visitor(ws: WebSocket):
    visitors.add(ws)
    try:
        await asyncio.sleep(3600)
    finally:
        visitors.discard(ws)
        noted['visitors'].append('ended')


@websocket_route('/news')
async def news(ws: WebSocket):
    while True:
        await asyncio.gather(*[other.send('news') for other in visitors], return_exceptions=True)
        await asyncio.sleep(0.01)


@websocket_route('/brief')
async def brief(ws: WebSocket):
    ws.expires_at = time.time() + 0.2
    await asyncio.sleep(3600)


drains = []


@websocket_route('/drain')
async def draining(app: App, ws: WebSocket):
    drains.append(asyncio.ensure_future(app.drain(float(await ws.receive()))))
    await ws.receive()


@websocket_route('/member/{room}')
async def member(room: str, ws: WebSocket, groups: Groups, since: str = None):
    async with groups.join(room, ws, since=since):
        await groups.send(room, 'welcome')
        try:
            message = await ws.receive()
            if message == 'forget':
                # As a Redis does that is restarted without its memory.
                groups._hub.engine._records.clear()
            while True:
                await groups.send(room, 'x' * 65536)
        finally:
            noted['member'].append('ended')


@websocket_route('/away')
async def away(ws: WebSocket):
    raise GroupsUnavailable('The engine is away')


async def away_over_http():
    raise GroupsUnavailable('The engine is away')


ROUTES = [Route('/page', 'GET', page), Route('/http-away', 'GET', away_over_http)] + collect_routes(globals())


def application():
    groups = GroupsComponent(history=1000, max_queue=100)
    components = [WebSocketComponent(), SessionComponent(), SlowComponent(), groups]
    return ASyncApp(ROUTES, components=components, event_hooks=[Hooks], docs_url=None)


APP = application()


@pytest.fixture(params=IMPLEMENTATIONS, scope='module')
def server(request):
    # Small enough to be exceeded, large enough for the firehose.
    with serving(APP, request.param, ws_max_size=1_000_000) as server:
        server.implementation = request.param
        yield server


@pytest.fixture(autouse=True)
def no_error_inside_the_server(caplog):
    noted.clear()
    yield
    assert [line for line in warnings_in(caplog) if not line.startswith('apistar_ws')] == []


#: What uvicorn logs by itself: for a client gone and a header it cannot decode, the deprecated implementation;
#: for a payload that is not UTF-8, the other one.
OWN_ERRORS = (
    'ASGI callable returned without sending handshake.',
    'opening handshake failed',
    'WebSocketProtocol.run_asgi()',
    'Invalid UTF-8 sequence received from client.',
)


def warnings_in(caplog):
    """Return what was logged as a warning or worse, by the application or by the server."""
    records = [record for record in caplog.get_records('call') if record.levelno >= logging.WARNING]
    lines = ['%s: %s' % (record.name, record.getMessage()) for record in records]
    return [line for line in lines if not any(own in line for own in OWN_ERRORS)]


def connecting(server, path, **options):
    return websockets_connect(
        server.ws_url + path, open_timeout=10, close_timeout=1, proxy=None, compression=None, **options
    )


async def close_of(server, path, *messages, **options):
    """Return the code and reason with which the server closes, after it was sent ``messages``."""
    async with connecting(server, path, **options) as ws:
        for message in messages:
            await ws.send(message)
        return await close_seen_by(ws)


async def close_seen_by(ws, timeout=10):
    async def read():
        with pytest.raises(ConnectionClosed) as info:
            while True:
                await ws.recv()
        return info.value.rcvd and (info.value.rcvd.code, info.value.rcvd.reason)

    return await asyncio.wait_for(read(), timeout)


async def denial_of(server, path, **options):
    """Return the status, headers and JSON of the denial."""
    with pytest.raises(InvalidStatus) as info:
        async with connecting(server, path, **options):
            """Not get here."""
    response = info.value.response
    return response.status_code, response.headers, json.loads(response.body) if response.body else None


async def until(topic, value):
    """Wait until a handler has noted ``value``."""
    await asyncio.get_running_loop().run_in_executor(None, eventually, lambda: value in noted[topic], repr(value))


def raw_handshake(server, path='/echo/1', *lines):
    """Send a handshake byte by byte as given, and return the socket."""
    sock = socket.create_connection(('127.0.0.1', server.port), 10)
    head = [
        b'GET %s HTTP/1.1' % path.encode('latin-1'),
        b'Host: 127.0.0.1:%d' % server.port,
        b'Connection: Upgrade',
        b'Upgrade: websocket',
        b'Sec-WebSocket-Version: 13',
        b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        *lines,
    ]
    sock.sendall(b'\r\n'.join(head) + b'\r\n\r\n')
    return sock


def raw_answer(sock):
    """Return the status of the answer to a raw handshake, or 0 if there is no answer."""
    with sock:
        answer = sock.recv(65536)
    return int((answer.split(b' ', 2) + [b'0'] * 2)[1])


def abandon(sock):
    """Drop a connection without a word, by a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    sock.close()


class TestBeforeTheAccept:
    async def test_no_route(self, server):
        """no route for the path"""
        status, headers, detail = await denial_of(server, '/nope')
        assert (status, detail, headers['x-hook']) == (404, 'Not found', 'ran')

    async def test_path_parameter(self, server):
        """path parameter that does not convert"""
        assert (await denial_of(server, '/echo/one'))[0] == 404

    async def test_query_parameter(self, server):
        """query parameter missing or invalid"""
        status, _, detail = await denial_of(server, '/echo/1?limit=many')
        assert (status, detail, noted['echo']) == (400, {'limit': 'Must be a number.'}, [])

    @pytest.mark.parametrize(
        'path, headers, detail',
        [('/echo/1?session=none', {}, 'Who are you?'), ('/echo/1', {'X-Guard': 'refuse'}, {'guard': 'no'})],
    )
    async def test_http_exception(self, server, path, headers, detail):
        """a component or an ``on_request`` hook raises an ``HTTPException``"""
        status, answered, found = await denial_of(server, path, additional_headers=headers)
        assert (status, answered['www-authenticate'], found) == (401, 'Bearer', detail)
        assert noted['echo'] == []

    async def test_other_exception(self, server, caplog):
        """a component or hook raises any other exception"""
        status, _, detail = await denial_of(server, '/echo/1?session=broken')
        assert (status, detail) == (500, 'Server error')
        await until('on_error', RuntimeError)
        assert [record.exc_info[0] for record in caplog.records if record.name == 'apistar_ws'] == [RuntimeError]

    async def test_redirect(self, server):
        """URL that API Star would redirect (trailing slash)"""
        sock = raw_handshake(server, '/slash')
        with sock:
            answer = sock.recv(65536).lower()
        assert answer.startswith(b'http/1.1 302')
        assert b'\r\nlocation: /slash/\r\n' in answer

    def test_undecodable_query(self, server, caplog):
        """query string that cannot be decoded"""
        # uvicorn refuses it by itself and says so; tests/serving/test_endpoint.py has what the application answers.
        assert raw_answer(raw_handshake(server, '/echo/1?a=\xff')) == 400
        caplog.clear()

    @pytest.mark.parametrize('lines', [[b'X-Name: \xff'], [b'Cookie: a=\xe9']])
    def test_undecodable_headers(self, server, lines):
        """header bytes that are not UTF-8"""
        answer = raw_answer(raw_handshake(server, '/echo/1', *lines))
        # The deprecated implementation fails to put such a header into the scope: it answers 500, or with websockets
        # before 17 nothing, and the application is not asked.
        assert answer in ([500, 0] if server.implementation == 'websockets' else [101])

    async def test_http_only(self, server):
        """handshake on a path that only HTTP serves"""
        assert (await denial_of(server, '/page'))[0] == 404
        assert noted['page'] == []
        await asyncio.to_thread(requests.get, server.http_url + '/page', timeout=10)
        assert noted['page'] == ['ran']

    @pytest.mark.parametrize('root_path', ['/', '/api', '/api/'])
    @pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
    async def test_root_path(self, implementation, root_path):
        """a root path, however it is spelt (``/``, ``/api``, ``/api/``), added to the path by the server or not"""
        with serving(APP, implementation, root_path=root_path) as server:
            async with connecting(server, '/where') as ws:
                assert await asyncio.wait_for(ws.recv(), 10) == '/where, %s/where' % root_path.rstrip('/')

    @pytest.mark.parametrize('path', ['//echo/1', '/%2Fecho/1', '//%65cho/1', '/%2F/echo/1'])
    def test_empty_leading_segment(self, server, path):
        """path with an empty leading segment, however it is encoded"""
        assert raw_answer(raw_handshake(server, path)) == 404
        with socket.create_connection(('127.0.0.1', server.port), 10) as sock:
            target = path.replace('echo/1', 'page').replace('%65cho/1', 'page')
            sock.sendall(b'GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' % target.encode())
            assert sock.recv(65536).split(b' ', 2)[1] == b'404'
        assert (noted['echo'], noted['page']) == ([], [])

    def test_websocket_only(self, server):
        """plain HTTP on a path that only WebSocket serves"""
        response = requests.get(server.http_url + '/echo/1', timeout=10)
        assert (response.status_code, response.headers['upgrade'], noted['echo']) == (426, 'websocket', [])

    async def test_origin(self, server):
        """Origin not allowed for the route"""
        own = 'http://127.0.0.1:%d' % server.port
        for origin in ('http://evil.example', 'null', own.replace('http', 'https'), 'http://127.0.0.1:1'):
            assert (await denial_of(server, '/echo/1', origin=origin))[0] == 403
        both = [b'Origin: ' + own.encode()] * 2
        # The library behind this implementation refuses a repeated header by itself.
        assert raw_answer(raw_handshake(server, '/echo/1', *both)) == (
            400 if server.implementation == 'websockets-sansio' else 403
        )
        assert noted['echo'] == []
        async with connecting(server, '/echo/1', origin=own) as ws:
            await ws.send('a')
            assert await ws.recv() == 'a'

    async def test_full(self, server):
        """more connections than the route allows"""
        async with connecting(server, '/one'):
            status, headers, _ = await denial_of(server, '/one')
            assert (status, headers['retry-after']) == (503, '5')

    async def test_no_subprotocol(self, server):
        """client offers subprotocols, the route supports none of them"""
        async with connecting(server, '/echo/1', subprotocols=['a', 'b']) as ws:
            assert ws.subprotocol is None

    async def test_gone_before_the_accept(self, server, caplog):
        """client disconnects before the accept"""
        abandon(raw_handshake(server, '/slow'))
        await until('slow', 'started')
        # Long enough for the server to see the reset; what is shown is that nothing comes of it.
        await asyncio.to_thread(
            eventually, lambda: not server.uvicorn.server_state.connections, 'the client to be gone'
        )
        noted['slow'].append('go on')
        await asyncio.to_thread(eventually, lambda: not server.uvicorn.server_state.tasks, 'the task to end')
        assert 'ran' not in noted['slow']
        assert warnings_in(caplog) == []
        assert await close_of(server, '/slow') == (1000, '')
        assert 'ran' in noted['slow']

    @pytest.mark.parametrize('path', ['/blocking', '/blocking-by-hand'])
    async def test_gone_while_a_hook_blocks(self, server, path, caplog):
        """client disconnects before the accept, while the event loop is blocked"""
        abandon(raw_handshake(server, path, b'X-Block: 0.3'))
        await until('blocked', 'began')
        await asyncio.to_thread(eventually, lambda: not server.uvicorn.server_state.tasks, 'the task to end')
        assert 'ran' not in noted['blocked']
        assert warnings_in(caplog) == []
        assert await close_of(server, path) == (1000, '')
        assert 'ran' in noted['blocked']

    async def test_returns_without_connecting(self, server):
        """handler with ``connect=False`` returns without connecting"""
        assert (await denial_of(server, '/never'))[0] == 403


class TestAfterTheAccept:
    async def test_returns(self, server):
        """handler returns"""
        assert await close_of(server, '/return') == (1000, '')

    async def test_http_exception(self, server, caplog):
        """handler raises an exception that the application's ``exception_handler`` turns into a response of status S"""
        assert await close_of(server, '/raise/http') == (4403, '{"why":"not you"}')
        assert [record for record in caplog.records if record.name == 'apistar_ws'] == []

    async def test_other_exception(self, server, caplog):
        """handler raises any other exception"""
        assert await close_of(server, '/raise/other') == (1011, 'Internal error')
        await until('on_error', RuntimeError)
        assert [record.exc_info[0] for record in caplog.records if record.name == 'apistar_ws'] == [RuntimeError]

    async def test_invalid_payload(self, server):
        """payload is not JSON, or fails its declared type"""
        assert await close_of(server, '/json', '{') == (1007, 'Malformed JSON')
        assert await close_of(server, '/order', '{"item": "tea"}', '{"item": 5}') == (1007, 'Invalid message: item')

    async def test_unsupported_data(self, server):
        """text received where bytes are expected, or the reverse"""
        assert await close_of(server, '/text', b'a') == (1003, 'Expected text, got bytes')
        assert await close_of(server, '/bytes', 'a') == (1003, 'Expected bytes, got text')

    async def test_too_big(self, server):
        """message larger than the route allows, also while the handler does not receive"""
        assert await close_of(server, '/limited-busy', 'x' * 101) == (1009, 'Message larger than 100 bytes')
        assert await close_of(server, '/small', 'x' * 100, 'x' * 101) == (1009, 'Message larger than 100 bytes')

    async def test_too_fast(self, server):
        """more messages per second than the route allows, also while the handler does not receive"""
        assert await close_of(server, '/limited-busy', *'abcdefghij') == (1008, 'More than 5 messages per second')
        assert await close_of(server, '/slowly', *'abcdef') == (1008, 'More than 5 messages per second')

    async def test_heartbeats_of_a_stream(self, server):
        """the client of a stream sends messages, such as heartbeats"""
        async with connecting(server, '/ticks', max_queue=None) as ws:
            for _ in range(3000):
                await ws.send('x' * 100)
            assert await asyncio.wait_for(ws.recv(), 10) == 'tick'
            await ws.close()
        await until('ticks', 'ended')

    async def test_idle(self, server):
        """nothing received for longer than the route allows"""
        assert await close_of(server, '/lively', 'a') == (1001, 'Nothing received for 0.2 seconds')

    async def test_peer_does_not_read(self, server):
        """client does not read, a send waits longer than the route allows"""
        async with connecting(server, '/firehose', max_queue=1, max_size=None) as ws:
            await until('firehose', 'ended')
            assert noted['firehose'][0] == 1008
            assert await close_seen_by(ws) == (1008, 'A message was not taken for 0.5 seconds')

    @pytest.mark.parametrize('cleanly', [True, False])
    async def test_gone_while_receiving(self, server, cleanly, caplog):
        """client disconnects (cleanly or not) while the handler receives"""
        if cleanly:
            async with connecting(server, '/receive') as ws:
                await ws.close(4001, 'bye')
            expected = [(4001, 'bye')]
        else:
            sock = raw_handshake(server, '/receive')
            await until('receive', 'started')
            abandon(sock)
            expected = [(1005, ''), (1006, '')]
        await asyncio.to_thread(eventually, lambda: len(noted['receive']) > 1, 'the disconnect')
        assert noted['receive'][1] in expected
        assert warnings_in(caplog) == []

    async def test_unread_messages_before_a_close(self, server):
        """messages unread when the client closes, for a handler that has received within ``backlog_timeout``"""
        async with connecting(server, '/save') as ws:
            for number in range(5):
                await ws.send(str(number))
        await until('save', 1000)
        assert noted['save'] == ['0', '1', '2', '3', '4', 1000]

    @pytest.mark.parametrize('how', ['sleeps', 'computes', 'sends', 'floods', 'gathers'])
    @pytest.mark.parametrize('cleanly', [True, False])
    async def test_gone_while_busy(self, server, how, cleanly, caplog):
        """client disconnects while the handler sleeps, computes or only sends"""
        if how == 'floods' and server.implementation == 'websockets':
            pytest.skip('another implementation than websockets.legacy, which fails where a close meets a waiting send')
        async with connecting(server, '/busy/' + how) as ws:
            await ws.send('start')
            await until('busy', 'started')
            if cleanly:
                await ws.close()
            else:
                ws.transport.abort()
            await until('busy', 'ended')
        assert warnings_in(caplog) == []

    async def test_closed_by_its_own_task(self, server):
        """the handler's own task calls ``close()``"""
        assert await close_of(server, '/closes/itself') == (4000, 'over')
        await until('closes', 'went on')

    @pytest.mark.parametrize('how, seen', [('sleeps', asyncio.CancelledError), ('receives', WebSocketDisconnect)])
    async def test_closed_by_another_task(self, server, how, seen):
        """another task calls ``close()``, such as an administrator's or a reader's"""
        assert await close_of(server, '/closes/' + how) == (4000, 'over')
        await until('closes', seen)

    async def test_client_closes_with_1012(self, server):
        """the client closes with 1012"""
        async with connecting(server, '/lingers') as ws:
            await ws.close(1012)
        await until('lingers', 'saved')

    async def test_opted_out(self, server):
        """client disconnects with ``cancel_on_disconnect=False``"""
        async with connecting(server, '/opted-out'):
            await until('opted out', 'started')
        await until('opted out', 'worked')

    async def test_gone_after_more_unread_messages(self, server, caplog):
        """client disconnects after more unread messages than are read ahead"""
        async with connecting(server, '/backlog') as ws:
            await until('backlog', 'started')
            for _ in range(10):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(ws.send('x' * 60_000), 0.2)
            ws.transport.abort()
        await until('backlog', 'ended')
        assert warnings_in(caplog) == []

    async def test_expiry(self, server):
        """``ws.expires_at`` is reached"""
        assert await close_of(server, '/brief', 'a') == (4401, 'Expired')

    @pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
    async def test_drain(self, implementation):
        """``app.drain(seconds)``"""
        with serving(application(), implementation) as server:
            async with connecting(server, '/drain') as draining, connecting(server, '/echo/1') as echoing:
                await draining.send('1')
                ends = [close_seen_by(ws) for ws in (draining, echoing)]
                assert await asyncio.gather(*ends) == [(1012, 'The server restarts')] * 2
            status, headers, detail = await denial_of(server, '/echo/1')
            assert (status, headers['retry-after'], detail) == (503, '5', 'The server restarts')

    async def test_member_does_not_read(self, server):
        """member of a group does not read, its queue is full"""
        async with connecting(server, '/member/full', max_queue=1, max_size=None) as ws:
            await ws.send('flood')
            await until('member', 'ended')
            assert await close_seen_by(ws) == (1013, 'Messages were lost: come back')

    async def test_messages_of_a_group_are_lost(self, server):
        """messages of a group are lost"""
        assert await close_of(server, '/member/lost', 'forget') == (4410, 'The position is lost')

    async def test_position_is_lost(self, server):
        """position of a reconnecting client is lost"""
        assert await close_of(server, '/member/lost?since=old') == (4410, 'The position is lost')

    async def test_engine_is_away(self, server):
        """groups engine is unavailable"""
        assert await close_of(server, '/away') == (1013, 'The engine is away')
        url = 'http://127.0.0.1:%d/http-away' % server.port
        response = await asyncio.to_thread(requests.get, url, timeout=10)
        assert (response.status_code, response.headers['retry-after']) == (503, '5')

    async def test_send_after_the_client_is_gone(self, server):
        """send after the client has disconnected"""
        async with connecting(server, '/deaf') as ws:
            await until('deaf', 'started')
            ws.transport.abort()
        noted['deaf'].append('left')
        await until('deaf', WebSocketDisconnect)

    async def test_calls_after_close(self, server):
        """send or receive after the handler has closed"""
        assert await close_of(server, '/after') == (4001, 'done')
        await asyncio.to_thread(eventually, lambda: len(noted['after']) == 2, 'both errors')
        assert all('closed. Its handler has ended or has closed it' in sentence for sentence in noted['after'])

    async def test_close_twice(self, server):
        """close twice"""
        assert await close_of(server, '/after') == (4001, 'done')

    async def test_connect_twice(self, server):
        """connect twice"""
        async with connecting(server, '/twice') as ws:
            assert await ws.recv() == 'refused'
            assert await close_seen_by(ws) == (1000, '')

    async def test_subprotocol_not_offered(self, server, caplog):
        """connect with a subprotocol that the client did not offer"""
        assert (await denial_of(server, '/choosy', subprotocols=['a']))[0] == 500
        assert [record.exc_info[0] for record in caplog.records if record.name == 'apistar_ws'] == [ValueError]

    async def test_unencodable_text(self, server):
        """text that cannot be encoded (a lone surrogate)"""
        await close_of(server, '/unsendable')
        assert noted['unsendable'][0] == 'refused'

    async def test_close_code(self, server):
        """close code that must not be sent"""
        await close_of(server, '/unsendable')
        assert noted['unsendable'][1:] == ['refused'] * 8

    async def test_long_reason(self, server):
        """reason longer than 123 bytes of UTF-8"""
        assert await close_of(server, '/unsendable') == (4000, '\N{SNOWMAN}' * 41)

    async def test_empty_message(self, server):
        """empty message, text or bytes"""
        async with connecting(server, '/echo/1') as ws:
            for message in ('', b''):
                await ws.send(message)
                assert await ws.recv() == message

    async def test_flood(self, server):
        """client sends faster than the handler reads"""
        async with connecting(server, '/flooded') as ws:
            await until('flooded', 'started')
            sent = 0
            with contextlib.suppress(asyncio.TimeoutError):
                while sent < 50_000_000:  # pragma: no branch
                    await asyncio.wait_for(ws.send('x' * 60_000), 1)
                    sent += 60_000
            assert sent < 50_000_000, 'nobody held the client back'
            noted['flooded'].append('go on')
            # The send that was given up in the middle is in the client's buffer as a whole.
            await ws.send('end')
            assert int(await asyncio.wait_for(ws.recv(), 30)) in (sent + 3, sent + 60_003)

    @pytest.mark.parametrize(
        'frame, code',
        [
            (b'\x81\x82\x00\x00\x00\x00\xff\xff', 1007),
            (b'\xf1\x80\x00\x00\x00\x00', 1002),
            (b'\x82\xff' + struct.pack('!Q', 2_000_000) + bytes(4), 1009),
        ],
    )
    async def test_the_servers_own_close(self, server, frame, code, caplog):
        """bad UTF-8, broken frame, server-wide size limit"""
        if server.implementation == 'wsproto' and code == 1009:
            # It counts what has come, and the others read what is announced.
            frame += bytes(2_000_000)
        async with connecting(server, '/echo/1', max_size=None) as ws:
            await ws.send('a')
            assert await ws.recv() == 'a'
            ws.transport.write(frame)
            seen = await close_seen_by(ws)
        if server.implementation == 'wsproto' and code != 1009:
            # This implementation fails in its own data_received, and asyncio drops the connection.
            assert seen is None
            caplog.clear()
        else:
            # Where the rest of a large message is still on its way, the reset may overtake the close.
            assert seen is None and code == 1009 or seen[0] == code
        await asyncio.to_thread(eventually, lambda: len(noted['echo']) == 2, 'the disconnect')

    @pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
    async def test_shutdown(self, implementation):
        """server shuts down with open connections"""
        with serving(APP, implementation) as server:
            async with connecting(server, '/busy/sleeps') as busy, connecting(server, '/echo/1') as echoing:
                await busy.send('start')
                await until('busy', 'started')
                stopping = asyncio.ensure_future(asyncio.to_thread(server.stop))
                assert [(await close_seen_by(ws))[0] for ws in (busy, echoing)] == [1012, 1012]
                await stopping
        assert noted['busy'] == ['started', 'ended']


async def test_foreign_sends_keep_no_handler_alive(server):
    """Visitors come and go while a task sends to all of them, as the news of a room do."""
    async with connecting(server, '/news'):
        for _ in range(10):
            async with connecting(server, '/visitor') as ws:
                assert await asyncio.wait_for(ws.recv(), 10) == 'news'
        await asyncio.to_thread(eventually, lambda: noted['visitors'].count('ended') == 10, 'the handlers to end')


def documented_faults():
    faults, _, _ = DOCUMENTED.read_text(encoding='utf-8').partition('Event hooks\n')
    return re.findall(r'^   \* - (.+?)\n     - ', faults, re.MULTILINE | re.DOTALL)


def test_documented_faults_are_tested_in_order():
    tests = [
        inspect.cleandoc(test.__doc__)
        for group in (TestBeforeTheAccept, TestAfterTheAccept)
        for name, test in vars(group).items()
        if name.startswith('test_') and name != 'test_gone_while_a_hook_blocks'
    ]
    assert [' '.join(fault.split()) for fault in documented_faults() if fault != 'fault'] == tests
