"""Optional arguments, and the application's own classes as annotations: as on API Star, and over WebSockets too."""

import inspect
import typing
from typing import Iterator, Optional

import apistar
import pytest
from apistar import App, exceptions, http
from apistar.exceptions import ConfigurationError
from apistar.server.components import Component

import apistar_ws
from apistar_ws import (
    ASyncApp,
    GroupsComponent,
    Route,
    WebSocket,
    collect_routes,
    websocket_listener,
    websocket_route,
    websocket_stream,
)
from apistar_ws.groups import Groups
from apistar_ws.testing import HandshakeDenied, TestClient


class User(str):
    """Who is logged in, if anybody is."""


class Database(str):
    """What comes after it."""


class Session(str):
    """What is closed at the end."""


class UserComponent(Component):
    def resolve(self) -> Optional[User]:
        return User('ann')


class DatabaseComponent(Component):
    def resolve(self, user: Optional[User], path: http.Path) -> Database:
        return Database('%s on %s' % (user, path))


class SessionComponent(Component):
    def resolve(self, user: Optional[User], database: Database) -> Iterator[Session]:
        yield Session('%s: %s' % (user, database))


COMPONENTS = [UserComponent(), DatabaseComponent(), SessionComponent()]
DUE = 'ann ann on %s ann: ann on %s'


class Hook:
    def on_request(self, user: Optional[User], database: Database):
        assert user == 'ann' and database


@websocket_route('/route')
async def route(user: Optional[User], database: Database, session: Session, ws: WebSocket):
    await ws.send('%s %s %s' % (user, database, session))


@websocket_route('/strings')
async def strings(user: 'Optional[User]', database: 'Database', session: 'Session', ws: 'WebSocket'):
    await ws.send('%s %s %s' % (user, database, session))


@websocket_listener('/listener')
async def listener(message: str, user: Optional[User], database: Database, session: Session) -> str:
    return '%s %s %s' % (user, database, session)


@websocket_listener('/each', per_message=['session'])
async def each(message: str, user: Optional[User], session: Session, database: Database) -> str:
    return '%s %s %s' % (user, database, session)


@websocket_stream('/stream')
async def stream(user: Optional[User], database: Database, session: Session):
    yield '%s %s %s' % (user, database, session)


def page(user: Optional[User], database: Database, session: Session):
    return '%s %s %s' % (user, database, session)


class TestOptional:
    """Arguments that may be None, before others that may not."""

    def client(self):
        handlers = collect_routes(route, strings, listener, each, stream)
        return TestClient(ASyncApp([*handlers, Route('/page', 'GET', page)], components=COMPONENTS, event_hooks=[Hook]))

    @pytest.mark.parametrize('url', ['/route', '/strings', '/listener', '/each', '/stream'])
    def test_they_are_supplied_over_a_websocket(self, url):
        client = self.client()
        with client.websocket_connect(url) as ws:
            ws.send('x')
            assert ws.receive() == DUE % (url, url)
        client.close()

    def test_they_are_supplied_over_http(self):
        client = self.client()
        assert client.get('/page').text == DUE % ('/page', '/page')
        client.close()

    def test_component_may_choose_parameters(self):
        """A component that decides by ``can_handle_parameter`` may supply an optional type, too."""

        class Gives(Component):
            def can_handle_parameter(self, parameter):
                return parameter.name == 'user'

            def resolve(self, parameter: inspect.Parameter) -> User:
                return User('%s, %s' % (parameter.name, parameter.annotation))

        @websocket_route('/')
        async def handler(user: Optional[User], ws: WebSocket):
            await ws.send(user)

        client = TestClient(ASyncApp(collect_routes(handler), components=[Gives()]))
        with client.websocket_connect('/') as ws:
            assert ws.receive() == 'user, %s' % Optional[User]
        client.close()

    def test_equal_annotations_are_the_same(self):
        """typing forgets the unions that it has made: the same annotation may then be another object."""

        class Gives(Component):
            def resolve(self) -> Optional[User]:
                return User('bob')

        for forget in typing._cleanups:
            forget()

        @websocket_route('/')
        async def handler(user: Optional[User], ws: WebSocket):
            await ws.send(user)

        client = TestClient(ASyncApp(collect_routes(handler), components=[Gives()]))
        with client.websocket_connect('/') as ws:
            assert ws.receive() == 'bob'
        client.close()

    def test_value_type_alone_is_supplied(self):
        """An optional argument is supplied by a component for its type."""

        class Gives(Component):
            def resolve(self) -> User:
                return User('bob')

        @websocket_route('/')
        async def handler(user: Optional[User], ws: WebSocket):
            await ws.send(user)

        client = TestClient(ASyncApp(collect_routes(handler), components=[Gives()]))
        with client.websocket_connect('/') as ws:
            assert ws.receive() == 'bob'
        client.close()


class OwnApp(ASyncApp):
    """A subclass of the user's."""


class TestOwnClasses:
    """``route: Route`` and ``app: App``, by whichever class the application names."""

    @pytest.mark.parametrize('kind', [apistar.Route, apistar_ws.Route])
    def test_guard_may_take_the_route(self, kind):
        """A guard may take the route as an argument."""

        class Guard:
            def on_request(self, route: kind):
                if route.name == 'route':
                    raise exceptions.Forbidden()

        routes = [*collect_routes(route), Route('/page', 'GET', lambda: 'page', name='page')]
        client = TestClient(ASyncApp(routes, components=COMPONENTS, event_hooks=[Guard]))
        assert client.get('/page').text == 'page'
        with pytest.raises(HandshakeDenied, match='403'), client.websocket_connect('/route'):
            """Not get here."""
        client.close()

    @pytest.mark.parametrize('kind', [App, apistar.ASyncApp, apistar_ws.ASyncApp, OwnApp])
    def test_handler_may_take_the_application(self, kind):
        """A handler may take the application as an argument."""

        @websocket_route('/')
        async def handler(app: kind, ws: WebSocket):
            await ws.send(app.reverse_url('page'))

        def page(app: kind):
            return app.reverse_url('page')

        client = TestClient(OwnApp([*collect_routes(handler), Route('/page', 'GET', page)]))
        assert client.get('/page').text == '/page'
        with client.websocket_connect('/') as ws:
            assert ws.receive() == '/page'
        client.close()


def test_advice_names_missing_components_only():
    """The advice names the missing component and not the existing one."""

    @websocket_route('/')
    async def handler(user: User, groups: Groups, ws: WebSocket):
        """Not run."""

    with pytest.raises(ConfigurationError) as info:
        ASyncApp(collect_routes(handler), components=[GroupsComponent()])
    assert 'parameter "user"' in str(info.value) and 'GroupsComponent' not in str(info.value)
