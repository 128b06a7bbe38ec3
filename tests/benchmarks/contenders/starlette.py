"""Starlette: functions over its ``WebSocket``, pure ASGI middlewares as guards."""

import asyncio
from typing import Any, Dict, Tuple

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.benchmarks.contenders import NO_LIMITS, SLEEP, visited
from tests.benchmarks.contenders.guards import Counter, RefuseBots, RequireHost, RequireSession
from tests.benchmarks.contenders.pydantic_types import MOVES, Move, Order, moved, receipt

VERSION_OF = 'starlette'
MISSING: Dict[str, str] = {'limited': NO_LIMITS}


async def echo(websocket: WebSocket) -> None:
    """Echo one text."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


async def talk(websocket: WebSocket) -> None:
    """Echo texts until the client leaves."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


async def each(websocket: WebSocket) -> None:
    """Echo each text."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def sleep(websocket: WebSocket) -> None:
    """Sleep, whatever the client does."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    await asyncio.sleep(SLEEP)


async def talk_json(websocket: WebSocket) -> None:
    """Echo JSON until the client leaves."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    try:
        while True:
            await websocket.send_json(await websocket.receive_json())
    except WebSocketDisconnect:
        pass


def get_user(websocket: WebSocket) -> str:
    """Take the user from the header that the proxy sets."""
    return websocket.headers['x-forwarded-user']


def get_locale(websocket: WebSocket) -> str:
    """Take the preferred language."""
    return websocket.headers['accept-language'].split(',')[0]


def get_limit(websocket: WebSocket) -> int:
    """Take the limit from the query string."""
    return int(websocket.query_params['limit'])


async def derived(websocket: WebSocket) -> None:
    """Echo one text, for a known user."""
    room = websocket.path_params['room']
    visited.append((room, get_user(websocket), get_locale(websocket), get_limit(websocket)))
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


async def order(websocket: WebSocket) -> None:
    """Answer orders until the client leaves."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    try:
        while True:
            taken = Order.model_validate_json(await websocket.receive_text())
            await websocket.send_text(receipt(taken).model_dump_json())
    except WebSocketDisconnect:
        pass


async def move(websocket: WebSocket) -> None:
    """Answer moves until the client leaves."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    try:
        while True:
            taken = MOVES.validate_json(await websocket.receive_text())
            if isinstance(taken, Move):
                await websocket.send_text(moved(taken).model_dump_json())
    except WebSocketDisconnect:
        pass


async def talk_orjson(websocket: WebSocket) -> None:
    """Echo JSON until the client leaves, by a faster codec than its own."""
    visited.append(websocket.path_params['room'])
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(orjson.dumps(orjson.loads(await websocket.receive_text())).decode())
    except WebSocketDisconnect:
        pass


def get_session(websocket: WebSocket) -> str:
    """Take the session from its cookie."""
    return websocket.headers['cookie'].partition('session=')[2]


def get_account(session: str) -> str:
    """Return the account of a session."""
    return 'account of %s' % session


def get_page(websocket: WebSocket) -> Tuple[int, int]:
    """Take the numbers from the query string."""
    return int(websocket.query_params['offset']), int(websocket.query_params.get('limit', 50))


async def paged(websocket: WebSocket) -> None:
    """Echo one text, for the account of a session."""
    session = get_session(websocket)
    visited.append((websocket.path_params['room'], session, get_account(session), *get_page(websocket)))
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


#: pydantic writes and reads JSON by itself, whatever the codec.
TYPED = {
    '/order-instance': order,
    '/order-dict': order,
    '/order-instance-orjson': order,
    '/order-dict-orjson': order,
    '/json-orjson': talk_orjson,
    '/move-instance': move,
    '/move-dict': move,
}


def build(count: int) -> Any:
    """Return the application with ``count`` routes."""
    return Starlette(routes=[WebSocketRoute('/chat%d/{room}' % index, echo) for index in range(count)])


def conversations() -> Any:
    """Return the application whose connections stay."""
    endpoints = {'/chat': echo, '/talk': talk, '/each': each, '/json': talk_json, '/sleep': sleep}
    return Starlette(routes=[WebSocketRoute(url + '/{room}', endpoint) for url, endpoint in endpoints.items()])


def guarded() -> Any:
    """Return the application with guards and derived values."""
    return Starlette(
        routes=[WebSocketRoute('/chat0/{room}', derived)],
        middleware=[Middleware(RefuseBots), Middleware(RequireHost)],
    )


def counted() -> Any:
    """Return the application with a counter."""
    return Starlette(
        routes=[WebSocketRoute('/chat0/{room}', paged)],
        middleware=[Middleware(Counter), Middleware(RequireSession)],
    )


def typed() -> Any:
    """Return the application with messages of declared types."""
    return Starlette(routes=[WebSocketRoute(url + '/{room}', endpoint) for url, endpoint in TYPED.items()])
