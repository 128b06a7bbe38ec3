import asyncio
import inspect

import apistar
import pytest
import werkzeug.test
from apistar import Include, Route, exceptions, http
from apistar.exceptions import ConfigurationError
from apistar.server.components import Component
from apistar.server.router import Router as HTTPRouter

from apistar_ws import ASyncApp, WebSocket, WebSocketComponent, collect_routes, websocket_route
from apistar_ws.testing import HandshakeDenied, TestClient
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, run, scope, sent


class Session:
    """Something that a component supplies."""


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket):
    """Serve a WebSocket that no test here opens."""


@websocket_route('/quiet')
async def quiet():
    """Ask for nothing."""


def page() -> str:
    return 'page'


class TestASGI:
    def test_servers_take_it_for_asgi_3(self):
        app = ASyncApp([])
        assert inspect.iscoroutinefunction(app.__call__) or asyncio.iscoroutinefunction(app.__call__)

    async def test_asgi_2_call_is_supported(self):
        """The application can be called as in ASGI 2."""
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
    async def test_root_path_ends_at_a_segment(self, path, found):
        """A root path is removed only where it ends with a segment."""

        @websocket_route('/{+path}', name='any')
        @websocket_route('/', name='root')
        async def where(ws: WebSocket):
            await ws.send(ws.scope['path'])

        peer = Peer(CONNECT)
        await run(ASyncApp(collect_routes(where)), scope(path, root_path='/api'), peer)
        assert peer.sent[1] == sent(found)

    async def test_each_loop_has_a_watch(self):
        """Each event loop has a watch, and those of closed loops are forgotten."""
        app = ASyncApp(collect_routes(quiet))
        other = asyncio.new_event_loop()
        app.websocket_lifecycle.watches._by_loop[other] = None
        watch = app.websocket_lifecycle.watches.current()
        assert app.websocket_lifecycle.watches.current() is watch
        other.close()
        app.websocket_lifecycle.watches._by_loop.pop(watch.loop)
        assert app.websocket_lifecycle.watches.current().loop is asyncio.get_running_loop()
        assert list(app.websocket_lifecycle.watches._by_loop) == [asyncio.get_running_loop()]


@pytest.mark.filterwarnings('ignore:There is no current event loop:DeprecationWarning')
def test_development_server_serves_http(monkeypatch, capsys):
    """The development server of API Star serves HTTP."""
    served = []

    def run_simple(host, port, wsgi, **options):
        environ = werkzeug.test.create_environ('/page')
        environ['REMOTE_PORT'] = '5'
        served.append((host, port, b''.join(wsgi(environ, lambda *answer: None))))
        wsgi.loop.close()

    monkeypatch.setattr(werkzeug, 'run_simple', run_simple, raising=False)
    ASyncApp([Route('/page', 'GET', page)]).serve('127.0.0.1', 5000)
    assert capsys.readouterr().err == ''
    asyncio.set_event_loop(None)
    ASyncApp([Route('/page', 'GET', page), *collect_routes(quiet)]).serve('127.0.0.1', 5000)
    asyncio.set_event_loop(None)
    assert served == 2 * [('127.0.0.1', 5000, b'page')]
    assert capsys.readouterr().err == 'WebSockets are not served here: they need an ASGI server, such as uvicorn.\n'


class TestSubclasses:
    async def test_init_injector_may_add_components(self):
        """Components that an overridden init_injector adds are known."""

        class SessionComponent(Component):
            def resolve(self) -> Session:
                return Session()

        class Adding(ASyncApp):
            def init_injector(self, components=None):
                super().init_injector([SessionComponent(), *(components or [])])

        class Replacing(ASyncApp):
            def init_injector(self, components=None):
                self.injector = apistar.ASyncApp([], components=[SessionComponent()]).injector

        @websocket_route('/')
        async def handler(session: Session, ws: WebSocket):
            await ws.send(type(session).__name__)

        for app in (Adding(collect_routes(handler)), Replacing(collect_routes(handler))):
            assert (await run(app, scope(), Peer(CONNECT)))[1] == sent('Session')

    async def test_settings_of_added_component_count(self):
        """The settings of a component that a subclass adds count."""

        class App(ASyncApp):
            def init_injector(self, components=None):
                super().init_injector([*(components or []), WebSocketComponent(max_message_size=7)])

        app = App(collect_routes(quiet))
        assert app.websocket_lifecycle.endpoints[0].settings.max_message_size == 7

    async def test_own_router_serves_http(self):
        """A router of a subclass serves HTTP."""

        class App(ASyncApp):
            def init_router(self, routes):
                self.router = HTTPRouter(routes)

        app = App(collect_routes(quiet) + [Route('/page', 'GET', page)])
        assert await run(app, scope('/quiet'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        client = TestClient(app)
        assert client.get('/page').text == 'page'
        client.close()


class TestHTTPRoutes:
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

    def test_one_path_serves_both(self, client):
        """One path serves HTTP and a WebSocket."""
        assert client.get('/both').text == 'page'
        with client.websocket_connect('/both') as ws:
            assert ws.receive() == 'both'

    def test_kinds_do_not_share_paths(self, client):
        """The path of one kind of route is not found by the other kind."""
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

    def test_plain_function_serves_http(self):
        """A plain function serves HTTP, whatever its components ask for."""

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
            exceptions.ConfigurationError, match=r'components holds .* which is no instance of Component: write \w+\(\)'
        ):
            ASyncApp([], components=[WebSocketComponent])

    def test_it_is_an_api_star_application(self, client):
        assert isinstance(ASyncApp([]), apistar.ASyncApp)


class TestFailures:
    """What fails over HTTP, which API Star answers with 500 and says nothing of."""

    def made(self):
        def fail(q: http.QueryParam) -> str:
            raise KeyError('disk full')

        return ASyncApp([Route('/fail/', 'GET', fail)])

    async def ask(self, app, **changes):
        peer = Peer()
        await app({**scope('/fail/?q=secret'), 'type': 'http', 'method': 'GET', **changes}, peer.receive, peer.send)
        return peer.sent[0]['status']

    async def test_the_traceback_is_in_the_log(self, caplog):
        assert await self.ask(self.made()) == 500
        assert [(record.getMessage(), record.exc_info[0]) for record in caplog.records] == [
            ('GET /fail/: the request failed.', KeyError)
        ]

    async def test_raised_exceptions_are_not_logged(self, caplog):
        """Exceptions that are raised are not logged, too."""
        app = self.made()
        with pytest.raises(KeyError):
            await self.ask(app, raise_exceptions=True)
        app.debug = True
        with pytest.raises(KeyError):
            await self.ask(app)
        assert caplog.records == []


class TestRoutes:
    def test_ignored_routes_are_refused(self):
        """Routes that API Star would leave out are refused."""

        @websocket_route('/chat')
        async def chat(ws: WebSocket):
            """Not run."""

        advice = 'routes holds the handler .*<locals>.chat: collect_routes'
        for routes in ([chat], [Include('/api', 'api', [chat])]):
            with pytest.raises(ConfigurationError, match=advice):
                ASyncApp(routes)
        with pytest.raises(ConfigurationError, match='routes holds a list: concatenate it'):
            ASyncApp([collect_routes(chat)])


class First:
    """A hook that is made anew each time."""

    def __init__(self):
        self.on_error = lambda: 'set when it is made'

    def on_request(self):
        """Run before."""

    def on_response(self):
        """Run after."""


class Second:
    """A hook of which there is one, and which has one method."""

    def on_response(self):
        """Run after."""


def test_event_hooks_match_api_star():
    """Event hooks are those that API Star finds, in its order."""
    second = Second()
    app = ASyncApp([], event_hooks=[First, second])

    def named(found):
        return [[method.__qualname__ for method in methods] for methods in found]

    found = app.get_event_hooks()
    assert named(found) == named(apistar.ASyncApp.get_event_hooks(app))
    assert [method.__qualname__ for method in found[1]] == ['Second.on_response', 'First.on_response']
    assert found[1][0].__self__ is second
    assert found[0][0].__self__ is not app.get_event_hooks()[0][0].__self__


class TestRootPath:
    """A prefix that only the proxy and the client know of."""

    def app(self):
        def page(path: http.Path, url: http.URL):
            return '%s %s' % (path, url)

        @websocket_route('/chat/{room}')
        async def chat(path: http.Path, url: http.URL, ws: WebSocket):
            assert url == ws.url
            await ws.send('%s %s' % (path, url))

        @websocket_route('/slash/')
        async def slash():
            """Lead there."""

        routes = [Route('/page/{name}', 'GET', page), Route('/folder/', 'GET', page, name='folder')]
        return ASyncApp([*routes, *collect_routes(chat, slash)])

    async def seen(self, kind, path, root_path):
        """Return status and headers of the answer, and what the handler has sent."""
        made = {**scope(path, root_path=root_path), 'server': ('testserver', 80)}
        peer = Peer(CONNECT)
        if kind == 'http':
            made.update(type='http', method='GET', scheme='http')
            await self.app()(made, peer.receive, peer.send)
        else:
            await run(self.app(), made, peer)
        first, second = peer.sent[:2]
        return first.get('status', 101), dict(first['headers']), second.get('text') or second['body'].decode()

    @pytest.mark.parametrize('root_path', ['/', '/api', '/api/', '/api/v1', '/api//'])
    @pytest.mark.parametrize('added', ['added', 'left to the application'])
    @pytest.mark.parametrize(
        'kind, path, status',
        [
            ('http', '/page/a', 200),
            ('websocket', '/chat/a', 101),
            ('http', '//page/a', 404),
            ('websocket', '//chat/a', 404),
        ],
    )
    async def test_path_excludes_the_prefix(self, kind, path, status, root_path, added):
        """The path does not contain the prefix, and the URL does."""
        if path.startswith('//') and added != 'added' and root_path == '/':
            # It cannot be told from a path to which the server has added the root path.
            status = status and {'http': 200, 'websocket': 101}[kind]
        given = root_path + path if added == 'added' else path
        answered, _, text = await self.seen(kind, given, root_path)
        assert answered == status
        if status != 404:
            within = path.replace('//', '/')
            scheme = 'http' if kind == 'http' else 'ws'
            assert text == '%s %s://testserver%s' % (within, scheme, root_path.rstrip('/') + within)

    @pytest.mark.parametrize('kind, path', [('http', '/folder'), ('websocket', '/slash')])
    @pytest.mark.parametrize('root_path', ['', '/', '/api', '/api/'])
    async def test_a_redirect_has_the_prefix(self, kind, path, root_path):
        status, headers, _ = await self.seen(kind, root_path + path, root_path)
        location = headers[b'location'].decode()
        assert (status, location) == (302, root_path.rstrip('/') + path + '/')

    async def test_application_redirect_is_unchanged(self):
        """A redirect of the application is not changed."""

        def away():
            raise exceptions.Found('/elsewhere')

        peer = Peer()
        made = {**scope('/api/away', root_path='/api'), 'type': 'http', 'method': 'GET'}
        await ASyncApp([Route('/away', 'GET', away)])(made, peer.receive, peer.send)
        assert dict(peer.sent[0]['headers'])[b'location'] == b'/elsewhere'

    async def test_path_guard_works_behind_prefix(self):
        """A guard that checks the path works behind a prefix, too."""

        class Guard:
            def on_request(self, path: http.Path):
                assert path.startswith('/rooms/')
                raise exceptions.Forbidden()

        @websocket_route('/rooms/{room}')
        async def room():
            """Not get here."""

        app = ASyncApp(collect_routes(room), event_hooks=[Guard])
        for path in ('/api/rooms/a', '/rooms/a'):
            assert (await run(app, scope(path, root_path='/api'), Peer(CONNECT)))[0]['status'] == 403
