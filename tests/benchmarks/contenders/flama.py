"""Flama: functions over its ``WebSocket``, components for what is derived, its middlewares as guards.

It has no event hooks for requests. On a WebSocket it injects no single path parameter, only all of them.
"""

import asyncio
import logging
from typing import Any, Dict

from flama import Component, Flama, exceptions, http, types
from flama.middleware import Middleware

from tests.benchmarks.contenders import NO_LIMITS, SLEEP, visited
from tests.benchmarks.contenders.guards import HOST_BYTES

VERSION_OF = 'flama'
MISSING: Dict[str, str] = {'each': "Flama's WebSocket has no iteration", 'limited': NO_LIMITS}
# As quiet as the others.
logging.getLogger('flama').setLevel(logging.WARNING)


async def echo(websocket: http.WebSocket, path_params: types.PathParams) -> None:
    """Echo one text."""
    visited.append(path_params['room'])
    await websocket.accept()
    await websocket.send(data=await websocket.receive(data='text'))
    await websocket.close()


async def talk(websocket: http.WebSocket, path_params: types.PathParams) -> None:
    """Echo texts until the client leaves."""
    visited.append(path_params['room'])
    await websocket.accept()
    try:
        while True:
            await websocket.send(data=await websocket.receive(data='text'))
    except exceptions.WebSocketDisconnect:
        pass


async def sleep(websocket: http.WebSocket, path_params: types.PathParams) -> None:
    """Sleep, whatever the client does."""
    visited.append(path_params['room'])
    await websocket.accept()
    await asyncio.sleep(SLEEP)


async def talk_json(websocket: http.WebSocket, path_params: types.PathParams) -> None:
    """Echo JSON until the client leaves."""
    visited.append(path_params['room'])
    await websocket.accept()
    try:
        while True:
            await websocket.send(json=await websocket.receive(data='json'))
    except exceptions.WebSocketDisconnect:
        pass


class User(str):
    """The name of a user."""


class Locale(str):
    """A language, with its country."""


class Limit(int):
    """How many messages a client wants to see."""


class UserComponent(Component):
    """Supplies the user."""

    cacheable = False

    def resolve(self, websocket: http.WebSocket) -> User:
        """Take the user from the header that the proxy sets."""
        return User(websocket.headers['x-forwarded-user'])


class LocaleComponent(Component):
    """Supplies the locale."""

    cacheable = False

    def resolve(self, websocket: http.WebSocket) -> Locale:
        """Take the preferred language."""
        return Locale(websocket.headers['accept-language'].split(',')[0])


class LimitComponent(Component):
    """Supplies the limit."""

    cacheable = False

    def resolve(self, websocket: http.WebSocket) -> Limit:
        """Take the limit from the query string."""
        return Limit(websocket.query_params['limit'])


class RefuseBots(Middleware):
    """Refuses clients that call themselves a bot."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what is no bot."""
        if scope['type'] == 'websocket' and b'bot' in dict(scope['headers']).get(b'user-agent', b''):
            return await send({'type': 'websocket.close', 'code': 1008})
        await self.app(scope, receive, send)


class RequireHost(Middleware):
    """Refuses hosts that are not ours."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what is for one of our hosts."""
        if scope['type'] == 'websocket' and dict(scope['headers']).get(b'host') not in HOST_BYTES:
            return await send({'type': 'websocket.close', 'code': 1008})
        await self.app(scope, receive, send)


async def derived(
    websocket: http.WebSocket, path_params: types.PathParams, user: User, locale: Locale, limit: Limit
) -> None:
    """Echo one text, for a known user."""
    visited.append((path_params['room'], user, locale, limit))
    await websocket.accept()
    await websocket.send(data=await websocket.receive(data='text'))
    await websocket.close()


def build(count: int) -> Any:
    """Return the application with ``count`` routes."""
    app = Flama()
    for index in range(count):
        app.add_websocket_route('/chat%d/{room}' % index, echo, name='chat%d' % index)
    return app


def conversations() -> Any:
    """Return the application whose connections stay."""
    app = Flama()
    for url, endpoint in {'/chat': echo, '/talk': talk, '/json': talk_json, '/sleep': sleep}.items():
        app.add_websocket_route(url + '/{room}', endpoint)
    return app


def guarded() -> Any:
    """Return the application with guards and derived values."""
    components = [UserComponent(), LocaleComponent(), LimitComponent()]
    app = Flama(components=components, middleware=[RefuseBots(), RequireHost()])
    app.add_websocket_route('/chat0/{room}', derived)
    return app
