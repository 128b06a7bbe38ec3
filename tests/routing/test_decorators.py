import functools
import inspect

import apistar
import pytest
from apistar import Include, Route, exceptions, http, types, validators
from apistar.exceptions import ConfigurationError

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route, websocket_stream
from apistar_ws.testing import HandshakeDenied, connect
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, channel, closed, opened, sent, text
from tests.handlers import first, second


class Order(types.Type):
    item = validators.String(max_length=10)


class Cancel(types.Type):
    type = validators.String(enum=['cancel'])


class Buy(types.Type):
    type = validators.String(enum=['buy'])


class Receipt(types.Type):
    total = validators.Integer()


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket) -> None:
    """Echo."""
    async for message in ws:
        await ws.send('%s: %s' % (room, message))


@websocket_route('/quiet')
async def quiet():
    """Ask for nothing."""


@websocket_route('/fails')
async def fails(ws: WebSocket):
    raise exceptions.Forbidden()


class Rooms:
    """Handlers that are methods."""

    def __init__(self, greeting):
        self.greeting = greeting

    def __iter__(self):
        """Be iterable too, which does not matter."""

    @websocket_route('/b/{room}')
    async def beta(self, room: str, ws: WebSocket):
        await ws.send(self.greeting + room)

    @websocket_route('/a', name='first')
    @websocket_route('/a2', name='second')
    async def alpha(self, ws: WebSocket):
        await ws.send(self.greeting)

    @websocket_route('/s', name='plain')
    @staticmethod
    async def static(ws: WebSocket):
        await ws.send('static')


class MoreRooms(Rooms):
    @websocket_route('/more')
    async def more(self, ws: WebSocket):
        await ws.send('more')


def urls(routes):
    return [(route.url, route.name) for route in routes]


class TestDecorated:
    def test_a_handler_stays_what_it_was(self):
        assert str(inspect.signature(chat)) == '(room: str, ws: apistar_ws.connection.websocket.WebSocket) -> None'
        assert (chat.__name__, chat.__doc__, chat.__module__) == ('chat', 'Echo.', __name__)
        assert inspect.iscoroutinefunction(chat)

    async def test_fake_is_passed_on(self):
        """Called with a fake WebSocket, the handler is only called."""

        class Fake:
            def __init__(self):
                self.sent = []

            async def __aiter__(self):
                yield 'hello'

            async def send(self, data):
                self.sent.append(data)

        ws = Fake()
        await chat(room='x', ws=ws)
        assert ws.sent == ['x: hello']

    async def test_open_websocket_is_passed_on(self):
        """Called with an open WebSocket, the handler is only called."""
        peer = Peer(text('hello'), {'type': 'websocket.disconnect'})
        await chat('x', await opened(peer))
        assert peer.sent == [sent('x: hello')]

    async def test_new_websocket_connects_and_closes(self):
        """Called with a new WebSocket, the handler connects it and closes it."""
        peer = Peer(CONNECT)
        await first.first(channel(peer))
        assert peer.sent == [ACCEPT, sent('first'), CLOSE]

    async def test_exception_closes_and_is_raised(self):
        """Called with a new WebSocket, a failing handler closes it and raises."""
        peer = Peer(CONNECT)
        with pytest.raises(exceptions.Forbidden):
            await fails(ws=channel(peer))
        assert peer.sent == [ACCEPT, closed(4403, 'Forbidden')]

    async def test_connecting_handler_is_only_called(self):
        """A handler that connects itself is only called."""

        @websocket_route('/x', connect=False)
        async def handler(ws: WebSocket):
            await ws.connect(headers={'a': 'b'})

        peer = Peer(CONNECT)
        await handler(channel(peer))
        assert peer.sent == [{**ACCEPT, 'headers': [(b'a', b'b')]}]

    async def test_methods_are_called_on_their_object(self):
        peer = Peer()
        ws = await opened(peer)
        await Rooms('hi ').beta('x', ws)
        await Rooms.static(ws)
        assert peer.sent == [sent('hi x'), sent('static')]


class TestRefusedHandlers:
    def test_a_plain_def_is_refused(self):
        def handler(ws: WebSocket):
            """Not async."""

        with pytest.raises(ConfigurationError, match=r"websocket_route\('/x'\): .*handler has to be an async def"):
            websocket_route('/x')(handler)

    def test_nameless_handler_is_refused(self):
        """A handler without a name is refused."""
        with pytest.raises(ConfigurationError, match='has no name; decorate an async def'):
            websocket_route('/x')(functools.partial(quiet.__wrapped__))

    def test_an_async_generator_is_refused(self):
        async def handler(ws: WebSocket):
            yield  # pragma: no cover

        with pytest.raises(ConfigurationError, match='handler is an async generator'):
            websocket_route('/x')(handler)

    @pytest.mark.parametrize('url', ['chat', '', None, 5])
    def test_url_needs_a_slash(self, url):
        """A URL that does not begin with a slash is refused."""
        with pytest.raises(ConfigurationError, match='the URL has to begin with a slash'):
            websocket_route(url)

    def test_an_unknown_setting_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"websocket_route\('/x'\) does not know the setting idle_time"):
            websocket_route('/x', idle_time=5)

    @pytest.mark.parametrize('annotation', [http.Body, http.RequestData, Order])
    def test_request_body_is_refused(self, annotation):
        """An argument for the body of a request is refused."""

        async def handler(body: annotation, ws: WebSocket):
            """Ask for what a handshake does not have."""

        with pytest.raises(ConfigurationError, match='handler asks for the body of a request with its argument body'):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_unsupplied_argument_is_refused(self):
        """An argument that nothing supplies is refused."""

        async def handler(what: set):
            """Ask for what no component supplies."""

        with pytest.raises(
            ConfigurationError, match='No component able to handle parameter "what" on function .*handl'
        ):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_path_parameter_type_is_checked(self):
        """A path parameter of an unsupported type is refused."""

        async def handler(flag: bool):
            """Ask for a type that a path does not have."""

        with pytest.raises(ConfigurationError, match='path parameter flag of .*handler is annotated with .*bool'):
            ASyncApp(collect_routes(websocket_route('/x/{flag}')(handler)))

    def test_unresolved_annotation_is_refused(self):
        """An annotation that cannot be resolved is refused."""

        async def handler(ws: 'Nowhere'):  # noqa: F821
            """Name what is not there."""

        with pytest.raises(ConfigurationError, match="annotation of .*handler cannot be resolved: name 'Nowhere'"):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_duplicate_name_is_refused(self):
        """Two routes with the same name are refused."""

        def page():
            """Serve HTTP."""

        async def handler():
            """Serve a WebSocket."""

        routes = collect_routes(websocket_route('/x', name='page')(handler), websocket_route('/y', name='page')(quiet))
        with pytest.raises(
            ConfigurationError, match="Two routes are named 'page', one of them for the handler .*quiet"
        ):
            ASyncApp(routes)
        with pytest.raises(ConfigurationError, match="Two routes are named 'page', .*handler"):
            ASyncApp([Route('/', 'GET', page)] + routes[:1])

    def test_malformed_url_is_refused(self):
        """A malformed URL is refused."""
        for url in ('/{a}/{a}', '/{a', '/a}', '/{}', '/{a b}'):
            with pytest.raises(ConfigurationError, match='The URL .* of .*quiet is malformed'):
                ASyncApp(collect_routes(websocket_route(url)(quiet)))

    def test_duplicate_url_is_refused(self):
        """Two handlers with the same URL are refused."""
        with pytest.raises(ConfigurationError, match=r"The WebSocket routes '/x' and '/x' match the same paths"):
            ASyncApp(collect_routes(websocket_route('/x', name='a')(quiet), websocket_route('/x', name='b')(fails)))

    def test_overlapping_urls_are_refused(self):
        """Two URLs that match the same paths are refused."""

        async def other(b: str):
            """Never run."""

        async def number(n: int):
            """Run for numbers."""

        routes = collect_routes(websocket_route('/x/{room}')(chat.__wrapped__), websocket_route('/x/{b}')(other))
        with pytest.raises(ConfigurationError, match="'/x/{room}' and '/x/{b}' match the same paths"):
            ASyncApp(routes)
        ASyncApp(collect_routes(websocket_route('/x/{n}')(number), websocket_route('/x/{b}')(other)))

    def test_positional_only_argument_is_refused(self):
        """A positional-only argument is refused."""

        async def handler(ws: WebSocket, /):
            """Not be callable by name."""

        with pytest.raises(ConfigurationError, match='argument ws of .*handler is positional only'):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_plain_route_must_be_async(self):
        """The handler of a plain route has to be an async def."""

        def handler(ws: WebSocket):
            """Not async."""

        with pytest.raises(ConfigurationError, match=r"Route\('/x'\): .*handler has to be an async def"):
            ASyncApp([Route('/x', 'GET', handler)])


class TestCollecting:
    def test_module_gives_its_own_handlers(self):
        """A module gives its handlers in order, and not the imported ones."""
        assert urls(collect_routes(first)) == [('/second', 'second'), ('/first', 'first')]
        assert urls(collect_routes(second)) == [('/future/{room}/{n}', 'future')]
        assert urls(second.routes) == urls(collect_routes(vars(second)))

    def test_an_object_gives_its_methods_bound(self):
        expected = [('/b/{room}', 'beta'), ('/a', 'first'), ('/a2', 'second'), ('/s', 'plain')]
        assert urls(collect_routes(Rooms('a'))) == expected
        assert urls(collect_routes(MoreRooms('a'))) == expected + [('/more', 'more')]

    def test_containers_give_their_handlers(self):
        """Mappings and iterables give the handlers in them."""
        assert urls(collect_routes({'a': chat, 'b': 5, 'c': second, 'd': MoreRooms('a')})) == [
            ('/chat/{room}', 'chat'),
            ('/future/{room}/{n}', 'future'),
            *urls(collect_routes(MoreRooms('a'))),
        ]
        assert urls(collect_routes([chat, (quiet,)], iter([first]))) == [
            ('/chat/{room}', 'chat'),
            ('/quiet', 'quiet'),
            ('/second', 'second'),
            ('/first', 'first'),
        ]

    def test_no_route_is_given_twice(self):
        rooms = Rooms('a')
        assert len(collect_routes(chat, [chat], first, first.first, rooms, rooms.beta)) == 7
        assert len(collect_routes(Rooms('a'), Rooms('b'))) == 8 - 1

    def test_calls_make_separate_routes(self):
        """Each call makes new routes."""
        (one,), (two,) = collect_routes(chat), collect_routes(chat)
        assert isinstance(one, Route)
        assert one is not two
        assert (one.method, one.standalone, one.documented, one.link) == ('GET', True, False, None)

    async def test_collected_method_is_bound(self):
        """A collected method runs on its object."""
        app = ASyncApp(collect_routes(MoreRooms('hi ')))
        for url, greeting in [('/b/x', 'hi x'), ('/a', 'hi '), ('/a2', 'hi '), ('/s', 'static'), ('/more', 'more')]:
            async with connect(app, url) as ws:
                assert await ws.receive() == greeting

    @pytest.mark.parametrize('source', [5, None, Rooms, object(), collect_routes, chat.__wrapped__, 'chat'])
    def test_empty_source_is_refused(self, source):
        """A source with nothing to collect is refused."""
        with pytest.raises(ConfigurationError, match='There is nothing to collect from'):
            collect_routes(source)

    def test_hidden_method_is_refused(self):
        """A method with another decorator above is refused."""

        class Hidden(Rooms):
            @classmethod
            @websocket_route('/hidden')
            async def hidden(cls, ws: WebSocket):
                """Be under another decorator."""

        with pytest.raises(ConfigurationError, match='hidden has a decorator above websocket_route'):
            collect_routes(Hidden('a'))

    def test_unbound_method_is_refused(self):
        """A method without its object is refused."""
        with pytest.raises(ConfigurationError, match='Rooms.beta is a method without its object'):
            ASyncApp(collect_routes(Rooms.beta))

    def test_hidden_handler_is_refused(self):
        """A handler with another decorator above is refused."""

        @functools.wraps(chat)
        async def hidden(*args, **kwargs):
            """Stand for a decorator above websocket_route."""

        for source in (hidden, [hidden], {'chat': hidden}):
            with pytest.raises(ConfigurationError, match='chat has a decorator above websocket_route'):
                collect_routes(source)


class TestStacked:
    async def test_two_routes_share_a_name(self):
        """Stacked decorators make two routes with the same name."""

        @websocket_route('/old/{room}')
        @websocket_route('/new/{room}/{n}', max_connections=5)
        async def both(room: str, ws: WebSocket, n: int = 0):
            await ws.send_json([room, n])

        app = ASyncApp(collect_routes(both))
        assert urls(collect_routes(both)) == [('/old/{room}', 'both'), ('/new/{room}/{n}', 'both')]
        assert (app.reverse_url('both', room='a'), app.reverse_url('both', room='a', n=1)) == ('/old/a', '/new/a/1')
        for url, answer in [('/old/a?n=5', ['a', 5]), ('/new/a/1', ['a', 1])]:
            async with connect(app, url) as ws:
                assert await ws.receive_json() == answer

    def test_routes_share_one_handler(self):
        """All routes of a handler have the same handler object."""

        @websocket_route('/old')
        @websocket_route('/new', name='new')
        async def both(ws: WebSocket):
            """Serve two routes."""

        routes = collect_routes(both)
        assert [route.handler is both for route in routes] == [True, True]
        assert [(declared.url, declared.name) for declared in both.declarations] == [('/old', None), ('/new', 'new')]

    def test_decorating_changes_no_original(self):
        """A decorator does not change the handler that it decorates."""

        @websocket_route('/new')
        async def new(ws: WebSocket):
            """Serve a route."""

        websocket_route('/old')(new)
        assert urls(collect_routes(new)) == [('/new', 'new')]

    async def test_hook_guards_every_route(self):
        """A hook can guard every route of a handler."""

        @websocket_route('/old', name='old')
        @websocket_route('/new')
        async def both(ws: WebSocket):
            """Not get here."""

        class Guard:
            def on_request(self, route: Route):
                if route.handler is both:
                    raise exceptions.Forbidden()

        app = ASyncApp(collect_routes(both, quiet), event_hooks=[Guard])
        async with connect(app, '/quiet'):
            """Be let in."""
        for url in ('/old', '/new'):
            with pytest.raises(HandshakeDenied) as info:
                async with connect(app, url):
                    """Not get here."""
            assert info.value.status == 403

    def test_methods_compare_by_equality(self):
        rooms = Rooms('hi ')
        assert all(route.handler == rooms.alpha for route in collect_routes(rooms) if route.url in ('/a', '/a2'))
        assert not any(route.handler == Rooms('a').alpha for route in collect_routes(rooms))

    def test_decorator_in_between_is_refused(self):
        """A decorator between two of ours is refused, since it may be a guard."""

        def guard(handler):
            @functools.wraps(handler)
            async def guarded(*args, **kwargs):
                """Not get here."""

            return guarded

        with pytest.raises(ConfigurationError, match='a decorator between this one and another websocket_route on'):

            @websocket_route('/old')
            @guard
            @websocket_route('/new')
            async def both(ws: WebSocket):
                """Not be made."""

    async def test_remade_route_keeps_its_declaration(self):
        """A route that a plug-in makes from ours keeps its declaration."""

        @websocket_route('/old', name='old', connect=False)
        @websocket_route('/new/{n}', max_connections=5)
        async def both(ws: WebSocket, n: int = 0):
            await ws.connect()
            await ws.send_json([n, ws.settings.max_connections])

        def remade(prefix):
            return [
                Route(prefix + route.url, route.method, route.handler, name='auto:' + route.name, standalone=True)
                for route in collect_routes(both)
            ]

        for prefix in ('', '/api'):
            app = ASyncApp(remade(prefix))
            async with connect(app, prefix + '/new/3') as ws:
                assert await ws.receive_json() == [3, 5]
            async with connect(app, prefix + '/old') as ws:
                assert await ws.receive_json() == [0, 10_000]

    @pytest.mark.parametrize('stock', [apistar.ASyncApp, apistar.App])
    def test_stock_application_is_refused(self, stock):
        """An application of API Star itself raises an error that names ours."""

        @websocket_route('/')
        async def handler(ws: WebSocket):
            """It is not run."""

        for routes in (collect_routes(handler), [Include('/a', 'a', collect_routes(handler))]):
            with pytest.raises(ConfigurationError, match='use apistar_ws.ASyncApp in its place'):
                stock(routes)

    def test_replaced_handler_is_refused(self):
        """A route of ours with a replaced handler is refused."""

        @websocket_listener('/new')
        async def listener(message: str):
            """It is not run."""

        @functools.wraps(listener.__wrapped__)
        async def wrapper(*args, **kwargs):
            """Not one of ours."""

        route = collect_routes(listener)[0]
        with pytest.raises(ConfigurationError, match='was made from a WebSocket route, but its handler .* is not'):
            ASyncApp([Route(route.url, route.method, wrapper)])

    def test_ambiguous_declaration_is_refused(self):
        """A route that matches no declaration of its handler is refused."""

        @websocket_route('/old', name='old')
        @websocket_route('/new')
        async def both(ws: WebSocket):
            """Serve two routes."""

        with pytest.raises(ConfigurationError, match="'/other' of .* has the URL of none of .*: they say /old, /new"):
            ASyncApp([Route('/other', 'GET', both)])
        ASyncApp([Route('/other', 'GET', quiet)])


class TestMixing:
    async def test_string_annotations_and_optional_arguments_work(self):
        app = ASyncApp(second.routes)
        async with connect(app, '/future/a/1') as ws:
            assert await ws.receive_json() == ['a', 1, None, 'why', None]
        async with connect(app, '/future/a/1?x=2&y=z', headers={'agent': 'me'}) as ws:
            assert await ws.receive_json() == ['a', 1, 2, 'z', 'me']

    async def test_routes_work_in_several_applications(self):
        """Routes work in includes and in two applications."""

        def page():
            """Serve HTTP."""

        routes = [Include('/v1/{version}', 'v1', collect_routes(chat, Rooms('hi ')) + [Route('/page', 'GET', page)])]
        for app in (ASyncApp(list(routes)), ASyncApp(collect_routes(chat))):
            prefix, name = ('/v1/2', 'v1:chat') if app.document.content else ('', 'chat')
            async with connect(app, prefix + '/chat/a') as ws:
                await ws.send('hello')
                assert await ws.receive() == 'a: hello'
            params = {'version': '2'} if prefix else {}
            assert app.reverse_url(name, room='a', **params) == prefix + '/chat/a'

    async def test_prefix_may_have_parameters(self):
        """The prefix of an include may have a parameter."""

        @websocket_route('/{n}')
        async def numbers(version: int, n: int, ws: WebSocket):
            await ws.send_json([version, n, dict(ws.path_params)])

        app = ASyncApp([Include('/v{version}', 'v', collect_routes(numbers))])
        async with connect(app, '/v2/3') as ws:
            assert await ws.receive_json() == [2, 3, {'version': 2, 'n': 3}]


@pytest.mark.parametrize('decorator', [websocket_route, websocket_listener, websocket_stream])
def test_missing_parentheses_are_reported(decorator):
    """A decorator without its parentheses raises an error that says so."""

    async def handler(ws: WebSocket):
        """It is not run."""

    name = decorator.__name__
    with pytest.raises(
        ConfigurationError, match=r'^@%s needs its URL in parentheses, .* above tests.routing.test_decorators' % name
    ):
        decorator(handler)
