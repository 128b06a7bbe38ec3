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

    async def test_called_with_a_fake_it_is_only_called(self):
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

    async def test_called_with_an_open_channel_it_is_only_called(self):
        peer = Peer(text('hello'), {'type': 'websocket.disconnect'})
        await chat('x', await opened(peer))
        assert peer.sent == [sent('x: hello')]

    async def test_called_with_a_new_channel_it_connects_and_closes(self):
        peer = Peer(CONNECT)
        await first.first(channel(peer))
        assert peer.sent == [ACCEPT, sent('first'), CLOSE]

    async def test_called_with_a_new_channel_it_closes_when_it_raises_and_raises(self):
        peer = Peer(CONNECT)
        with pytest.raises(exceptions.Forbidden):
            await fails(ws=channel(peer))
        assert peer.sent == [ACCEPT, closed(4403, 'Forbidden')]

    async def test_a_handler_that_connects_by_itself_is_only_called(self):
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


class TestMisuse:
    def test_a_plain_def_is_refused(self):
        def handler(ws: WebSocket):
            """Not async."""

        with pytest.raises(ConfigurationError, match=r"websocket_route\('/x'\): .*handler has to be an async def"):
            websocket_route('/x')(handler)

    def test_a_handler_without_a_name_is_refused(self):
        with pytest.raises(ConfigurationError, match='has no name; decorate an async def'):
            websocket_route('/x')(functools.partial(quiet.__wrapped__))

    def test_an_async_generator_is_refused(self):
        async def handler(ws: WebSocket):
            yield  # pragma: no cover

        with pytest.raises(ConfigurationError, match='handler is an async generator'):
            websocket_route('/x')(handler)

    @pytest.mark.parametrize('url', ['chat', '', None, 5])
    def test_a_url_without_its_slash_is_refused(self, url):
        with pytest.raises(ConfigurationError, match='the URL has to begin with a slash'):
            websocket_route(url)

    def test_an_unknown_setting_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"websocket_route\('/x'\) does not know the setting idle_time"):
            websocket_route('/x', idle_time=5)

    @pytest.mark.parametrize('annotation', [http.Body, http.RequestData, Order])
    def test_the_body_of_a_request_is_refused(self, annotation):
        async def handler(body: annotation, ws: WebSocket):
            """Ask for what a handshake does not have."""

        with pytest.raises(ConfigurationError, match='handler asks for the body of a request with its argument body'):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_an_argument_that_nothing_supplies_is_refused(self):
        async def handler(what: set):
            """Ask for what no component supplies."""

        with pytest.raises(
            ConfigurationError, match='No component able to handle parameter "what" on function .*handl'
        ):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_a_path_parameter_of_another_type_is_refused(self):
        async def handler(flag: bool):
            """Ask for a type that a path does not have."""

        with pytest.raises(ConfigurationError, match='path parameter flag of .*handler is annotated with .*bool'):
            ASyncApp(collect_routes(websocket_route('/x/{flag}')(handler)))

    def test_an_annotation_that_does_not_resolve_is_refused(self):
        async def handler(ws: 'Nowhere'):  # noqa: F821
            """Name what is not there."""

        with pytest.raises(ConfigurationError, match="annotation of .*handler cannot be resolved: name 'Nowhere'"):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_two_routes_of_one_name_are_refused(self):
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

    def test_a_url_that_cannot_be_is_refused(self):
        for url in ('/{a}/{a}', '/{a', '/a}', '/{}', '/{a b}'):
            with pytest.raises(ConfigurationError, match='The URL .* of .*quiet is malformed'):
                ASyncApp(collect_routes(websocket_route(url)(quiet)))

    def test_two_handlers_at_one_url_are_refused(self):
        with pytest.raises(ConfigurationError, match=r"The WebSocket routes '/x' and '/x' match the same paths"):
            ASyncApp(collect_routes(websocket_route('/x', name='a')(quiet), websocket_route('/x', name='b')(fails)))

    def test_two_urls_that_match_the_same_paths_are_refused(self):
        async def other(b: str):
            """Never run."""

        async def number(n: int):
            """Run for numbers."""

        routes = collect_routes(websocket_route('/x/{room}')(chat.__wrapped__), websocket_route('/x/{b}')(other))
        with pytest.raises(ConfigurationError, match="'/x/{room}' and '/x/{b}' match the same paths"):
            ASyncApp(routes)
        ASyncApp(collect_routes(websocket_route('/x/{n}')(number), websocket_route('/x/{b}')(other)))

    def test_an_argument_that_is_positional_only_is_refused(self):
        async def handler(ws: WebSocket, /):
            """Not be callable by name."""

        with pytest.raises(ConfigurationError, match='argument ws of .*handler is positional only'):
            ASyncApp(collect_routes(websocket_route('/x')(handler)))

    def test_a_plain_route_has_to_be_async_too(self):
        def handler(ws: WebSocket):
            """Not async."""

        with pytest.raises(ConfigurationError, match=r"Route\('/x'\): .*handler has to be an async def"):
            ASyncApp([Route('/x', 'GET', handler)])


class TestCollecting:
    def test_a_module_gives_its_handlers_in_order_and_not_those_it_imported(self):
        assert urls(collect_routes(first)) == [('/second', 'second'), ('/first', 'first')]
        assert urls(collect_routes(second)) == [('/future/{room}/{n}', 'future')]
        assert urls(second.routes) == urls(collect_routes(vars(second)))

    def test_an_object_gives_its_methods_bound(self):
        expected = [('/b/{room}', 'beta'), ('/a', 'first'), ('/a2', 'second'), ('/s', 'plain')]
        assert urls(collect_routes(Rooms('a'))) == expected
        assert urls(collect_routes(MoreRooms('a'))) == expected + [('/more', 'more')]

    def test_mappings_and_iterables_give_what_is_in_them(self):
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

    def test_each_call_makes_routes_of_its_own(self):
        (one,), (two,) = collect_routes(chat), collect_routes(chat)
        assert isinstance(one, Route)
        assert one is not two
        assert (one.method, one.standalone, one.documented, one.link) == ('GET', True, False, None)

    async def test_a_collected_method_runs_on_its_object(self):
        app = ASyncApp(collect_routes(MoreRooms('hi ')))
        for url, greeting in [('/b/x', 'hi x'), ('/a', 'hi '), ('/a2', 'hi '), ('/s', 'static'), ('/more', 'more')]:
            async with connect(app, url) as ws:
                assert await ws.receive() == greeting

    @pytest.mark.parametrize('source', [5, None, Rooms, object(), collect_routes, chat.__wrapped__, 'chat'])
    def test_a_source_with_nothing_to_collect_is_refused(self, source):
        with pytest.raises(ConfigurationError, match='There is nothing to collect from'):
            collect_routes(source)

    def test_a_method_that_another_decorator_hides_is_refused(self):
        class Hidden(Rooms):
            @classmethod
            @websocket_route('/hidden')
            async def hidden(cls, ws: WebSocket):
                """Be under another decorator."""

        with pytest.raises(ConfigurationError, match='hidden has a decorator above websocket_route'):
            collect_routes(Hidden('a'))

    def test_a_method_without_its_object_is_refused(self):
        with pytest.raises(ConfigurationError, match='Rooms.beta is a method without its object'):
            ASyncApp(collect_routes(Rooms.beta))

    def test_a_handler_that_another_decorator_hides_is_refused(self):
        @functools.wraps(chat)
        async def hidden(*args, **kwargs):
            """Stand for a decorator above websocket_route."""

        for source in (hidden, [hidden], {'chat': hidden}):
            with pytest.raises(ConfigurationError, match='chat has a decorator above websocket_route'):
                collect_routes(source)


class TestStacked:
    async def test_stacked_decorators_give_two_routes_of_one_name(self):
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

    def test_one_handler_is_one_object_however_many_routes(self):
        @websocket_route('/old')
        @websocket_route('/new', name='new')
        async def both(ws: WebSocket):
            """Serve two routes."""

        routes = collect_routes(both)
        assert [route.handler is both for route in routes] == [True, True]
        assert [(declared.url, declared.name) for declared in both.declarations] == [('/old', None), ('/new', 'new')]

    def test_a_decorator_changes_nothing_about_what_it_decorates(self):
        @websocket_route('/new')
        async def new(ws: WebSocket):
            """Serve a route."""

        websocket_route('/old')(new)
        assert urls(collect_routes(new)) == [('/new', 'new')]

    async def test_a_hook_guards_every_route_of_a_handler(self):
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

    def test_a_decorator_between_two_is_refused_since_it_may_be_a_guard(self):
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

    async def test_a_route_that_a_plug_in_makes_of_ours_keeps_its_declaration(self):
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
    def test_an_application_of_api_star_itself_says_that_ours_is_needed(self, stock):
        @websocket_route('/')
        async def handler(ws: WebSocket):
            """It is not run."""

        for routes in (collect_routes(handler), [Include('/a', 'a', collect_routes(handler))]):
            with pytest.raises(ConfigurationError, match='use apistar_ws.ASyncApp in its place'):
                stock(routes)

    def test_a_route_of_ours_whose_handler_is_replaced_is_refused(self):
        @websocket_listener('/new')
        async def listener(message: str):
            """It is not run."""

        @functools.wraps(listener.__wrapped__)
        async def wrapper(*args, **kwargs):
            """Not one of ours."""

        route = collect_routes(listener)[0]
        with pytest.raises(ConfigurationError, match='was made from a WebSocket route, but its handler .* is not'):
            ASyncApp([Route(route.url, route.method, wrapper)])

    def test_a_route_whose_declaration_cannot_be_told_is_refused(self):
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

    async def test_routes_work_in_includes_and_in_two_applications(self):
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

    async def test_a_parameter_may_be_in_the_prefix(self):
        @websocket_route('/{n}')
        async def numbers(version: int, n: int, ws: WebSocket):
            await ws.send_json([version, n, dict(ws.path_params)])

        app = ASyncApp([Include('/v{version}', 'v', collect_routes(numbers))])
        async with connect(app, '/v2/3') as ws:
            assert await ws.receive_json() == [2, 3, {'version': 2, 'n': 3}]


@pytest.mark.parametrize('decorator', [websocket_route, websocket_listener, websocket_stream])
def test_a_decorator_without_its_parentheses_says_so(decorator):
    async def handler(ws: WebSocket):
        """It is not run."""

    name = decorator.__name__
    with pytest.raises(
        ConfigurationError, match=r'^@%s needs its URL in parentheses, .* above tests.routing.test_decorators' % name
    ):
        decorator(handler)
