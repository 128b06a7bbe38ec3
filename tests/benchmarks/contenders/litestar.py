"""Litestar: dependencies for what is derived, ASGI middlewares as guards, which cost it less than its guards."""

import asyncio
from typing import Any, Dict

from litestar import Litestar, WebSocket, websocket
from litestar.di import Provide
from litestar.exceptions import WebSocketDisconnect

from tests.benchmarks.contenders import NO_LIMITS, SLEEP, visited
from tests.benchmarks.contenders.guards import RefuseBots, RequireHost

VERSION_OF = 'litestar'
MISSING: Dict[str, str] = {'limited': NO_LIMITS}


async def echo(socket: WebSocket, room: str) -> None:
    """Echo one text."""
    visited.append(room)
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


async def talk(socket: WebSocket, room: str) -> None:
    """Echo texts until the client leaves."""
    visited.append(room)
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


async def each(socket: WebSocket, room: str) -> None:
    """Echo each text."""
    visited.append(room)
    await socket.accept()
    async for text in socket.iter_data('text'):
        await socket.send_text(text)


async def sleep(socket: WebSocket, room: str) -> None:
    """Sleep, whatever the client does."""
    visited.append(room)
    await socket.accept()
    await asyncio.sleep(SLEEP)


async def talk_json(socket: WebSocket, room: str) -> None:
    """Echo JSON until the client leaves."""
    visited.append(room)
    await socket.accept()
    try:
        while True:
            await socket.send_json(await socket.receive_json())
    except WebSocketDisconnect:
        pass


def get_user(socket: WebSocket) -> str:
    """Take the user from the header that the proxy sets."""
    return socket.headers['x-forwarded-user']


def get_locale(socket: WebSocket) -> str:
    """Take the preferred language."""
    return socket.headers['accept-language'].split(',')[0]


def get_limit(socket: WebSocket) -> int:
    """Take the limit from the query string."""
    return int(socket.query_params['limit'])


DEPENDENCIES = {
    'user': Provide(get_user, sync_to_thread=False),
    'locale': Provide(get_locale, sync_to_thread=False),
    'limit': Provide(get_limit, sync_to_thread=False),
}


async def derived(socket: WebSocket, room: str, user: str, locale: str, limit: int) -> None:
    """Echo one text, for a known user."""
    visited.append((room, user, locale, limit))
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


def build(count: int) -> Any:
    """Return the application with ``count`` routes."""
    return Litestar([websocket('/chat%d/{room:str}' % index)(echo) for index in range(count)])


def conversations() -> Any:
    """Return the application whose connections stay."""
    handlers = {'/chat': echo, '/talk': talk, '/each': each, '/json': talk_json, '/sleep': sleep}
    return Litestar([websocket(url + '/{room:str}')(handler) for url, handler in handlers.items()])


def guarded() -> Any:
    """Return the application with guards and derived values."""
    return Litestar(
        [websocket('/chat0/{room:str}', dependencies=DEPENDENCIES)(derived)], middleware=[RefuseBots, RequireHost]
    )
