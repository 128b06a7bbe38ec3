"""Litestar: dependencies for what is derived, ASGI middlewares as guards, which cost it less than its guards."""

import asyncio
from typing import Any, Dict, Tuple, Union

import msgspec
from litestar import Litestar, WebSocket, websocket
from litestar.di import Provide
from litestar.exceptions import WebSocketDisconnect

from tests.benchmarks.contenders import NO_LIMITS, SLEEP, visited
from tests.benchmarks.contenders.guards import Counter, RefuseBots, RequireHost, RequireSession
from tests.benchmarks.contenders.msgspec_types import Move, Order, Say, moved, receipt

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


def get_session(socket: WebSocket) -> str:
    """Take the session from its cookie."""
    return socket.headers['cookie'].partition('session=')[2]


def get_account(session: str) -> str:
    """Return the account of a session."""
    return 'account of %s' % session


def get_page(socket: WebSocket) -> Tuple[int, int]:
    """Take the numbers from the query string."""
    return int(socket.query_params['offset']), int(socket.query_params.get('limit', 50))


PAGED = {
    'session': Provide(get_session, sync_to_thread=False),
    'account': Provide(get_account, sync_to_thread=False),
    'page': Provide(get_page, sync_to_thread=False),
}


async def paged(socket: WebSocket, room: str, session: str, account: str, page: Tuple[int, int]) -> None:
    """Echo one text, for the account of a session."""
    visited.append((room, session, account, *page))
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


ORDERS = msgspec.json.Decoder(Order)
MOVES = msgspec.json.Decoder(Union[Move, Say])
encode = msgspec.json.Encoder().encode


async def order(socket: WebSocket, room: str) -> None:
    """Answer orders until the client leaves."""
    visited.append(room)
    await socket.accept()
    try:
        while True:
            taken = ORDERS.decode(await socket.receive_text())
            await socket.send_text(encode(receipt(taken)).decode())
    except WebSocketDisconnect:
        pass


async def move(socket: WebSocket, room: str) -> None:
    """Answer moves until the client leaves."""
    visited.append(room)
    await socket.accept()
    try:
        while True:
            taken = MOVES.decode(await socket.receive_text())
            if isinstance(taken, Move):
                await socket.send_text(encode(moved(taken)).decode())
    except WebSocketDisconnect:
        pass


#: msgspec is its codec, whatever others may have.
TYPED = {
    '/order-instance': order,
    '/order-dict': order,
    '/order-instance-orjson': order,
    '/order-dict-orjson': order,
    '/json-orjson': talk_json,
    '/move-instance': move,
    '/move-dict': move,
}


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


def counted() -> Any:
    """Return the application with a counter."""
    return Litestar([websocket('/chat0/{room:str}', dependencies=PAGED)(paged)], middleware=[Counter, RequireSession])


def typed() -> Any:
    """Return the application with messages of declared types."""
    return Litestar([websocket(url + '/{room:str}')(handler) for url, handler in TYPED.items()])
