"""An application written for API Star runs unchanged: each expectation holds for its ``ASyncApp`` and for ours.

The fixtures ``ASyncApp`` and ``TestClient`` stand for the imports of an application and of its tests; nothing but
them differs from API Star to this package.
"""

import asyncio
import contextlib
import gc
import inspect
import json
import typing
import weakref

import apistar
import pytest
import requests
import werkzeug
from apistar import App, Client, Include, Route, exceptions, http, types, validators
from apistar.server.adapters import ASGItoWSGIAdapter
from apistar.server.asgi import ASGIReceive, ASGIScope, ASGISend
from apistar.server.components import Component, ReturnValue
from apistar.server.router import BaseRouter
from werkzeug.test import create_environ

import apistar_ws
import apistar_ws.testing
from tests.servers import ROOT, serving

DATA = ROOT / 'tests' / 'data'
TEMPLATES = str(DATA / 'templates')
STATIC = str(DATA / 'static')

#: Where ``ASyncApp`` and ``TestClient`` come from.
WAYS = {
    'apistar': (apistar.ASyncApp, apistar.TestClient),
    'apistar_ws': (apistar_ws.ASyncApp, apistar.TestClient),
    'apistar_ws and its client': (apistar_ws.ASyncApp, apistar_ws.testing.TestClient),
}


@pytest.fixture(autouse=True)
def loop():
    """The current event loop, which API Star's test client and development server ask for."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.fixture
def ASyncApp(way):
    return way[0]


@pytest.fixture
def TestClient(way):
    with clients(way[1]) as make:
        yield make


@contextlib.contextmanager
def clients(kind):
    """Give a ``TestClient`` of that kind; those made with it are closed at the end, where there is what to close."""
    made = []

    def make(app, *args, **options):
        made.append(kind(app, *args, **options))
        return made[-1]

    yield make
    for client in made:
        if isinstance(client, apistar_ws.testing.TestClient):
            client.close()


def routed(*handlers, url='/{name}/'):
    """Return a route for each handler, at its name."""
    return [Route(url.replace('{name}', handler.__name__), 'GET', handler) for handler in handlers]


class Plant(types.Type):
    name = validators.String(max_length=12)
    height = validators.Number(minimum=0, default=0.5)
    light = validators.String(enum=['sun', 'shade'], default='sun')


class Bed(types.Type):
    label = validators.String()
    plants = validators.Array(items=Plant, max_items=2)
    dug = validators.DateTime(allow_null=True)


FERN = {'name': 'fern'}
NAMELESS = {'name': 'The "name" field is required.'}


class Season(types.Type):
    first = validators.Integer(minimum=1, maximum=12)
    last = validators.Integer(minimum=1, maximum=12)

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.last < self.first:
            raise exceptions.ValidationError('A season ends after it begins.')


def page() -> str:
    return '<p>Page</p>'


def fails():
    raise RuntimeError('The mole was here')


# The whole application


IMPORT = 'from apistar import App, ASyncApp, Include'
CHANGED_IMPORT = 'from apistar_ws import ASyncApp; from apistar import App, Include'
PLAIN = {'User-Agent': 'test', 'Accept-Encoding': 'identity'}
BEAN = {'name': 'pea', 'height': 1, 'position': {'row': 2, 'column': 1}}

#: Requests to tests/data/garden.py in the order in which they are made: method, URL, options.
REQUESTS = [
    ('GET', '/', {}),
    ('GET', '/?name=Ana', {}),
    ('GET', '/?hour=23', {}),
    ('HEAD', '/', {}),
    ('POST', '/', {}),
    ('GET', '/who/', {}),
    ('GET', '/who/', {'auth': ('ana', 'spade')}),
    ('GET', '/who/', {'auth': ('ana', 'rake')}),
    ('GET', '/who/', {'headers': {'Authorization': 'Bearer x'}}),
    ('GET', '/month/', {}),
    ('GET', '/month/?month=June', {}),
    ('GET', '/pages/a/b%20c/%C3%A9', {}),
    ('GET', '/half/3.5', {}),
    ('GET', '/half/3', {}),
    ('GET', '/labels/a%3Cb/', {}),
    ('GET', '/labels/a?x=1', {'allow_redirects': False}),
    ('GET', '/labels/a?x=1', {}),
    ('GET', '/echo/?a=1&b=%20&a=2&c=', {'headers': {'X-Some': 'thing'}}),
    ('POST', '/echo/', {'data': 'text'}),
    ('GET', '/moved/', {'allow_redirects': False}),
    ('GET', '/moved/', {}),
    ('GET', '/fails/', {}),
    ('GET', '/nowhere/', {}),
    ('GET', '/plants', {'allow_redirects': False}),
    ('GET', '/plants/', {}),
    ('GET', '/plants/?light=shade&perennial=true', {}),
    ('GET', '/plants/?at_least=1.0', {}),
    ('GET', '/plants/?at_least=tall', {}),
    ('GET', '/plants/?perennial=maybe', {}),
    ('GET', '/plants/1', {}),
    ('GET', '/plants/99', {}),
    ('GET', '/plants/fern', {}),
    ('POST', '/plants/', {'json': BEAN}),
    ('POST', '/plants/', {'json': {**BEAN, 'name': 'x' * 20, 'light': 'moon'}}),
    ('POST', '/plants/', {'json': {**BEAN, 'position': {'row': 0}}}),
    ('POST', '/plants/', {'json': {**BEAN, 'planted': '2018-13-01'}}),
    ('POST', '/plants/', {'json': []}),
    ('POST', '/plants/', {}),
    ('POST', '/plants/', {'data': b'{', 'headers': {'Content-Type': 'application/json'}}),
    ('POST', '/plants/', {'data': b'?', 'headers': {'Content-Type': 'what/ever'}}),
    ('GET', '/plants/3', {}),
    ('PUT', '/plants/3?month=July', {'json': {**BEAN, 'perennial': True}}),
    ('PATCH', '/plants/3', {}),
    ('DELETE', '/plants/3', {}),
    ('DELETE', '/plants/3', {'auth': ('ana', 'spade')}),
    ('GET', '/plants/3', {}),
    ('GET', '/static/garden.css', {}),
    ('GET', '/static/garden.css', {'headers': {'If-Modified-Since': 'Wed, 01 Jan 2200 00:00:00 GMT'}}),
    ('GET', '/static/notes/today.txt', {}),
    ('GET', '/static/notes/', {}),
    ('GET', '/static/../garden.py', {}),
    ('HEAD', '/static/garden.css', {}),
    ('POST', '/static/garden.css', {}),
    ('GET', '/static/apistar/css/base.css', {}),
    ('GET', '/static/apistar/js/highlight.pack.js', {}),
    ('GET', '/docs/', {}),
    ('GET', '/docs', {'allow_redirects': False}),
    ('GET', '/schema/', {}),
    ('OPTIONS', '/schema/', {}),
]


@apistar_ws.websocket_route('/live/{plant_id}')
async def live(plant_id: int, ws: apistar_ws.WebSocket):
    await ws.send('plant %d' % plant_id)


def garden(way=apistar.ASyncApp, name='garden', websockets=()):
    """Return what the module tests/data/garden.py defines, with the ``ASyncApp`` that it imports changed for ours.

    Each of its two lists of routes begins with ``websockets``, if there are any.
    """
    path = DATA / 'garden.py'
    source = path.read_text()
    assert source.count(IMPORT) == source.count('import App, ASyncApp') == 1
    if way is apistar_ws.ASyncApp:
        source = source.replace(IMPORT, CHANGED_IMPORT)
    if websockets:
        assert source.count(' = [\n    Route(') == 2
        source = source.replace(' = [\n    Route(', ' = [*websockets,\n    Route(')
    namespace = {'__name__': name, '__file__': str(path), 'websockets': websockets}
    exec(compile(source, str(path), 'exec'), namespace)
    assert type(namespace['app']) is way
    return namespace


def answer(session, method, url, options, server):
    """Return all that there is to an answer but time and port, or the exception that came instead."""
    headers = {**PLAIN, **options.get('headers', {})}
    try:
        response = session.request(method, server + url, **{**options, 'headers': headers})
    except Exception as exc:
        return type(exc), str(exc)
    received = sorted(pair for pair in response.headers.items() if pair[0] != 'date')
    content = response.content.replace(server.split('/')[-1].encode(), b'')
    return response.status_code, response.url[len(server) :], received, content


def answers(session, server=''):
    return {(number, *request[:2]): answer(session, *request, server=server) for number, request in enumerate(REQUESTS)}


def run_as_a_program(monkeypatch, way):
    """Run tests/data/garden.py as a program, and return what it had werkzeug's development server serve."""
    served = []
    monkeypatch.setattr(werkzeug, 'run_simple', lambda *args, **options: served.append((args, options)))
    garden(way, '__main__')
    (((host, port, wsgi), options),) = served
    return host, port, wsgi, options


def call(wsgi, *args, **options):
    """Call a WSGI application as a server would, and return status, headers and body."""
    started = []
    body = b''.join(wsgi(create_environ(*args, **options), lambda *start: started.append(start)))
    ((status, headers, _),) = started
    return status, dict(map(tuple, headers)), body


class TestGarden:
    """tests/data/garden.py, where only the import of ``ASyncApp`` is changed."""

    @pytest.mark.parametrize('kind', [apistar.TestClient, apistar_ws.testing.TestClient])
    def test_every_answer_is_the_same(self, kind):
        expected = answers(apistar.TestClient(garden()['app']))
        with clients(kind) as TestClient:
            assert answers(TestClient(garden(apistar_ws.ASyncApp)['app'])) == expected
        assert {outcome[0] for outcome in expected.values()} >= {200, 201, 204, 302, 304, 400, 403, 404, 405, 415}
        assert expected[21, 'GET', '/fails/'] == (RuntimeError, 'The mole was here')

    def test_websocket_routes_change_no_answer(self):
        """WebSocket routes beside those of the application change no answer."""
        expected = answers(apistar.TestClient(garden()['app']))
        app = garden(apistar_ws.ASyncApp, websockets=apistar_ws.collect_routes(live))['app']
        with clients(apistar_ws.testing.TestClient) as TestClient:
            client = TestClient(app)
            assert answers(client) == expected
            for url in ('/live/1', '/plants/live/1'):
                with client.websocket_connect(url) as ws:
                    assert ws.receive() == 'plant 1'

    def test_real_server_gives_same_answers(self):
        """Every answer is the same on a real server."""
        found = []
        for way in (apistar.ASyncApp, apistar_ws.ASyncApp):
            with serving(garden(way)['app']) as server, requests.Session() as session:
                found.append(answers(session, server.http_url))
        expected, received = found
        assert received == expected
        assert {outcome[0] for outcome in expected.values()} == {200, 201, 204, 302, 304, 400, 403, 404, 405, 415, 500}
        _, _, headers, body = expected[54, 'GET', '/static/apistar/js/highlight.pack.js']
        assert dict(headers)['content-length'] == str(len(body))

    def test_it_runs_as_a_program(self, monkeypatch, way):
        host, port, wsgi, options = run_as_a_program(monkeypatch, way[0])
        assert (host, port, options) == ('127.0.0.1', 5000, {'use_debugger': True, 'use_reloader': True})
        status, headers, body = call(wsgi, '/who/')
        assert (status, headers['x-request'], body) == ('200 OK', 'GET /who/', b'{"gardener":null}')
        with pytest.raises(RuntimeError, match='mole'):
            call(wsgi, '/fails/')

    def test_client_library_knows_the_routes(self, way, TestClient):
        """API Star's own client library knows the routes."""
        app = garden(way[0])['app']
        app.document.url = 'http://testserver'
        client = Client(document=app.document, session=TestClient(app))
        assert client.request('who') == {'gardener': None}
        assert client.request('plants:get_plant', plant_id=1)['name'] == 'bean'
        assert client.request('plants:list_plants', light='shade')[0]['name'] == 'fern'


# Piece by piece


class TestConstruction:
    def test_arguments_match_api_star(self):
        """The arguments are those of API Star."""
        expected, received = (
            [
                (name, parameter.kind, parameter.default)
                for name, parameter in inspect.signature(kind.__init__).parameters.items()
            ]
            for kind in (apistar.ASyncApp, apistar_ws.ASyncApp)
        )
        assert received[: len(expected)] == expected
        more = ['websocket_schema_url', 'websocket_docs_url', 'websocket_schema_limits', 'websocket_docs_explain']
        assert [name for name, _, _ in received[len(expected) :]] == more

    def test_arguments_may_be_positional(self, ASyncApp, TestClient):
        """All arguments may be given by position."""
        app = ASyncApp([], TEMPLATES, STATIC, ['tests.data'], '/s/', '/d/', '/f/', [], [])
        client = TestClient(app)
        for url in ('/s/', '/d/', '/f/garden.css', '/f/tests.data/garden.css', '/f/apistar/css/base.css'):
            assert client.get(url).status_code == 200
        assert app.interface == 'asgi'
        assert not app.debug

    def test_extra_pages_can_be_disabled(self, ASyncApp, TestClient):
        """Schema, documentation and static files can be left out."""
        app = ASyncApp([Route('/', 'GET', page)], schema_url=None, docs_url=None, static_url=None)
        client = TestClient(app)
        assert (app.templates, app.statics) == (None, None)
        assert client.get('/').text == '<p>Page</p>'
        for url in ('/schema/', '/docs/', '/static/apistar/css/base.css'):
            assert (client.get(url).status_code, client.get(url).json()) == (404, 'Not found')

    def test_event_hooks_must_be_a_list(self, ASyncApp):
        """The event hooks have to be a list."""
        with pytest.raises(AssertionError, match='event_hooks must be a list'):
            ASyncApp([], event_hooks={'hook'})

    def test_broken_hook_is_found_early(self, ASyncApp):
        """A hook that cannot be constructed is found at the start."""

        class Hook:
            def __init__(self, needed):
                """Not be run."""

        with pytest.raises(TypeError, match='needed'):
            ASyncApp([], event_hooks=[Hook])

    def test_given_routes_are_unchanged(self, ASyncApp):
        """The given routes are not changed."""
        inner = [Route('/', 'GET', page)]
        routes = [Include('/in', 'in', inner)]
        ASyncApp(routes)
        assert len(routes) == 1
        assert routes[0].routes is inner


class TestRouting:
    @pytest.fixture
    def app(self, ASyncApp):
        def number(value: int):
            return {'value': value}

        def fraction(value: float):
            return {'value': value}

        def word(value: str):
            return {'value': value}

        def anything(value):
            return {'value': value}

        def rest(value: str):
            return {'value': value}

        def dated(year: int, month: str, ratio: float):
            return [year, month, ratio]

        def params(params: http.PathParams):
            return dict(params)

        async def asynchronous() -> dict:
            await asyncio.sleep(0)
            return {'hello': 'async'}

        def put():
            return 'put'

        def delete():
            return 'delete'

        routes = routed(number, fraction, word, anything, url='/{name}/{value}')
        return ASyncApp(
            [
                *routes,
                Route('/rest/{+value}', 'GET', rest),
                Route('/rest/{+value}/end', 'GET', rest, name='rest_end'),
                Route('/dated/{year}/{month}/{ratio}/', 'GET', dated),
                Route('/params/{a}/{+b}', 'GET', params),
                Route('/async', 'GET', asynchronous),
                Route('/many', 'GET', page),
                Route('/many', 'PUT', put),
                Route('/many', 'DELETE', delete),
            ]
        )

    @pytest.mark.parametrize(
        'url, expected',
        [
            ('/number/0042', {'value': 42}),
            ('/fraction/4.20', {'value': 4.2}),
            ('/word/42', {'value': '42'}),
            ('/word/a%20%C3%A9', {'value': 'a é'}),
            ('/anything/42', {'value': '42'}),
            ('/rest/a/b/', {'value': 'a/b/'}),
            ('/rest/a/b/end', {'value': 'a/b'}),
            ('/dated/2018/april/1.5/', [2018, 'april', 1.5]),
            ('/params/1/2/3', {'a': '1', 'b': '2/3'}),
            ('/async', {'hello': 'async'}),
        ],
    )
    def test_path_gives_its_parameters(self, app, TestClient, url, expected):
        """A path gives the handler its parameters."""
        response = TestClient(app).get(url)
        assert (response.status_code, response.json()) == (200, expected)

    @pytest.mark.parametrize(
        'url', ['/nowhere', '/number/x', '/number/-1', '/fraction/1', '/word/a/b', '/word/', '/rest/', '/dated/1/a/1/']
    )
    def test_unmatched_path_is_not_found(self, app, TestClient, url):
        """A path that matches no route is not found."""
        response = TestClient(app).get(url)
        assert (response.status_code, response.json()) == (404, 'Not found')

    def test_other_methods_are_not_allowed(self, app, TestClient):
        """Each method of a path has its handler, and other methods are not allowed."""
        client = TestClient(app)
        for method, text in (('GET', '<p>Page</p>'), ('PUT', 'put'), ('DELETE', 'delete')):
            assert client.request(method, '/many').text == text
        for method in ('POST', 'PATCH', 'OPTIONS'):
            response = client.request(method, '/many')
            assert (response.status_code, response.json()) == (405, 'Method not allowed')

    def test_get_handler_answers_head(self, app, TestClient):
        """HEAD is answered by the handler for GET."""
        response = TestClient(app).head('/many')
        assert (response.status_code, response.headers['content-length']) == (200, '11')

    def test_a_missing_slash_is_redirected(self, app, TestClient):
        client = TestClient(app)
        response = client.get('/dated/1/a/1.0?x=1', allow_redirects=False)
        assert (response.status_code, response.json()) == (302, 'Found')
        assert response.headers['location'] == '/dated/1/a/1.0/'
        assert client.get('/dated/1/a/1.0').json() == [1, 'a', 1.0]

    def test_urls_are_built_from_names(self, app):
        assert app.reverse_url('number', value=42) == '/number/42'
        assert app.reverse_url('rest', value='a/b') == '/rest/a/b'
        assert app.reverse_url('dated', year=1, month='a b', ratio=0.5) == '/dated/1/a%20b/0.5/'
        assert app.reverse_url('word', value='a', more='b') == '/word/a?more=b'
        assert app.static_url('a/b.css') == app.reverse_url('static', filename='a/b.css') == '/static/a/b.css'

    @pytest.mark.parametrize('name, params', [('nope', {}), ('number', {}), ('word', {'values': 'a'})])
    def test_impossible_url_is_an_error(self, app, name, params):
        """A URL that cannot be built is an error."""
        with pytest.raises(exceptions.NoReverseMatch):
            app.reverse_url(name, **params)

    def test_includes_and_names_nest(self, ASyncApp, TestClient):
        """Includes nest, and so do their names."""

        def where(app: App, number: int):
            return app.reverse_url('outer:inner:where', number=number + 1)

        app = ASyncApp(
            [
                Include('/outer', 'outer', [page_route(), Include('/{number}', 'inner', [Route('/at', 'GET', where)])]),
                Include('/hidden', 'hidden', [page_route()], documented=False),
            ]
        )
        client = TestClient(app)
        assert client.get('/outer/').text == client.get('/hidden/').text == '<p>Page</p>'
        assert client.get('/outer/1/at').text == '/outer/2/at'
        assert app.reverse_url('hidden:page') == '/hidden/'
        assert list(client.get('/schema/').json()['paths']) == ['/outer/']

    def test_last_of_equal_names_serves(self, ASyncApp, TestClient):
        """Of two routes with the same name the last one serves."""

        def last():
            return 'last'

        routes = [Route(url, 'GET', handler, 'same', documented=False) for url, handler in (('/a', page), ('/b', last))]
        client = TestClient(ASyncApp(routes))
        assert [client.get(url).text for url in ('/a', '/b')] == ['last', 'last']

    def test_methods_of_several_objects_are_handlers(self, ASyncApp, TestClient):
        class Shelf:
            def __init__(self, name):
                self.name = name

            def show(self, number: int):
                return [self.name, number]

        routes = [Route('/%s/{number}' % name, 'GET', Shelf(name).show, name=name) for name in ('top', 'low')]
        client = TestClient(ASyncApp(routes))
        for name in ('top', 'low', 'top'):
            assert client.get('/%s/1' % name).json() == [name, 1]


def page_route():
    return Route('/', 'GET', page)


class TestRequests:
    """What a handler can ask for of the request."""

    @pytest.mark.parametrize(
        'annotation, method, url, options, expected',
        [
            (http.Method, 'GET', '/', {}, 'GET'),
            (http.Method, 'POST', '/', {}, 'POST'),
            (http.URL, 'GET', '/?a=1', {}, 'http://testserver/?a=1'),
            (http.URL, 'GET', 'https://garden.example:444/', {}, 'https://garden.example:444/'),
            (http.Scheme, 'GET', '/', {}, 'http'),
            (http.Scheme, 'GET', 'https://garden.example/', {}, 'https'),
            (http.Host, 'GET', 'http://garden.example/', {}, 'garden.example'),
            (http.Port, 'GET', '/', {}, 80),
            (http.Port, 'GET', 'https://garden.example/', {}, 443),
            (http.Port, 'GET', 'http://garden.example:123/', {}, 123),
            (http.Path, 'GET', '/?a=1', {}, '/'),
            (http.QueryString, 'GET', '/', {}, ''),
            (http.QueryString, 'GET', '/?a=1&a=2', {}, 'a=1&a=2'),
            (http.QueryParams, 'GET', '/?a=1&a=2&b=', {}, [['a', '1'], ['a', '2']]),
            (http.QueryParam, 'GET', '/', {}, None),
            (http.QueryParam, 'GET', '/?value_of=1&value_of=2', {}, '1'),
            (http.Header, 'GET', '/', {}, None),
            (http.Header, 'GET', '/', {'headers': {'Value-Of': 'this'}}, 'this'),
            (http.PathParams, 'GET', '/', {}, []),
            (http.RequestData, 'POST', '/', {}, None),
            (http.RequestData, 'POST', '/', {'json': [1, 'é']}, [1, 'é']),
        ],
    )
    def test_handler_gets_its_arguments(self, ASyncApp, TestClient, annotation, method, url, options, expected):
        """A handler gets the values that it asks for."""

        def handler(value_of: annotation):
            return http.JSONResponse(list(value_of.items()) if hasattr(value_of, 'items') else value_of)

        client = TestClient(ASyncApp([Route('/', 'GET', handler), Route('/', 'POST', handler, name='post')]))
        response = client.request(method, url, **options)
        assert (response.status_code, response.json()) == (200, expected)

    def test_whole_request_is_available(self, ASyncApp, TestClient):
        """A handler may ask for the whole request."""

        def handler(request: http.Request, body: http.Body, headers: http.Headers):
            assert (request.body, request.headers) == (body, headers)
            return [request.method, request.url, request.url.components.path, headers.items(), body.decode()]

        response = TestClient(ASyncApp([Route('/', 'POST', handler)])).post('/?a=1', 'é'.encode(), headers=PLAIN)
        assert response.json() == [
            'POST',
            'http://testserver/?a=1',
            '/',
            [
                ['host', 'testserver'],
                ['user-agent', 'test'],
                ['accept-encoding', 'identity'],
                ['accept', '*/*'],
                ['connection', 'keep-alive'],
                ['content-length', '2'],
            ],
            'é',
        ]

    def test_application_and_route_are_available(self, ASyncApp, TestClient):
        """A handler may ask for the application, the route and the connection."""

        def handler(app: App, route: Route, exc: Exception, scope: ASGIScope, receive: ASGIReceive, send: ASGISend):
            assert (app, exc, callable(receive), callable(send)) == (made, None, True, True)
            return [route.url, route.name, scope['type'], scope['path']]

        made = ASyncApp(routed(handler))
        assert TestClient(made).get('/handler/').json() == ['/handler/', 'handler', 'http', '/handler/']

    # werkzeug's, where API Star decodes a form.
    @pytest.mark.filterwarnings('ignore:.*werkzeug.urls:DeprecationWarning')
    @pytest.mark.parametrize(
        'options, status, expected',
        [
            ({'json': {'a': 1}}, 200, {'a': 1}),
            ({'data': {'a': 1, 'b': 'é'}}, 200, {'a': '1', 'b': 'é'}),
            ({'data': {'b': '2'}, 'files': {'a': ('a.txt', 'file')}}, 200, {'a': 'a.txt: file', 'b': '2'}),
            ({'data': b'{', 'headers': {'Content-Type': 'application/json'}}, 400, None),
            ({'data': b'?', 'headers': {'Content-Type': 'what/ever'}}, 415, None),
        ],
    )
    def test_body_is_decoded_by_type(self, ASyncApp, TestClient, options, status, expected):
        """The body is decoded by its content type."""

        def handler(data: http.RequestData):
            return {name: text_of(value) if hasattr(value, 'filename') else value for name, value in data.items()}

        def text_of(file):
            with contextlib.closing(file):
                return '%s: %s' % (file.filename, file.read().decode())

        response = TestClient(ASyncApp([Route('/', 'POST', handler)])).post('/', **options)
        assert response.status_code == status
        assert expected in (None, response.json())


class TestValidation:
    @pytest.fixture
    def client(self, ASyncApp, TestClient):
        def text(value: str):
            return [value]

        def number(value: int):
            return [value]

        def fraction(value: float):
            return [value]

        def flag(value: bool):
            return [value]

        def anything(value):
            return [value]

        def text_or(value: str = ''):
            return [value]

        def number_or(value: int = 7):
            return [value]

        def number_or_none(value: int = None):
            return [value]

        def fraction_or(value: float = 0.5):
            return [value]

        def flag_or(value: bool = False):
            return [value]

        def anything_or(value=None):
            return [value]

        with_default = (text_or, number_or, number_or_none, fraction_or, flag_or, anything_or)
        return TestClient(ASyncApp(routed(text, number, fraction, flag, anything, *with_default)))

    @pytest.mark.parametrize(
        'url, expected',
        [
            ('/text/?value=42', '42'),
            ('/text/?value=42&value=43', '42'),
            ('/text/?value=%20%C3%A9', ' é'),
            ('/number/?value=-42', -42),
            ('/fraction/?value=4.2', 4.2),
            ('/fraction/?value=4', 4.0),
            ('/flag/?value=true', True),
            ('/flag/?value=0', False),
            ('/flag/?value=off', False),
            ('/anything/?value=x', 'x'),
            ('/text_or/', ''),
            ('/text_or/?value=x', 'x'),
            ('/number_or/', 7),
            ('/number_or/?value=8', 8),
            ('/number_or_none/', None),
            ('/number_or_none/?value=8', 8),
            ('/fraction_or/', 0.5),
            ('/flag_or/', False),
            ('/flag_or/?value=1', True),
            ('/anything_or/', None),
            ('/anything_or/?value=1', '1'),
        ],
    )
    def test_query_parameters_have_annotated_types(self, client, url, expected):
        """Query parameters have the types of their annotations."""
        response = client.get(url)
        assert (response.status_code, response.text) == (200, json.dumps([expected], ensure_ascii=False))

    @pytest.mark.parametrize(
        'url, status, detail',
        [
            ('/number/?value=x', 400, 'Must be a number.'),
            ('/number/?value=1.5', 400, 'Must be a number.'),
            ('/number_or/?value=x', 400, 'Must be a number.'),
            ('/fraction/?value=x', 400, 'Must be a number.'),
            ('/flag/?value=x', 400, 'Must be a valid boolean.'),
            ('/text/', 404, 'The "value" field is required.'),
            ('/number/', 404, 'The "value" field is required.'),
            ('/anything/', 404, 'The "value" field is required.'),
        ],
    )
    def test_invalid_query_parameters_are_explained(self, client, url, status, detail):
        """The answer explains invalid query parameters."""
        response = client.get(url)
        assert (response.status_code, response.json()) == (status, {'value': detail})

    @pytest.fixture
    def bodies(self, ASyncApp, TestClient):
        def add(bed: Bed) -> Bed:
            return bed

        async def replace(number: int, bed: Bed) -> dict:
            return {'number': number, 'names': [plant.name for plant in bed.plants], 'dug': str(bed.dug)}

        def remove(season: Season, number: int):
            return [number, season.first, season['last']]

        def fill() -> typing.List[Plant]:
            return [Plant(name='bean'), Plant({'name': 'fern', 'light': 'shade'})]

        return TestClient(
            ASyncApp(
                [
                    Route('/', 'POST', add),
                    Route('/{number}', 'PUT', replace),
                    Route('/{number}', 'DELETE', remove),
                    Route('/', 'GET', fill),
                ]
            )
        )

    def test_body_becomes_the_annotated_type(self, bodies):
        """A body becomes the type that the handler asks for."""
        bed = {'label': 'South', 'plants': [{'name': 'bean'}], 'dug': '2018-04-11T06:00:00Z'}
        whole = {**bed, 'plants': [{'name': 'bean', 'height': 0.5, 'light': 'sun'}]}
        assert bodies.post('/', json=bed).json() == whole
        assert bodies.put('/3', json=bed).json() == {'number': 3, 'names': ['bean'], 'dug': '2018-04-11 06:00:00+00:00'}
        assert bodies.delete('/3', json={'first': 4, 'last': 9}).json() == [3, 4, 9]

    def test_types_are_answered_as_json(self, bodies):
        assert bodies.get('/').json() == [
            {'name': 'bean', 'height': 0.5, 'light': 'sun'},
            {'name': 'fern', 'height': 0.5, 'light': 'shade'},
        ]

    @pytest.mark.parametrize(
        'method, url, body, status, detail',
        [
            ('POST', '/', {'plants': []}, 400, {'label': 'The "label" field is required.'}),
            ('POST', '/', {'label': 1, 'plants': []}, 400, {'label': 'Must be a string.'}),
            ('POST', '/', {'label': 'a', 'plants': [{}]}, 400, {'plants': {'0': NAMELESS}}),
            ('POST', '/', {'label': 'a', 'plants': [FERN] * 3}, 400, {'plants': 'Must have no more than 2 items.'}),
            ('POST', '/', [], 400, 'Must be an object.'),
            ('PUT', '/x', {'label': 'a', 'plants': []}, 404, 'Not found'),
            ('DELETE', '/3', {'first': 9, 'last': 4}, 400, 'A season ends after it begins.'),
            ('DELETE', '/3', {'first': 0, 'last': 4}, 400, {'first': 'Must be greater than or equal to 1.'}),
        ],
    )
    def test_invalid_body_is_explained(self, bodies, method, url, body, status, detail):
        """The answer explains an invalid body."""
        response = bodies.request(method, url, json=body)
        assert (response.status_code, response.json()) == (status, detail)


class TestResponses:
    @pytest.mark.parametrize(
        'value, content_type, body',
        [
            ('<b>é</b>', 'text/html; charset=utf-8', '<b>é</b>'),
            ({'a': 'é', 'b': [1, None]}, 'application/json', '{"a":"é","b":[1,null]}'),
            ([], 'application/json', '[]'),
            (None, 'application/json', 'null'),
            (1.5, 'application/json', '1.5'),
            (Plant(name='bean'), 'application/json', '{"name":"bean","height":0.5,"light":"sun"}'),
            (http.HTMLResponse('page'), 'text/html; charset=utf-8', 'page'),
            (http.JSONResponse('page'), 'application/json', '"page"'),
            (http.Response('page', headers={'Content-Type': 'text/plain'}), 'text/plain', 'page'),
            (http.Response('page'), None, 'page'),
        ],
    )
    def test_return_value_becomes_the_answer(self, ASyncApp, TestClient, value, content_type, body):
        """The return value of a handler becomes the answer."""
        response = TestClient(ASyncApp([Route('/', 'GET', lambda: value, name='handler')])).get('/')
        expected = {'content-length': str(len(body.encode())), 'content-type': content_type}
        assert response.headers == {name: value for name, value in expected.items() if value is not None}
        assert (response.status_code, response.content) == (200, body.encode())

    def test_response_keeps_status_and_headers(self, ASyncApp, TestClient):
        """A response has the status and the headers given to it."""

        def handler():
            return http.Response(
                b'', 204, [('Vary', 'Accept'), ('Set-Cookie', 'a=1; Path=/'), ('Set-Cookie', 'b=2; Path=/')]
            )

        def cookies(cookie: http.Header):
            return sorted(cookie.split('; '))

        client = TestClient(ASyncApp(routed(handler, cookies)))
        response = client.get('/handler/')
        assert (response.status_code, response.headers['vary'], response.content) == (204, 'Accept', b'')
        assert client.get('/cookies/').json() == ['a=1', 'b=2']

    @pytest.mark.parametrize('value, error', [(object(), TypeError), (float('nan'), ValueError), ({1: {2}}, TypeError)])
    def test_unencodable_value_is_an_error(self, ASyncApp, TestClient, value, error):
        """A value that is not JSON is an error of the handler."""
        with pytest.raises(error):
            TestClient(ASyncApp([Route('/', 'GET', lambda: value, name='handler')])).get('/')

    def test_standalone_route_skips_hooks(self, ASyncApp, TestClient):
        """A standalone route answers itself, without hooks."""

        class Hook:
            def on_request(self):
                """Run for other routes."""
                ran.append('on_request')

        async def alone(scope: ASGIScope, receive: ASGIReceive, send: ASGISend):
            body = scope['path'].encode() + (await receive())['body']
            await send({'type': 'http.response.start', 'status': 202, 'headers': [[b'x-alone', b'yes']]})
            await send({'type': 'http.response.body', 'body': body})

        ran = []
        routes = [Route('/alone', 'POST', alone, standalone=True), page_route()]
        client = TestClient(ASyncApp(routes, event_hooks=[Hook]))
        response = client.post('/alone', data=b'!')
        assert (response.status_code, response.headers, response.text) == (202, {'x-alone': 'yes'}, '/alone!')
        assert ran == []
        client.get('/')
        assert ran == ['on_request']


class Tool:
    """What a component supplies."""

    def __init__(self, name, sharp=None):
        self.name = name
        self.sharp = sharp


class Shed:
    """What another component supplies."""

    def __init__(self, tool):
        self.tool = tool


class ToolComponent(Component):
    """Supplies the tool that the request names; the argument says what for."""

    async def resolve(self, parameter: inspect.Parameter, tool: http.Header) -> Tool:
        await asyncio.sleep(0)
        if tool == 'blunt':
            raise exceptions.Forbidden('Not with that')
        return Tool(tool, parameter.name)


class ShedComponent(Component):
    def resolve(self, tool: Tool) -> Shed:
        return Shed(tool)


class TestComponents:
    def test_components_may_depend_on_components(self, ASyncApp, TestClient):
        """Components are resolved through others, and also async ones."""

        def handler(hoe: Tool, shed: Shed, hoe_again: Tool = None):
            return [hoe.name, hoe.sharp, shed.tool.sharp, hoe_again.sharp]

        client = TestClient(ASyncApp(routed(handler), components=[ShedComponent(), ToolComponent()]))
        for name in ('hoe', 'rake'):
            assert client.get('/handler/', headers={'Tool': name}).json() == [name, 'hoe', 'tool', 'hoe_again']

    def test_component_is_resolved_once(self, ASyncApp, TestClient):
        """A component is resolved once for a request."""

        class Hook:
            def on_request(self, shed: Shed):
                sheds.append(shed)

            def on_response(self, shed: Shed):
                sheds.append(shed)

            def on_error(self, shed: Shed):
                sheds.append(shed)

        def handler(shed: Shed, fail: bool = False):
            sheds.append(shed)
            if fail:
                fails()

        sheds = []
        client = TestClient(
            ASyncApp(routed(handler), components=[ShedComponent(), ToolComponent()], event_hooks=[Hook])
        )
        client.get('/handler/')
        with pytest.raises(RuntimeError):
            client.get('/handler/?fail=1')
        assert len(sheds) == 6
        assert sheds[0] is sheds[1] is sheds[2] is not sheds[3]
        assert sheds[3] is sheds[4] is sheds[5]

    def test_component_exception_becomes_the_answer(self, ASyncApp, TestClient):
        """An exception of a component becomes the answer."""

        def handler(shed: Shed):
            """Not be run."""

        client = TestClient(ASyncApp(routed(handler), components=[ShedComponent(), ToolComponent()]))
        response = client.get('/handler/', headers={'Tool': 'blunt'})
        assert (response.status_code, response.json()) == (403, 'Not with that')

    def test_component_may_choose_its_parameters(self, ASyncApp, TestClient):
        """A component may decide itself which parameters it supplies."""

        class Numbers(Component):
            def can_handle_parameter(self, parameter: inspect.Parameter):
                return parameter.name == 'answer'

            def resolve(self):
                return 42

        class Anything:
            """Supplied by the name of the argument."""

        def handler(answer: Anything):
            return answer

        assert TestClient(ASyncApp(routed(handler), components=[Numbers()])).get('/handler/').json() == 42

    def test_unsupplied_argument_is_an_error(self, ASyncApp, TestClient):
        """An argument that no component supplies is a configuration error."""

        def handler(tool: Tool):
            """Not be run."""

        with pytest.raises(exceptions.ConfigurationError, match='No component able to handle parameter "tool"'):
            TestClient(ASyncApp(routed(handler))).get('/handler/')

    def test_api_star_components_come_first(self, ASyncApp, TestClient):
        """A component of the application comes after those of API Star."""

        class Method(Component):
            def resolve(self) -> http.Method:
                """Not be asked."""

        def handler(method: http.Method):
            return method

        assert TestClient(ASyncApp(routed(handler), components=[Method()])).get('/handler/').text == 'GET'


class Noting:
    """A hook that notes what runs."""

    notes: typing.List[str] = []
    name = 'outer'

    def on_request(self):
        self.notes.append('%s on_request' % self.name)

    async def on_response(self, exc: Exception):
        self.notes.append('%s on_response %s' % (self.name, type(exc).__name__))

    def on_error(self, exc: Exception):
        self.notes.append('%s on_error %s' % (self.name, type(exc).__name__))


class InnerNoting(Noting):
    name = 'inner'


@pytest.fixture(params=['classes', 'instances'])
def hooks(request):
    """Return a function that gives hooks as classes, or as instances, which API Star takes as well."""
    return (lambda *kinds: list(kinds)) if request.param == 'classes' else lambda *kinds: [kind() for kind in kinds]


class TestEventHooks:
    @pytest.fixture
    def notes(self, monkeypatch):
        monkeypatch.setattr(Noting, 'notes', [])
        return Noting.notes

    @pytest.fixture
    def client(self, ASyncApp, TestClient, hooks, notes):
        def handler():
            notes.append('handler')

        def forbidden():
            raise exceptions.Forbidden()

        return TestClient(ASyncApp(routed(handler, forbidden, fails), event_hooks=hooks(Noting, InnerNoting)))

    def test_hooks_wrap_the_handler(self, client, notes):
        """Hooks wrap the handler one around the other."""
        client.get('/handler/')
        assert notes == [
            'outer on_request',
            'inner on_request',
            'handler',
            'inner on_response NoneType',
            'outer on_response NoneType',
        ]

    def test_http_exception_runs_on_response(self, client, notes):
        """An HTTP exception runs on_response."""
        assert client.get('/forbidden/').status_code == 403
        assert notes == [
            'outer on_request',
            'inner on_request',
            'inner on_response Forbidden',
            'outer on_response Forbidden',
        ]

    def test_unknown_path_runs_on_response_only(self, client, notes):
        """A path that is not found runs only on_response."""
        assert client.get('/nowhere/').status_code == 404
        assert client.post('/handler/').status_code == 405
        assert notes == [
            'inner on_response NotFound',
            'outer on_response NotFound',
            'inner on_response MethodNotAllowed',
            'outer on_response MethodNotAllowed',
        ]

    def test_other_exception_runs_on_error(self, client, notes):
        """Any other exception runs on_error."""
        with pytest.raises(RuntimeError, match='mole'):
            client.get('/fails/')
        assert notes == [
            'outer on_request',
            'inner on_request',
            'inner on_error RuntimeError',
            'outer on_error RuntimeError',
        ]

    def test_on_request_exception_becomes_the_answer(self, ASyncApp, TestClient, hooks, notes):
        """An exception of on_request becomes the answer."""

        class Guard:
            async def on_request(self, key: http.QueryParam):
                if key is None:
                    raise exceptions.Forbidden('No key')

        client = TestClient(ASyncApp([page_route()], event_hooks=hooks(Noting, Guard, InnerNoting)))
        assert (client.get('/').status_code, client.get('/').json()) == (403, 'No key')
        assert notes == ['outer on_request', 'inner on_response Forbidden', 'outer on_response Forbidden'] * 2
        assert client.get('/?key=1').status_code == 200

    def test_classes_are_made_per_request(self, ASyncApp, TestClient, hooks):
        """A class is constructed for each request and an instance is reused."""

        class Counting:
            count = 0

            def on_request(self):
                self.count += 1

            def on_response(self, response: http.Response):
                response.headers['X-Count'] = self.count

        given = hooks(Counting)
        client = TestClient(ASyncApp([page_route()], event_hooks=given))
        counts = [client.get('/').headers['x-count'] for _ in range(3)]
        assert counts == (['1', '1', '1'] if isinstance(given[0], type) else ['1', '2', '3'])

    def test_on_response_may_replace_the_response(self, ASyncApp, TestClient, hooks):
        """on_response may change the response or return another one."""

        class Other:
            def on_response(self, response: http.Response) -> http.Response:
                return http.JSONResponse(response.content.decode(), 203, {'X-Other': 'yes'})

        class Stamp:
            def on_response(self, response: http.Response):
                response.headers['Content-Type'] = 'text/plain'

        client = TestClient(ASyncApp([page_route()], event_hooks=hooks(Stamp, Other)))
        response = client.get('/')
        assert (response.status_code, response.json()) == (203, '<p>Page</p>')
        assert (response.headers['x-other'], response.headers['content-type']) == ('yes', 'text/plain')

    def test_on_response_exception_is_handled(self, ASyncApp, TestClient, hooks, notes):
        """An exception of on_response is handled like one of the handler."""

        class Refusing:
            def on_response(self, exc: Exception):
                if exc is None:
                    raise exceptions.BadRequest('Not like that')

        client = TestClient(ASyncApp([page_route()], event_hooks=hooks(Noting, Refusing)))
        assert (client.get('/').status_code, client.get('/').json()) == (400, 'Not like that')
        assert notes == ['outer on_request', 'outer on_response BadRequest'] * 2

    def test_on_error_finds_no_response(self, ASyncApp, TestClient, hooks):
        """An on_error hook finds no response."""

        class Asking:
            def on_error(self, response: http.Response):
                found.append(response)

        found = []
        # API Star's own fails to run the hook, since there is no response that it could give it.
        ours = ASyncApp is apistar_ws.ASyncApp
        with pytest.raises(RuntimeError if ours else KeyError):
            TestClient(ASyncApp(routed(fails), event_hooks=hooks(Asking))).get('/fails/')
        assert found == ([None] if ours else [])

    def test_hooks_need_not_have_every_method(self, ASyncApp, TestClient, hooks):
        heard = []

        class OnlyErrors:
            def on_error(self):
                heard.append('on_error')

        client = TestClient(ASyncApp(routed(page, fails), event_hooks=hooks(OnlyErrors)))
        assert client.get('/page/').status_code == 200
        with pytest.raises(RuntimeError):
            client.get('/fails/')
        assert heard == ['on_error']

    def test_hooks_and_components_work_together(self, ASyncApp, TestClient, hooks):
        class NeedsTool:
            def on_request(self, tool: Tool = None):
                if tool.name is None:
                    raise exceptions.Forbidden('Bring a tool')

        client = TestClient(ASyncApp([page_route()], components=[ToolComponent()], event_hooks=hooks(NeedsTool)))
        assert client.get('/').json() == 'Bring a tool'
        assert client.get('/', headers={'Tool': 'blunt'}).json() == 'Not with that'
        assert client.get('/', headers={'Tool': 'hoe'}).text == '<p>Page</p>'


class TestFixedEventHooks:
    """Where API Star itself falls short."""

    @pytest.fixture(params=[apistar.TestClient, apistar_ws.testing.TestClient])
    def made(self, request):
        return clients(request.param)

    def test_class_hooks_leave_nothing_behind(self, made):
        """Hooks given as classes leave nothing behind."""

        class Remembered(Noting):
            def __init__(self):
                hooks.append(weakref.ref(self))

        hooks = []
        app = apistar_ws.ASyncApp(routed(page, fails), event_hooks=[Remembered])

        def requests_of_all_kinds(client):
            client.get('/page/')
            client.get('/nowhere/')
            client.post('/page/')
            with pytest.raises(RuntimeError):
                client.get('/fails/')
            return len(app.injector.resolver_cache)

        with made as TestClient:
            client = TestClient(app)
            known = requests_of_all_kinds(client)
            assert [requests_of_all_kinds(client) for _ in range(20)] == [known] * 20
        gc.collect()
        assert len(hooks) > 80
        assert sum(hook() is not None for hook in hooks) <= known

    def test_instance_finds_its_component(self, made):
        """A hook instance finds its component, whatever failed before."""

        class Hook:
            def on_response(self, shed: Shed, response: http.Response):
                response.headers['X-Tool'] = shed.tool.sharp

        def forbidden(shed: Shed):
            raise exceptions.Forbidden()

        components = [ShedComponent(), ToolComponent()]
        app = apistar_ws.ASyncApp(routed(forbidden), components=components, event_hooks=[Hook()])
        with made as TestClient:
            client = TestClient(app)
            for url in ('/forbidden/', '/nowhere/', '/forbidden/'):
                assert client.get(url).headers['x-tool'] == 'tool'


class TestErrors:
    def test_an_unexpected_exception_reaches_the_test(self, ASyncApp, TestClient):
        with pytest.raises(RuntimeError, match='The mole was here'):
            TestClient(ASyncApp(routed(fails))).get('/fails/')

    @pytest.mark.parametrize(
        'exc, status, detail, headers',
        [
            (exceptions.BadRequest, 400, 'Bad request', {}),
            (exceptions.Forbidden('No'), 403, 'No', {}),
            (exceptions.NotFound({'plant': 'none'}), 404, {'plant': 'none'}, {}),
            (exceptions.NotAcceptable, 406, 'Could not satisfy the request Accept header', {}),
            (exceptions.HTTPException('Teapot', 418), 418, 'Teapot', {}),
            (exceptions.Found('/there', status_code=307), 307, 'Found', {'location': '/there'}),
        ],
    )
    def test_an_http_exception_is_the_answer(self, ASyncApp, TestClient, exc, status, detail, headers):
        def handler():
            raise exc

        response = TestClient(ASyncApp([Route('/', 'GET', handler)])).get('/', allow_redirects=False)
        assert (response.status_code, response.json()) == (status, detail)
        length = str(len(response.content))
        assert response.headers == {**headers, 'content-length': length, 'content-type': 'application/json'}

    def test_exception_handlers_can_be_overridden(self, ASyncApp, TestClient):
        """exception_handler and error_handler can be overridden."""

        class Garden(ASyncApp):
            def exception_handler(self, exc: Exception, path: http.Path) -> http.Response:
                if isinstance(exc, KeyError):
                    return http.JSONResponse({'missing': exc.args[0], 'path': path}, 410)
                return super().exception_handler(exc)

            async def error_handler(self, exc: Exception) -> http.Response:
                return http.HTMLResponse('Sorry: %s' % exc, 500)

        def missing():
            raise KeyError('spade')

        client = TestClient(Garden(routed(missing, fails)))
        response = client.get('/missing/')
        assert (response.status_code, response.json()) == (410, {'missing': 'spade', 'path': '/missing/'})
        assert client.get('/nowhere/').json() == 'Not found'
        response = client.get('/fails/')
        assert (response.status_code, response.text) == (500, 'Sorry: The mole was here')

    def test_render_response_can_be_overridden(self, ASyncApp, TestClient):
        """The rendering of return values can be overridden."""

        class Garden(ASyncApp):
            def render_response(self, return_value: ReturnValue) -> http.Response:
                return http.Response(repr(return_value), headers={'Content-Type': 'text/plain'})

        response = TestClient(Garden(routed(page))).get('/page/')
        assert (response.text, response.headers['content-type']) == ("'<p>Page</p>'", 'text/plain')

    def test_parts_can_be_overridden(self, ASyncApp, TestClient):
        """The injector, the router and the hooks can be overridden."""

        class Garden(ASyncApp):
            def init_router(self, routes):
                super().init_router([*routes, Route('/extra', 'GET', page)])

            def init_injector(self, components=None):
                super().init_injector([*(components or []), ToolComponent()])

            def get_event_hooks(self):
                on_request, on_response, on_error = super().get_event_hooks()
                return [*on_request, self.note], on_response, on_error

            def note(self, hoe: Tool):
                Noting.notes.append(hoe.sharp)

        client = TestClient(Garden([], event_hooks=[]))
        assert client.get('/extra').text == '<p>Page</p>'
        assert Noting.notes.pop() == 'hoe'


class TestStaticFilesAndTemplates:
    @pytest.fixture
    def app(self, ASyncApp):
        def welcome(app: App, name=None):
            return app.render_template('garden.html', name=name)

        plants = Include('/plants', 'plants', [Route('/', 'GET', page, name='list_plants')])
        return ASyncApp(
            [Route('/', 'GET', welcome), plants],
            template_dir=TEMPLATES,
            static_dir=STATIC,
            packages=['tests.data'],
            static_url='/files/',
        )

    def test_files_have_type_and_age(self, app, TestClient):
        """Files are served with their type and their maximum age."""
        client = TestClient(app)
        response = client.get('/files/garden.css')
        assert (response.status_code, response.content) == (200, (DATA / 'static/garden.css').read_bytes())
        assert response.headers['content-type'] == 'text/css; charset="utf-8"'
        assert response.headers['cache-control'] == 'max-age=60, public'
        unchanged = client.get('/files/garden.css', headers={'If-Modified-Since': response.headers['last-modified']})
        assert (unchanged.status_code, unchanged.content) == (304, b'')

    def test_files_of_packages_are_served_too(self, app, TestClient):
        client = TestClient(app)
        assert client.get('/files/notes/today.txt').text == 'Water the beans.\n'
        assert client.get('/files/tests.data/notes/today.txt').text == 'Water the beans.\n'
        assert client.get('/files/apistar/css/base.css').status_code == 200

    def test_missing_file_is_not_found(self, app, TestClient):
        """A path that is not a file is not found."""
        client = TestClient(app)
        for url in ('/files/', '/files/none', '/files/notes', '/files/%2e%2e/garden.py', '/static/garden.css'):
            response = client.get(url)
            assert (response.status_code, response.json()) == (404, 'Not found')
        assert client.post('/files/garden.css').status_code == 405

    def test_templates_know_urls_and_escape(self, app, TestClient):
        client = TestClient(app)
        assert '<h1>Good morning!</h1>' in client.get('/').text
        response = client.get('/?name=<Ana>')
        assert response.headers['content-type'] == 'text/html; charset=utf-8'
        for part in ('<h1>Good morning, &lt;Ana&gt;!</h1>', 'href="/files/garden.css"', 'href="/plants/"'):
            assert part in response.text
        assert app.render_template('tests.data/garden.html', name='Ana') == app.render_template(
            'garden.html', name='Ana'
        )


class TestSchemaAndDocumentation:
    @pytest.fixture
    def app(self, ASyncApp):
        def list_plants(light: str, at_least: int = None) -> typing.List[Plant]:
            """All plants."""

        def add_plant(plant: Plant) -> Plant:
            """One more plant."""

        def find_plant(plant: Plant):
            """Not so public."""

        return ASyncApp(
            [
                Route('/plants/', 'GET', list_plants),
                Route('/hidden/', 'GET', page, documented=False),
                Include('/in', 'in', [Route('/{name}/', 'POST', add_plant), Route('/find/', 'GET', find_plant)]),
            ]
        )

    def test_schema_describes_routes_and_types(self, app, TestClient):
        """The schema describes routes and types."""
        response = TestClient(app).get('/schema/')
        assert response.headers['content-type'] == 'application/vnd.oai.openapi'
        plant = {'$ref': '#/components/schemas/Plant'}
        properties = {
            'name': {'type': 'string', 'maxLength': 12},
            'height': {'type': 'number', 'default': 0.5, 'minimum': 0},
            'light': {'type': 'string', 'default': 'sun'},
        }
        plants = {'type': 'array', 'items': plant}
        nullable = {'type': 'integer', 'default': None, 'nullable': True}

        def answered(schema):
            return {'200': {'description': '', 'content': {'application/json': {'schema': schema}}}}

        assert response.json() == {
            'openapi': '3.0.0',
            'info': {'title': '', 'description': '', 'version': ''},
            'paths': {
                '/plants/': {
                    'get': {
                        'description': 'All plants.',
                        'operationId': 'list_plants',
                        'parameters': [
                            {'name': 'light', 'in': 'query', 'schema': {'type': 'string'}},
                            {'name': 'at_least', 'in': 'query', 'schema': nullable},
                        ],
                        'responses': answered(plants),
                    }
                },
                '/in/{name}/': {
                    'post': {
                        'tags': ['in'],
                        'description': 'One more plant.',
                        'operationId': 'add_plant',
                        'parameters': [{'name': 'name', 'in': 'path', 'required': True}],
                        'requestBody': {'content': {'application/json': {'schema': plant}}},
                        'responses': answered(plant),
                    }
                },
                '/in/find/': {
                    'get': {
                        'tags': ['in'],
                        'description': 'Not so public.',
                        'operationId': 'find_plant',
                        'parameters': [
                            {'name': name, 'in': 'query', 'schema': schema} for name, schema in properties.items()
                        ],
                    }
                },
            },
            'components': {'schemas': {'Plant': {'type': 'object', 'properties': properties, 'required': ['name']}}},
        }

    def test_documentation_describes_the_routes(self, app, TestClient):
        """The documentation describes routes and their parameters."""
        response = TestClient(app).get('/docs/')
        assert (response.status_code, response.headers['content-type']) == (200, 'text/html; charset=utf-8')
        for part in ('list_plants', 'All plants.', 'at_least', 'add_plant', '/in/{name}/', '/static/apistar/js/'):
            assert part in response.text
        assert '/hidden/' not in response.text


class TestTestClient:
    def test_scheme_and_host_can_be_chosen(self, ASyncApp, TestClient):
        def where(url: http.URL, host: http.Header):
            return [url, host]

        client = TestClient(ASyncApp(routed(where)), scheme='https', hostname='garden.example')
        assert client.get('/where/').json() == ['https://garden.example/where/', 'garden.example:443']
        assert client.get('http://other.example/where/').json() == ['http://other.example/where/', 'other.example']

    def test_url_must_be_absolute(self, ASyncApp, TestClient):
        """A URL is whole or begins with a slash."""
        with pytest.raises(AssertionError, match="URL was 'page'"):
            TestClient(ASyncApp([])).get('page')

    def test_session_headers_and_cookies_are_sent(self, ASyncApp, TestClient):
        """Headers and cookies of the session are sent."""

        def handler(cookie: http.Header, user_agent: http.Header, x_some: http.Header):
            return [cookie, user_agent, x_some]

        client = TestClient(ASyncApp(routed(handler)))
        assert client.get('/handler/').json() == [None, 'testclient', None]
        client.headers['X-Some'] = 'thing'
        client.cookies['a'] = '1'
        assert client.get('/handler/').json() == ['a=1', 'testclient', 'thing']


class TestDevelopmentServer:
    @pytest.fixture
    def serve(self, monkeypatch):
        """Return a function that calls ``app.serve``, and gives what werkzeug's server would have been given."""
        served = []
        monkeypatch.setattr(werkzeug, 'run_simple', lambda *args, **options: served.append((args, options)))

        def serve(app, *args, **options):
            app.serve(*args, **options)
            return served.pop()

        return serve

    def test_an_application_is_served_by_werkzeug(self, ASyncApp, serve):
        def add(plant: Plant, agent: http.QueryParam, user_agent: http.Header):
            return [plant, agent, user_agent]

        app = ASyncApp([page_route(), Route('/', 'POST', add)], static_dir=STATIC)
        (host, port, wsgi), options = serve(app, '127.0.0.1', 5000)
        assert (host, port, options) == ('127.0.0.1', 5000, {'use_debugger': False, 'use_reloader': False})
        headers = {'content-length': '11', 'content-type': 'text/html; charset=utf-8'}
        assert call(wsgi, '/') == ('200 OK', headers, b'<p>Page</p>')
        sent = {'json': {'name': 'bean'}, 'headers': {'User-Agent': 'test'}}
        status, _, body = call(wsgi, '/?agent=x', method='POST', **sent)
        assert (status, body) == ('200 OK', b'[{"name":"bean","height":0.5,"light":"sun"},"x","test"]')
        assert call(wsgi, '/static/notes/today.txt')[2] == b'Water the beans.\n'
        assert call(wsgi, '/nowhere')[0] == '404 Not Found'

    def test_exception_without_debug_is_answered(self, ASyncApp, serve):
        """Without debug an exception is a server error."""
        app = ASyncApp(routed(fails))
        (_, _, wsgi), _ = serve(app, '127.0.0.1', 5000)
        headers = {'content-length': '14', 'content-type': 'application/json'}
        assert call(wsgi, '/fails/') == ('500 Internal Server Error', headers, b'"Server error"')
        assert not app.debug

    def test_exception_with_debug_is_raised(self, ASyncApp, serve):
        """With debug an exception reaches the debugger."""
        app = ASyncApp(routed(fails))
        (_, _, wsgi), options = serve(app, '127.0.0.1', 5000, debug=True)
        assert (app.debug, options) == (True, {'use_debugger': True, 'use_reloader': True})
        with pytest.raises(RuntimeError, match='mole'):
            call(wsgi, '/fails/')

    def test_options_are_handed_on(self, ASyncApp, serve):
        _, options = serve(ASyncApp([]), '', 0, True, use_reloader=False, threaded=False)
        assert options == {'use_debugger': True, 'use_reloader': False, 'threaded': False}

    @pytest.mark.parametrize('debug', [False, True])
    def test_debug_passes_exceptions_to_server(self, ASyncApp, loop, debug):
        """With debug an exception reaches the server."""
        app = ASyncApp(routed(fails))
        app.debug = debug
        scope = {'type': 'http', 'method': 'GET', 'path': '/fails/', 'query_string': b'', 'headers': []}
        sent = []

        async def send(message):
            sent.append(message.get('status'))

        with pytest.raises(RuntimeError) if debug else contextlib.nullcontext():
            loop.run_until_complete(app(scope)(send, send))
        assert sent == ([] if debug else [500, None])


@pytest.mark.parametrize('kind', [apistar.ASyncApp, apistar_ws.ASyncApp])
class TestSubclasses:
    """What applications do with the class beyond calling it."""

    def test_a_subclass_may_override_the_call(self, kind):
        class Garden(kind):
            def __call__(self, scope):
                return super().__call__({**scope, 'path': scope['path'].lower()})

        assert apistar.TestClient(Garden(routed(page))).get('/PAGE/').text == '<p>Page</p>'

    def test_a_subclass_may_have_any_router(self, kind):
        class OneRoute(BaseRouter):
            def lookup(self, path, method):
                return page_route(), {}

        class Garden(kind):
            def init_router(self, routes):
                self.router = OneRoute()

        assert apistar.TestClient(Garden([])).get('/any').text == '<p>Page</p>'

    def test_partial_root_path_stays(self, kind):
        """A root path stays where it ends within a segment of the path."""
        wsgi = ASGItoWSGIAdapter(kind([Route('/garden/', 'GET', page)]))
        assert call(wsgi, '/garden/', base_url='http://localhost/gar')[0] == '200 OK'


@pytest.mark.parametrize('client', [apistar.TestClient, apistar_ws.testing.TestClient])
def test_handler_timeout_reaches_the_test(loop, client):
    """A timeout in a handler reaches the test."""

    def late():
        raise asyncio.TimeoutError('The bus is late')

    with pytest.raises(asyncio.TimeoutError, match='bus'):
        client(apistar.ASyncApp(routed(late))).get('/late/')
