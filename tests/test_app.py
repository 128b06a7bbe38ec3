import asyncio
import contextlib
import gc
import inspect
import logging
import sys
import tracemalloc

import apistar
import pytest
from apistar import Include, Route, exceptions, http
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, WebSocketComponent, collect_routes, websocket_route
from apistar_ws.testing import HandshakeDenied, TestClient, connect
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, closed, disconnect, run, scope, sent, text


class Session:
    """Something that a component supplies."""


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket):
    async for message in ws:
        await ws.send('%s: %s' % (room, message))


@websocket_route('/quiet')
async def quiet():
    """Ask for nothing."""


@websocket_route('/fails')
async def fails(ws: WebSocket):
    raise RuntimeError('password=hunter2')


def page() -> str:
    return 'page'


def denial(status, body, *headers):
    length = (b'content-length', b'%d' % len(body))
    return [
        {
            'type': 'websocket.http.response.start',
            'status': status,
            'headers': [*headers, length, (b'content-type', b'application/json')],
        },
        {'type': 'websocket.http.response.body', 'body': body},
    ]


class TestConversations:
    async def test_a_handler_is_connected_run_and_closed(self):
        app = ASyncApp(collect_routes(chat))
        sent_messages = await run(app, scope('/chat/a'), Peer(CONNECT, text('hello'), disconnect()))
        assert sent_messages == [ACCEPT, sent('a: hello')]

    async def test_a_handler_need_not_ask_for_the_channel(self):
        assert await run(ASyncApp(collect_routes(quiet)), scope('/quiet'), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_an_unknown_path_is_denied_as_over_http(self):
        assert await run(ASyncApp([]), scope('/nope'), Peer(CONNECT)) == denial(404, b'"Not found"')

    async def test_without_the_extension_a_denial_is_a_close(self):
        assert await run(ASyncApp([]), scope('/nope', extensions={}), Peer(CONNECT)) == [{'type': 'websocket.close'}]

    async def test_a_client_gone_before_the_answer_is_not_answered(self, caplog):
        for url in ('/nope', '/quiet'):
            assert await run(ASyncApp(collect_routes(quiet)), scope(url), Peer(disconnect(1006))) == []
        assert caplog.records == []

    async def test_a_client_gone_during_the_denial_is_no_error(self, caplog):
        peer = Peer(CONNECT)
        peer.send = Peer(OSError('gone')).receive

        async def send(message):
            raise OSError('gone')

        peer.send = send
        await run(ASyncApp([]), scope('/nope'), peer)
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []

    async def test_an_unexpected_exception_closes_with_1011_and_reaches_the_log(self, caplog):
        assert await run(ASyncApp(collect_routes(fails)), scope('/fails'), Peer(CONNECT)) == [
            ACCEPT,
            closed(1011, 'Internal error'),
        ]
        (record,) = caplog.records
        assert (record.name, record.levelname, record.exc_info[0]) == ('apistar_ws', 'ERROR', RuntimeError)

    async def test_a_cancellation_from_outside_closes_with_1012_and_goes_on(self):
        peer = Peer(CONNECT)
        task = asyncio.ensure_future(ASyncApp(collect_routes(chat))(scope('/chat/a'), peer.receive, peer.send))
        while not peer.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT, closed(1012)]

    async def test_the_cancellation_of_another_task_is_a_failure_of_the_handler(self, caplog):
        @websocket_route('/other')
        async def other(ws: WebSocket):
            task = asyncio.ensure_future(asyncio.sleep(3600))
            task.cancel()
            await task

        # Python 3.10 does not count cancellations, and this one is taken for the server's.
        counts = sys.version_info >= (3, 11)
        peer = Peer(CONNECT)
        with contextlib.nullcontext() if counts else pytest.raises(asyncio.CancelledError):
            await run(ASyncApp(collect_routes(other)), scope('/other'), peer)
        assert peer.sent == [ACCEPT, closed(1011, 'Internal error') if counts else closed(1012)]
        assert len(caplog.records) == int(counts)

    async def test_what_a_failing_task_group_holds_decides(self, caplog):
        class Group(Exception):
            exceptions = (exceptions.NotFound(),)

        @websocket_route('/group')
        async def group(ws: WebSocket):
            raise Group

        assert await run(ASyncApp(collect_routes(group)), scope('/group'), Peer(CONNECT)) == [
            ACCEPT,
            closed(4404, 'Not found'),
        ]
        assert caplog.records == []

    async def test_a_disconnect_of_another_channel_is_a_failure_of_this_handler(self, caplog):
        from apistar_ws import WebSocketDisconnect

        @websocket_route('/other')
        async def other(ws: WebSocket):
            raise WebSocketDisconnect(1001)

        assert await run(ASyncApp(collect_routes(other)), scope('/other'), Peer(CONNECT)) == [
            ACCEPT,
            closed(1011, 'Internal error'),
        ]
        assert len(caplog.records) == 1


class TestHooks:
    """Event hooks as API Star documents them, on handshakes."""

    def made(self, *hooks, routes=None, **options):
        return ASyncApp(routes or collect_routes(chat, quiet, fails), event_hooks=list(hooks), **options)

    async def test_a_guard_protects_websockets_too(self):
        class Guard:
            def on_request(self, request: http.Request):
                if 'authorization' not in request.headers:
                    raise exceptions.Forbidden()

        for hook in (Guard, Guard()):
            app = self.made(hook)
            assert await run(app, scope('/quiet'), Peer(CONNECT)) == denial(403, b'"Forbidden"')
            assert await run(app, scope('/quiet', [('authorization', 'x')]), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_hooks_run_then_components_then_the_accept(self):
        order = []

        class Noting:
            async def on_request(self, ws: WebSocket):
                order.append('hook, %s' % ws.state.value)

        class SessionComponent(Component):
            def resolve(self, ws: WebSocket) -> Session:
                order.append('component, %s' % ws.state.value)

        @websocket_route('/order')
        async def handler(session: Session, ws: WebSocket):
            order.append('handler, %s' % ws.state.value)

        app = self.made(Noting, Noting, routes=collect_routes(handler), components=[SessionComponent()])
        await run(app, scope('/order'), Peer(CONNECT))
        assert order == ['hook, connecting', 'hook, connecting', 'component, connecting', 'handler, open']

    async def test_on_response_hooks_and_the_exception_handler_make_the_denial(self):
        class Header:
            def on_response(self, response: http.Response, exc: Exception):
                response.headers['X-Error'] = type(exc).__name__

        class App(ASyncApp):
            def exception_handler(self, exc: Exception) -> http.Response:
                if isinstance(exc, ValueError):
                    return http.JSONResponse({'value': str(exc)}, 418)
                return super().exception_handler(exc)

        class Failing:
            def on_request(self):
                raise ValueError('no')

        app = App(collect_routes(quiet), event_hooks=[Failing, Header])
        assert await run(app, scope('/quiet'), Peer(CONNECT)) == [
            {
                'type': 'websocket.http.response.start',
                'status': 418,
                'headers': [
                    (b'content-length', b'14'),
                    (b'content-type', b'application/json'),
                    (b'x-error', b'ValueError'),
                ],
            },
            {'type': 'websocket.http.response.body', 'body': b'{"value":"no"}'},
        ]
        assert (await run(app, scope('/nope'), Peer(CONNECT)))[0]['headers'][-1] == (b'x-error', b'NotFound')

    async def test_an_unexpected_exception_in_a_hook_is_a_denial_500(self, caplog):
        seen = []

        class Failing:
            def on_request(self):
                raise RuntimeError('password=hunter2')

            def on_error(self, exc: Exception):
                seen.append(type(exc))

        assert await run(self.made(Failing), scope('/quiet'), Peer(CONNECT)) == denial(500, b'"Server error"')
        assert seen == [RuntimeError]
        assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]

    async def test_a_hook_that_cannot_be_made_is_a_denial_500(self, caplog):
        class Once:
            made = 0

            def __init__(self):
                Once.made += 1
                if Once.made > 2:
                    raise RuntimeError

            def on_request(self):
                """Never run."""

        assert await run(self.made(Once), scope('/quiet'), Peer(CONNECT)) == denial(500, b'"Server error"')

    async def test_a_client_that_leaves_while_hooks_make_its_denial_is_no_error(self, caplog):
        class Slow:
            async def on_response(self, response: http.Response):
                for i in range(5):
                    await asyncio.sleep(0)
                    app._watch().look(float(i))

        app = self.made(Slow)
        await run(app, scope('/nope'), Peer(CONNECT, disconnect(1006)))
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []

    async def test_hooks_of_a_denial_get_what_there_is(self):
        class Cors:
            def on_response(
                self, response: http.Response, origin: http.Header, query: http.QueryString, token: str = 'x'
            ):
                response.headers['X-Seen'] = '%s %s' % (token, query.isascii())

        app = self.made(Cors)
        undecodable = {**scope('/quiet'), 'headers': [(b'origin', b'\xff')], 'query_string': b'\xff'}
        for made, status in [(undecodable, 400), (scope('/nope?token=t'), 404)]:
            start = (await run(app, made, Peer(CONNECT)))[0]
            assert (start['status'], start['headers'][-1][0]) == (status, b'x-seen')

    async def test_on_error_hooks_run_after_the_accept_too_and_their_own_errors_are_logged(self, caplog):
        seen = []

        class Noting:
            async def on_error(self, exc: Exception, ws: WebSocket):
                seen.append((type(exc), ws.close_code))

        class Failing:
            def on_error(self):
                raise KeyError

        await run(self.made(Failing, Noting), scope('/fails'), Peer(CONNECT))
        assert seen == [(RuntimeError, 1011)]
        assert [record.exc_info[0] for record in caplog.records] == [RuntimeError, KeyError]

    async def test_an_http_exception_after_a_hook_has_connected_is_a_close_code(self):
        class Connecting:
            async def on_request(self, ws: WebSocket):
                await ws.connect()
                raise exceptions.BadRequest('no')

        assert await run(self.made(Connecting), scope('/quiet'), Peer(CONNECT)) == [ACCEPT, closed(4400, 'no')]

    async def test_connections_leave_nothing_behind(self):
        class Hook:
            def on_request(self, path: http.Path):
                """Be made for each connection."""

            def on_response(self, response: http.Response):
                """Be made for each connection."""

        app = self.made(Hook)

        async def connections(count):
            for i in range(count):
                await run(app, scope('/quiet'), Peer(CONNECT))
                await run(app, scope('/nope/%d' % i), Peer(CONNECT))
            gc.collect()
            return len(app._handshake_injector.resolver_cache), tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            await connections(200)
            steps, memory = await connections(300)
            more_steps, more_memory = await connections(300)
        finally:
            tracemalloc.stop()
        assert more_steps == steps
        assert more_memory - memory < 30_000


class TestSlowHandshake:
    """A client that leaves while hooks or components take their time."""

    def made(self, release):
        class Slow(Component):
            async def resolve(self) -> Session:
                await release.wait()
                await asyncio.sleep(0.002)

        ran = []

        @websocket_route('/slow')
        async def handler(session: Session, ws: WebSocket):
            ran.append(True)

        return ASyncApp(collect_routes(handler), components=[Slow()]), ran

    @pytest.mark.parametrize('found_by_the_watch', [False, True])
    async def test_nothing_is_sent_and_the_handler_does_not_run(self, found_by_the_watch, caplog):
        release = asyncio.Event()
        app, ran = self.made(release)
        peer = Peer(CONNECT, disconnect(1006))
        serving = asyncio.ensure_future(run(app, scope('/slow'), peer))
        for i in range(10):
            await asyncio.sleep(0)
            if found_by_the_watch:
                app._watch().look(float(i))
        release.set()
        assert await serving == []
        assert (ran, caplog.records) == ([], [])

    async def test_a_client_that_stays_is_accepted_and_loses_no_message(self):
        release = asyncio.Event()
        app, ran = self.made(release)
        release.set()
        assert await run(app, scope('/slow'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        assert ran == [True]

    async def test_a_handler_that_connects_late_finds_its_client_gone(self):
        @websocket_route('/late', connect=False)
        async def late(ws: WebSocket):
            while True:
                await asyncio.sleep(0)
                app._watch().look(asyncio.get_running_loop().time())

        app = ASyncApp(collect_routes(late))
        assert await run(app, scope('/late'), Peer(CONNECT, disconnect(1006))) == []


class TestAdmission:
    @pytest.mark.parametrize(
        'url, options, status, body',
        [
            ('/limited', {'query_string': b'\xff'}, 400, b'"The query string and the headers have to be UTF-8"'),
            ('/limited', {'headers': [(b'x', b'\xff')]}, 400, b'"The query string and the headers have to be UTF-8"'),
            ('/limited', {'headers': [(b'x', b'\xff'), (b'x', b'a')]}, 400, None),
            ('/limited?x=a', {}, 400, b'{"x":"Must be a number."}'),
            ('/needed', {}, 400, b'{"x":"The \\"x\\" field is required."}'),
            ('/needed?x=1', {'headers': [(b'host', b'[')]}, 400, b'"The Host header is malformed"'),
            ('/limited', {'headers': [(b'host', b'a'), (b'origin', b'http://b')]}, 403, b'"Origin not allowed"'),
            ('/limited', {'headers': [(b'host', b'a'), (b'origin', b'null')]}, 403, None),
            ('/limited', {'headers': [(b'host', b'a'), (b'origin', b'http://a'), (b'origin', b'http://a')]}, 403, None),
            ('/limited', {'headers': [(b'origin', b'http://a')]}, 403, None),
        ],
    )
    async def test_what_may_not_pass_is_denied(self, url, options, status, body):
        @websocket_route('/limited')
        async def limited(ws: WebSocket, x: int = 0):
            """Be limited."""

        @websocket_route('/needed')
        async def needed(x: int, host: http.Host):
            """Need a parameter."""

        messages = await run(
            ASyncApp(collect_routes(limited, needed)),
            scope(url, **{'headers': []} | options) if 'headers' not in options else {**scope(url), **options},
            Peer(CONNECT),
        )
        assert messages[0]['status'] == status
        assert body in (None, messages[1]['body'])

    @pytest.mark.parametrize(
        'headers',
        [
            [(b'host', b'a:80'), (b'origin', b'http://a')],
            [(b'host', b'a'), (b'x', 'é'.encode()), (b'x', b'b')],
            [],
        ],
    )
    async def test_what_may_pass_passes(self, headers):
        app = ASyncApp(collect_routes(quiet))
        assert await run(app, {**scope('/quiet'), 'headers': headers}, Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_every_origin_passes_where_the_route_says_so(self):
        @websocket_route('/open', allowed_origins='*')
        async def handler():
            """Be open."""

        app = ASyncApp(collect_routes(handler))
        assert await run(app, scope('/open', [('origin', 'null')]), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_a_full_route_denies_with_503_until_a_connection_ends(self):
        @websocket_route('/two', max_connections=2)
        async def two(ws: WebSocket):
            async for _ in ws:
                """Stay."""

        app = ASyncApp(collect_routes(two))
        async with connect(app, '/two'):
            async with connect(app, '/two'):
                for _ in range(2):
                    with pytest.raises(HandshakeDenied) as info:
                        async with connect(app, '/two'):
                            """Not get here."""
                    assert (info.value.status, info.value.headers['retry-after']) == (503, '5')
            async with connect(app, '/two'):
                """Fit in."""


class TestEntrance:
    def test_servers_take_it_for_asgi_3(self):
        app = ASyncApp([])
        assert inspect.iscoroutinefunction(app.__call__) or asyncio.iscoroutinefunction(app.__call__)

    async def test_it_can_be_called_the_asgi_2_way(self):
        peer = Peer(CONNECT)
        await ASyncApp(collect_routes(quiet))(scope('/quiet'))(peer.receive, peer.send)
        assert peer.sent == [ACCEPT, CLOSE]

    async def test_the_lifespan_is_answered(self):
        peer = Peer({'type': 'lifespan.startup'}, {'type': 'lifespan.shutdown'})
        assert await run(ASyncApp([]), {'type': 'lifespan'}, peer) == [
            {'type': 'lifespan.startup.complete'},
            {'type': 'lifespan.shutdown.complete'},
        ]

    @pytest.mark.parametrize('path, found', [('/api', '/'), ('/api/', '/'), ('/apiary', '/apiary')])
    async def test_a_root_path_ends_with_a_segment(self, path, found):
        @websocket_route('/{+path}', name='any')
        @websocket_route('/', name='root')
        async def where(ws: WebSocket):
            await ws.send(ws.scope['path'])

        peer = Peer(CONNECT)
        await run(ASyncApp(collect_routes(where)), scope(path, root_path='/api'), peer)
        assert peer.sent[1] == sent(found)

    @pytest.mark.parametrize('path', ['/api/chat/a', '/chat/a'])
    async def test_a_root_path_is_taken_off_where_the_server_put_it_on(self, path):
        @websocket_route('/chat/{room}')
        async def where(path: http.Path, ws: WebSocket):
            await ws.send('%s %s' % (path, ws.url))

        peer = Peer(CONNECT)
        await run(ASyncApp(collect_routes(where)), scope(path, root_path='/api'), peer)
        assert peer.sent[1] == sent('/api/chat/a ws://testserver/api/chat/a')

    async def test_each_event_loop_has_a_watch_and_closed_ones_are_forgotten(self):
        app = ASyncApp(collect_routes(quiet))
        other = asyncio.new_event_loop()
        app._watches[other] = None
        watch = app._watch()
        assert app._watch() is watch
        other.close()
        app._watches.pop(watch.loop)
        assert app._watch().loop is asyncio.get_running_loop()
        assert list(app._watches) == [asyncio.get_running_loop()]


class TestBesideHTTP:
    @pytest.fixture
    def client(self):
        async def both(ws: WebSocket):
            await ws.connect()
            await ws.send('both')

        routes = [
            Route('/', 'GET', page),
            Route('/both', 'GET', page, name='both_page'),
            Include('/in', 'in', [Route('/page', 'GET', page)] + collect_routes(chat)),
        ] + collect_routes(quiet)
        routes.append(Route('/both', 'GET', both, name='both_ws'))
        client = TestClient(ASyncApp(routes))
        yield client
        client.close()

    def test_one_path_serves_http_and_a_websocket(self, client):
        assert client.get('/both').text == 'page'
        with client.websocket_connect('/both') as ws:
            assert ws.receive() == 'both'

    def test_a_path_of_one_kind_is_not_found_by_the_other(self, client):
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/'):
                """Not get here."""
        assert (info.value.status, info.value.json()) == (404, 'Not found')
        response = client.get('/quiet')
        assert (response.status_code, response.headers['upgrade']) == (426, 'websocket')
        assert client.get('/in/chat/a').status_code == 426

    def test_websockets_are_in_no_schema(self, client):
        paths = client.get('/schema/').json()['paths']
        assert sorted(paths) == ['/', '/both', '/in/page']
        assert client.get('/docs/').status_code == 200
        assert client.get('/static/apistar/css/base.css').status_code == 200

    def test_a_plain_function_serves_http_whatever_its_components_ask_for(self):
        class OverWebSocket(Component):
            def resolve(self, ws: WebSocket) -> Session:
                return Session()

        def over(session: Session) -> str:
            return type(session).__name__

        async def over_async(session: Session):
            """Be a handler for WebSockets."""

        routes = [Route('/plain', 'GET', over), Route('/async', 'GET', over_async)]
        client = TestClient(ASyncApp(routes, components=[OverWebSocket()]))
        assert client.get('/plain').text == 'Session'
        assert client.get('/async').status_code == 426
        client.close()

    def test_components_have_to_be_components(self):
        with pytest.raises(
            exceptions.ConfigurationError, match='components holds .* which is no instance of Component'
        ):
            ASyncApp([], components=[WebSocketComponent])

    def test_it_is_an_api_star_application(self, client):
        assert isinstance(ASyncApp([]), apistar.ASyncApp)
