"""FastAPI: dependencies for what is derived, pure ASGI middlewares as guards, which cost it less."""

import asyncio
from typing import Annotated, Any, Dict

from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect

from tests.benchmarks.contenders import NO_LIMITS, SLEEP, visited
from tests.benchmarks.contenders.guards import RefuseBots, RequireHost

VERSION_OF = 'fastapi'
MISSING: Dict[str, str] = {'limited': NO_LIMITS}


async def echo(websocket: WebSocket, room: str) -> None:
    """Echo one text."""
    visited.append(room)
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


async def talk(websocket: WebSocket, room: str) -> None:
    """Echo texts until the client leaves."""
    visited.append(room)
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


async def each(websocket: WebSocket, room: str) -> None:
    """Echo each text."""
    visited.append(room)
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def sleep(websocket: WebSocket, room: str) -> None:
    """Sleep, whatever the client does."""
    visited.append(room)
    await websocket.accept()
    await asyncio.sleep(SLEEP)


async def talk_json(websocket: WebSocket, room: str) -> None:
    """Echo JSON until the client leaves."""
    visited.append(room)
    await websocket.accept()
    try:
        while True:
            await websocket.send_json(await websocket.receive_json())
    except WebSocketDisconnect:
        pass


async def get_user(websocket: WebSocket) -> str:
    """Take the user from the header that the proxy sets; a ``Header()`` argument would cost more."""
    return websocket.headers['x-forwarded-user']


async def get_locale(websocket: WebSocket) -> str:
    """Take the preferred language."""
    return websocket.headers['accept-language'].split(',')[0]


async def get_limit(websocket: WebSocket) -> int:
    """Take the limit from the query string."""
    return int(websocket.query_params['limit'])


async def derived(
    websocket: WebSocket,
    room: str,
    user: Annotated[str, Depends(get_user)],
    locale: Annotated[str, Depends(get_locale)],
    limit: Annotated[int, Depends(get_limit)],
) -> None:
    """Echo one text, for a known user."""
    visited.append((room, user, locale, limit))
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


def build(count: int) -> Any:
    """Return the application with ``count`` routes."""
    app = FastAPI()
    for index in range(count):
        app.websocket('/chat%d/{room}' % index)(echo)
    return app


def conversations() -> Any:
    """Return the application whose connections stay."""
    app = FastAPI()
    endpoints = {'/chat': echo, '/talk': talk, '/each': each, '/json': talk_json, '/sleep': sleep}
    for url, endpoint in endpoints.items():
        app.websocket(url + '/{room}')(endpoint)
    return app


def guarded() -> Any:
    """Return the application with guards and derived values."""
    app = FastAPI()
    app.add_middleware(RequireHost)
    app.add_middleware(RefuseBots)
    app.websocket('/chat0/{room}')(derived)
    return app
