"""FastAPI: dependencies for what is derived, pure ASGI middlewares as guards, which cost it less."""

import asyncio
from typing import Annotated, Any, Dict, Tuple

import orjson
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect

from tests.benchmarks.contenders import NO_LIMITS, SLEEP, visited
from tests.benchmarks.contenders.guards import Counter, RefuseBots, RequireHost, RequireSession
from tests.benchmarks.contenders.pydantic_types import MOVES, Move, Order, moved, receipt

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


async def order(websocket: WebSocket, room: str) -> None:
    """Answer orders until the client leaves."""
    visited.append(room)
    await websocket.accept()
    try:
        while True:
            taken = Order.model_validate_json(await websocket.receive_text())
            await websocket.send_text(receipt(taken).model_dump_json())
    except WebSocketDisconnect:
        pass


async def move(websocket: WebSocket, room: str) -> None:
    """Answer moves until the client leaves."""
    visited.append(room)
    await websocket.accept()
    try:
        while True:
            taken = MOVES.validate_json(await websocket.receive_text())
            if isinstance(taken, Move):
                await websocket.send_text(moved(taken).model_dump_json())
    except WebSocketDisconnect:
        pass


async def talk_orjson(websocket: WebSocket, room: str) -> None:
    """Echo JSON until the client leaves, by a faster codec than its own."""
    visited.append(room)
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(orjson.dumps(orjson.loads(await websocket.receive_text())).decode())
    except WebSocketDisconnect:
        pass


async def get_session(websocket: WebSocket) -> str:
    """Take the session from its cookie."""
    return websocket.headers['cookie'].partition('session=')[2]


async def get_account(session: Annotated[str, Depends(get_session)]) -> str:
    """Return the account of a session."""
    return 'account of %s' % session


async def get_page(websocket: WebSocket) -> Tuple[int, int]:
    """Take the numbers from the query string."""
    return int(websocket.query_params['offset']), int(websocket.query_params.get('limit', 50))


async def paged(
    websocket: WebSocket,
    room: str,
    session: Annotated[str, Depends(get_session)],
    account: Annotated[str, Depends(get_account)],
    page: Annotated[Tuple[int, int], Depends(get_page)],
) -> None:
    """Echo one text, for the account of a session."""
    visited.append((room, session, account, *page))
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


def counted() -> Any:
    """Return the application with a counter."""
    app = FastAPI()
    app.add_middleware(RequireSession)
    app.add_middleware(Counter)
    app.websocket('/chat0/{room}')(paged)
    return app


def typed() -> Any:
    """Return the application with messages of declared types."""
    app = FastAPI()
    for url, endpoint in TYPED.items():
        app.websocket(url + '/{room}')(endpoint)
    return app
