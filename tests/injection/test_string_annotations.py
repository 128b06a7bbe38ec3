"""Components and hooks in a module that says ``from __future__ import annotations``."""

from __future__ import annotations

import inspect
from typing import Iterator, Optional

import pytest
from apistar import exceptions, http
from apistar.exceptions import ConfigurationError
from apistar.server.components import Component

from apistar_ws import ASyncApp, Route, WebSocket, collect_routes, websocket_route
from apistar_ws.testing import TestClient
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, run, scope, sent

notes = []


class Token(str):
    """A header."""


class User(str):
    """What stands on it."""


class Session(str):
    """What is closed."""


class Named(str):
    """What is called by its argument."""


class TokenComponent(Component):
    async def resolve(self, authorization: http.Header) -> Token:
        return Token(authorization)


class UserComponent(Component):
    def resolve(self, token: Token) -> User:
        return User(token.upper())


class SessionComponent(Component):
    def resolve(self, user: User) -> Iterator[Session]:
        yield Session('session of ' + user)
        notes.append('closed')


class NamedComponent(Component):
    def resolve(self, parameter: inspect.Parameter) -> Named:
        return Named(parameter.name)


class OwnComponent(Component):
    def can_handle_parameter(self, parameter: inspect.Parameter) -> bool:
        return parameter.name == 'own'

    def identity(self, parameter: inspect.Parameter) -> str:
        return 'own'

    def resolve(self, user: User):
        return 'own of ' + user


class Guard:
    def on_request(self, user: User, agent: Optional[http.Header]):
        if user == 'BOB':
            raise exceptions.Forbidden()

    async def on_response(self, response: http.Response, user: User):
        response.headers['x-user'] = user


class Called:
    async def on_request(self, token: Token):
        notes.append(token)


@websocket_route('/hello')
async def hello(session: Session, first: Named, second: Named, own: object, ws: WebSocket):
    await ws.send(' '.join([session, first, second, own]))


def show(session: Session) -> dict:
    return {'session': session}


def page(number: int, size: int = 10) -> list:
    return [number, size]


def made(*hooks):
    components = [TokenComponent(), UserComponent(), SessionComponent(), NamedComponent(), OwnComponent()]
    routes = [Route('/show', 'GET', show), Route('/pages/{number}', 'GET', page), *collect_routes(hello)]
    return ASyncApp(routes, components=components, event_hooks=[Guard, *hooks])


async def test_they_are_resolved_for_websockets():
    notes.clear()
    answered = await run(made(Called), scope('/hello', [('authorization', 'ann')]), Peer(CONNECT))
    assert answered == [ACCEPT, sent('session of ANN first second own of ANN'), CLOSE]
    assert notes == ['ann', 'closed']
    denied = await run(made(), scope('/hello', [('authorization', 'bob')]), Peer(CONNECT))
    assert (denied[0]['status'], dict(denied[0]['headers'])[b'x-user']) == (403, b'BOB')


def test_they_are_resolved_over_http():
    client = TestClient(made())
    answer = client.get('/show', headers={'Authorization': 'ann'})
    assert (answer.json(), answer.headers['x-user']) == ({'session': 'session of ANN'}, 'ANN')
    client.close()


def test_unknown_name_is_refused():
    """An annotation with an unknown name is refused with a message."""

    class Wrong(Component):
        def resolve(self, user: Nobody) -> User:  # noqa: F821
            """Not run."""

    with pytest.raises(ConfigurationError, match='An annotation of .*Wrong.resolve cannot be resolved'):
        ASyncApp([], components=[Wrong()])


def test_http_route_gets_its_parameters():
    """A route for HTTP gets its parameters."""
    client = TestClient(made())
    headers = {'Authorization': 'ann'}
    assert client.get('/pages/5?size=20', headers=headers).json() == [5, 20]
    assert client.get('/pages/five', headers=headers).status_code == 404
    client.close()
