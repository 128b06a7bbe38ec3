import inspect
from typing import Iterator, Optional, Union

import pytest
from apistar import Route, http
from apistar.exceptions import ConfigurationError
from apistar.server.asgi import ASGI_COMPONENTS, ASGIReceive, ASGIScope, ASGISend
from apistar.server.components import Component
from apistar.server.injector import ASyncInjector as HostInjector
from apistar.server.validation import VALIDATION_COMPONENTS

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route
from apistar_ws.app import INITIAL_COMPONENTS
from apistar_ws.injection.arguments import Arguments, asks_for_websocket, components_needing_websocket
from apistar_ws.injection.injector import ASyncInjector
from apistar_ws.injection.signatures import handler_signature
from tests.injection.supply import supply


class Session:
    """Something that a component supplies."""


class User:
    """Something that a component supplies with the help of another."""


class SessionComponent(Component):
    def resolve(self, ws: WebSocket) -> Session:
        """Need the channel."""


class UserComponent(Component):
    def resolve(self, session: Session) -> User:
        """Need the session."""


def injector(*components):
    return ASyncInjector([*ASGI_COMPONENTS, *VALIDATION_COMPONENTS, *components], INITIAL_COMPONENTS)


class TestSignature:
    def test_optional_annotations_become_defaults(self):
        async def handler(a: Optional[int], b: 'int | None' = 5, c: Union[int, str] = 1, d: 'str' = 'x', e=None):
            """Take them."""

        parameters = handler_signature(handler).parameters.values()
        assert [(parameter.annotation, parameter.default) for parameter in parameters] == [
            (int, None),
            (int, 5),
            (Union[int, str], 1),
            (str, 'x'),
            (inspect.Parameter.empty, None),
        ]

    def test_unknown_annotation_is_refused(self):
        """An annotation that cannot be resolved is refused."""

        async def handler(a: 'Nowhere'):  # noqa: F821
            """Take it."""

        with pytest.raises(ConfigurationError, match='cannot be resolved'):
            handler_signature(handler)
        assert not asks_for_websocket(handler, [])


def test_indirect_websocket_components_are_found():
    """Components that need the WebSocket through other components are found."""
    session, user = SessionComponent(), UserComponent()
    assert components_needing_websocket([user, session, VALIDATION_COMPONENTS[0]]) == [session, user]

    async def handler(user: User):
        """Need the channel through two components."""

    assert asks_for_websocket(handler, [session, user])
    assert not asks_for_websocket(handler, [session])


class Hook:
    """An event hook; API Star makes one for each request."""

    def on_request(self, path: http.Path):
        self.path = path

    def on_response(self, session: Session):
        return self.path


class TestInjector:
    async def run(self, used, funcs, **state):
        base = {'scope': {'path': '/a'}, 'exc': None, 'path_params': {}, 'route': None}
        return await used.run_async(funcs, {**base, **state})

    async def test_new_hooks_leave_nothing_behind(self):
        """Hook objects made for each request leave nothing in the cache."""
        used = injector()
        for _ in range(100):
            await self.run(used, [Hook().on_request])
        assert len(used.resolver_cache) == 1

    async def test_hooks_run_on_their_object(self):
        """Each hook is called on its own object."""
        used = injector()
        hooks = [Hook(), Hook()]
        for hook in hooks:
            await self.run(used, [hook.on_request])
        assert [hook.path for hook in hooks] == ['/a', '/a']

    async def test_known_values_are_not_resolved(self):
        """A known value is used, and an unknown one is resolved."""
        resolved = []

        class Counting(Component):
            def resolve(self) -> Session:
                resolved.append(1)
                return Session()

        used = injector(Counting())
        hook = Hook()
        hook.path = 'x'
        assert await self.run(used, [hook.on_response], session=Session()) == 'x'
        assert resolved == []
        assert await self.run(used, [hook.on_response]) == 'x'
        assert resolved == [1]

    async def test_results_pass_like_in_api_star(self):
        """Results are passed to the next function as in API Star."""
        from apistar.server.components import ReturnValue

        async def first():
            return 1

        def second(value: ReturnValue, parameter: http.Path):
            return [value, parameter]

        for used in (injector(), HostInjector([*ASGI_COMPONENTS], INITIAL_COMPONENTS)):
            assert await self.run(used, [first, second]) == [1, '/a']
            assert await self.run(used, []) is None


class TestArguments:
    def made(self, handler, url):
        return Arguments(handler, injector(), url)

    def test_converted_parameters_are_not_validated(self):
        """Path parameters that the router has converted are not validated again."""

        async def handler(a, b: str, n: int, x: float, rest: int, ws: WebSocket, other: WebSocket, q: int = 1):
            """Take arguments of every kind."""

        arguments = self.made(handler, '/{a}/{b}/{n}/{x}/{+rest}')
        assert (arguments.from_path, arguments.websockets) == (('a', 'b', 'n'), ('ws', 'other'))
        assert arguments.injects

    def test_simple_handler_needs_no_injection(self):
        """A handler that takes only the path and the WebSocket needs no injection."""

        async def handler(a, ws: WebSocket):
            """Take what is there."""

        arguments = self.made(handler, '/{a}/{b}')
        assert not arguments.injects
        arguments.prepare([Hook().on_request])
        ws = WebSocket({}, None, None, path_params={'a': 'x', 'b': 'y'})
        assert arguments.given(ws, ws.path_params) == {'a': 'x', 'ws': ws}

    async def test_hooks_run_before_components(self):
        order = []

        class Noting(Component):
            def resolve(self, path: http.Path) -> Session:
                order.append('component')

        class First:
            def on_request(self):
                order.append('hook')

        async def handler(session: Session, n: int = 5):
            """Take it."""

        arguments = Arguments(handler, injector(Noting()), '/')
        state = {'scope': {'path': '/', 'query_string': b'n=7'}, 'path_params': {}, 'route': None, 'websocket': None}
        assert await supply(arguments, [First().on_request], state) == {'session': None, 'n': 7}
        assert order == ['hook', 'component']


async def test_cache_of_plans_is_bounded(monkeypatch):
    """The cache stays bounded where hooks make new functions for each connection."""
    monkeypatch.setattr('apistar_ws.injection.injector.MAX_PLANS', 10)
    used = injector()
    for i in range(30):
        await used.run_async([(lambda: lambda: i)()], {'scope': {}})
    assert len(used.resolver_cache) <= 10


def refusal_of(handler, url='/rooms/{room}'):
    """Return why an application with ``handler`` is refused."""
    with pytest.raises(ConfigurationError) as info:
        ASyncApp(collect_routes(websocket_route(url)(handler)))
    return str(info.value)


class OwnWebSocket(WebSocket):
    """A WebSocket of the user's own, which the application knows nothing of."""


class Channel:
    """What holds a connection of the user's own."""


class OwnWebSocketComponent(Component):
    def resolve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> OwnWebSocket:
        """Not run."""


class ChannelComponent(Component):
    def resolve(self, receive: ASGIReceive, send: ASGISend) -> Iterator[Channel]:
        yield Channel()  # pragma: no cover


class ReadingComponent(Component):
    def resolve(self, scope: ASGIScope, receive: ASGIReceive) -> Session:
        """Supply what reads over HTTP only."""


class TestSecondConnections:
    """What would receive the handshake a second time, and wait for it for ever."""

    COMPONENTS = [OwnWebSocketComponent(), ChannelComponent(), ReadingComponent()]

    def refusal(self, handler, **options):
        """Return why an application with ``handler`` is refused."""
        with pytest.raises(ConfigurationError) as info:
            ASyncApp(collect_routes(websocket_route('/', **options)(handler)), components=self.COMPONENTS)
        return str(info.value).replace(type(self).__qualname__, '')

    def test_raw_receive_is_refused(self):
        """A handler that connects by itself cannot receive the handshake."""

        async def handler(ws: WebSocket, receive: ASGIReceive):
            """Not run."""

        said = self.refusal(handler, connect=False)
        assert said.startswith('The handler %s.' % __name__)
        assert '.handler connects by itself, and asks for ASGIReceive with its argument receive. ' in said
        assert said.endswith('ask for ws: WebSocket, and call ws.connect() and ws.receive().')

    @pytest.mark.parametrize('connect', [False, True])
    def test_own_websocket_is_refused(self, connect):
        """A WebSocket that a component makes by hand is another one than the application's."""

        async def handler(ws: OwnWebSocket):
            """Not run."""

        said = self.refusal(handler, connect=connect)
        assert said.startswith('The component %s.OwnWebSocketComponent.resolve, which the handler ' % __name__)
        assert said.endswith('have it ask for ws: WebSocket, and use that.')

    def test_hidden_connection_is_refused(self):
        """A component with receive and send cannot connect either, whatever it supplies."""

        async def handler(channel: Channel, ws: WebSocket):
            """Not run."""

        assert 'ChannelComponent.resolve, which the handler' in self.refusal(handler, connect=False)

    def test_plain_route_is_refused(self):
        """A plain route connects by itself."""

        async def handler(ws: WebSocket, receive: ASGIReceive):
            """Not run."""

        with pytest.raises(ConfigurationError, match='connects by itself, and asks for ASGIReceive'):
            ASyncApp([Route('/', 'GET', handler)])

    def test_what_can_work_is_not_refused(self):
        """After the accept the raw messages are there, and a component may read over HTTP only."""

        async def connected(receive: ASGIReceive, send: ASGISend, channel: Channel):
            """Not run."""

        async def connecting(session: Session, send: ASGISend, ws: WebSocket):
            """Not run."""

        async def listener(message, session: Session):
            """Not run."""

        handlers = [
            websocket_route('/a')(connected),
            websocket_route('/b', connect=False)(connecting),
            websocket_listener('/c', per_message=['session'])(listener),
        ]
        ASyncApp(collect_routes(handlers), components=self.COMPONENTS)


class TestUnknownArguments:
    """What would be a query parameter that no client sends."""

    def test_missing_annotation_is_refused(self):
        """A WebSocket argument without its annotation is refused."""

        async def handler(ws):
            """Not run."""

        assert refusal_of(handler).endswith(
            'has no annotation, and would be taken for a query parameter: write ws: WebSocket.'
        )

    def test_groups_without_annotation_are_refused(self):
        """An argument ``groups`` stands for the component, in a handler and in a listener."""

        async def handler(ws: WebSocket, groups):
            """Not run."""

        async def listener(message, groups):
            """Not run."""

        name = '%s.TestUnknownArguments' % __name__
        assert refusal_of(handler) == (
            'The argument groups of %s.test_groups_without_annotation_are_refused.<locals>.handler has no annotation, '
            'and would be taken for a query parameter: write groups: Groups.' % name
        )
        with pytest.raises(ConfigurationError, match='The argument groups of .*listener has no annotation'):
            ASyncApp(collect_routes(websocket_listener('/rooms/{room}')(listener)))

    def test_url_parameters_need_no_annotation(self):
        """A parameter of the URL may have any name."""

        async def handler(groups, socket, ws: WebSocket):
            """Not run."""

        ASyncApp(collect_routes(websocket_route('/{groups}/{socket}')(handler)))

    def test_misspelt_parameter_is_refused(self):
        """A parameter spelt differently in the URL and the handler is refused."""

        async def handler(rom: str, ws: WebSocket):
            """Not run."""

        assert 'nothing takes {room} of the URL' in refusal_of(handler)

    def test_possible_query_parameters_are_accepted(self):
        """Arguments that may be query parameters are accepted."""

        async def handler(room: str, rom: str, colour, limit: int = 5, ws: WebSocket = None):
            """Not run."""

        async def without_room(colour: str, rooms: str = ''):
            """Not run."""

        for function in (handler, without_room):
            ASyncApp(collect_routes(websocket_route('/rooms/{room}')(function)))

    @pytest.mark.parametrize('kind', ['args', 'kwargs'])
    def test_any_arguments_are_refused(self, kind):
        async def args(*args):
            """Not run."""

        async def kwargs(**kwargs):
            """Not run."""

        assert 'and API Star gives those that it can name' in refusal_of({'args': args, 'kwargs': kwargs}[kind])
