"""Flama: functions over its ``WebSocket``, components for what is derived, its middlewares as guards.

It has no event hooks for requests. On a WebSocket it injects no single path parameter, only all of them.
"""

import asyncio
import logging
from typing import Any, Dict, NamedTuple

import orjson
from flama import Component, Flama, exceptions, http, types
from flama.middleware import Middleware

from tests.benchmarks.contenders import NO_LIMITS, NO_TYPES, SLEEP, TYPED, visited
from tests.benchmarks.contenders.guards import HOST_BYTES, Counter

VERSION_OF = 'flama'
MISSING: Dict[str, str] = {
    'each': "Flama's WebSocket has no iteration",
    'each made': "Flama's WebSocket has no iteration",
    'limited': NO_LIMITS,
    **dict.fromkeys(TYPED, NO_TYPES),
}
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


class Session(str):
    """The session of a client."""


class Account(str):
    """Whose session it is."""


class Page(NamedTuple):
    """Which part of a list a client wants to see."""

    offset: int
    limit: int


class SessionComponent(Component):
    """Supplies the session."""

    cacheable = False

    def resolve(self, websocket: http.WebSocket) -> Session:
        """Take it from its cookie."""
        return Session(websocket.headers['cookie'].partition('session=')[2])


class AccountComponent(Component):
    """Supplies the account."""

    cacheable = False

    def resolve(self, session: Session) -> Account:
        """Return the account of a session."""
        return Account('account of %s' % session)


class PageComponent(Component):
    """Supplies the page."""

    cacheable = False

    def resolve(self, websocket: http.WebSocket) -> Page:
        """Take the numbers from the query string."""
        return Page(int(websocket.query_params['offset']), int(websocket.query_params.get('limit', 50)))


class RequireSession(Middleware):
    """Refuses clients without a session, which it may have to wait for."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what has a session."""
        if scope['type'] == 'websocket':
            await asyncio.sleep(0)
            if b'session=' not in dict(scope['headers']).get(b'cookie', b''):
                return await send({'type': 'websocket.close', 'code': 1008})
        await self.app(scope, receive, send)


class Counting(Middleware):
    """Counts the connections that are open."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Count one more until it is over."""
        if scope['type'] != 'websocket':
            return await self.app(scope, receive, send)
        Counter.open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            Counter.open -= 1


async def paged(
    websocket: http.WebSocket, path_params: types.PathParams, session: Session, account: Account, page: Page
) -> None:
    """Echo one text, for the account of a session."""
    visited.append((path_params['room'], session, account, *page))
    await websocket.accept()
    await websocket.send(data=await websocket.receive(data='text'))
    await websocket.close()


async def talk_orjson(websocket: http.WebSocket, path_params: types.PathParams) -> None:
    """Echo JSON until the client leaves, by a faster codec than its own."""
    visited.append(path_params['room'])
    await websocket.accept()
    try:
        while True:
            value = orjson.loads(await websocket.receive(data='text'))
            await websocket.send(data=orjson.dumps(value).decode())
    except exceptions.WebSocketDisconnect:
        pass


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


def counted() -> Any:
    """Return the application with a counter."""
    components = [SessionComponent(), AccountComponent(), PageComponent()]
    app = Flama(components=components, middleware=[Counting(), RequireSession()])
    app.add_websocket_route('/chat0/{room}', paged)
    return app


def typed() -> Any:
    """Return the application with JSON by a faster codec."""
    app = Flama()
    app.add_websocket_route('/json-orjson/{room}', talk_orjson)
    return app
