"""A bare ASGI callable: the least that does the work."""

import asyncio
import json
from typing import Any, Awaitable, Callable, Dict
from urllib.parse import parse_qs

import orjson

from tests.benchmarks.contenders import NO_LIMITS, NO_TYPES, SLEEP, TYPED, visited
from tests.benchmarks.contenders.guards import HOST_BYTES, Counter

VERSION_OF = None
MISSING: Dict[str, str] = {'limited': NO_LIMITS, **dict.fromkeys(TYPED, NO_TYPES)}
Handler = Callable[[str, Any, Any], Awaitable[None]]


def application(handlers: Dict[str, Handler]) -> Any:
    """Return an application that looks up its handler by all of the path but the last segment."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] != 'websocket':
            raise RuntimeError('Only WebSockets are served here.')
        url, _, room = scope['path'].rpartition('/')
        await handlers[url](room, receive, send)

    return app


async def echo(visit: Any, receive: Any, send: Any) -> None:
    """Echo one text, to whoever has that room, or more, to show."""
    visited.append(visit)
    await receive()
    await send({'type': 'websocket.accept'})
    message = await receive()
    await send({'type': 'websocket.send', 'text': message['text']})
    await send({'type': 'websocket.close'})


async def talk(room: str, receive: Any, send: Any) -> None:
    """Echo texts until the client leaves."""
    visited.append(room)
    await receive()
    await send({'type': 'websocket.accept'})
    while True:
        message = await receive()
        if message['type'] == 'websocket.disconnect':
            return
        await send({'type': 'websocket.send', 'text': message['text']})


async def sleep(room: str, receive: Any, send: Any) -> None:
    """Sleep, whatever the client does."""
    visited.append(room)
    await receive()
    await send({'type': 'websocket.accept'})
    await asyncio.sleep(SLEEP)


async def talk_json(room: str, receive: Any, send: Any) -> None:
    """Echo JSON until the client leaves."""
    visited.append(room)
    await receive()
    await send({'type': 'websocket.accept'})
    while True:
        message = await receive()
        if message['type'] == 'websocket.disconnect':
            return
        await send({'type': 'websocket.send', 'text': json.dumps(json.loads(message['text']))})


async def talk_orjson(room: str, receive: Any, send: Any) -> None:
    """Echo JSON until the client leaves, by a faster codec."""
    visited.append(room)
    await receive()
    await send({'type': 'websocket.accept'})
    while True:
        message = await receive()
        if message['type'] == 'websocket.disconnect':
            return
        await send({'type': 'websocket.send', 'text': orjson.dumps(orjson.loads(message['text'])).decode()})


def build(count: int) -> Any:
    """Return the application with ``count`` routes."""
    return application({'/chat%d' % index: echo for index in range(count)})


def conversations() -> Any:
    """Return the application whose connections stay."""
    return application({'/chat': echo, '/talk': talk, '/each': talk, '/json': talk_json, '/sleep': sleep})


def guarded() -> Any:
    """Return the application with guards and derived values, all in one function."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] != 'websocket':
            raise RuntimeError('Only WebSockets are served here.')
        headers = dict(scope['headers'])
        if b'bot' in headers.get(b'user-agent', b'') or headers.get(b'host') not in HOST_BYTES:
            return await send({'type': 'websocket.close', 'code': 1008})
        room = scope['path'].rpartition('/')[2]
        user = headers[b'x-forwarded-user'].decode()
        locale = headers[b'accept-language'].decode().split(',')[0]
        limit = int(parse_qs(scope['query_string'].decode())['limit'][0])
        await echo((room, user, locale, limit), receive, send)

    return app


def counted() -> Any:
    """Return the application with a counter, all in one function."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] != 'websocket':
            raise RuntimeError('Only WebSockets are served here.')
        Counter.open += 1
        try:
            await asyncio.sleep(0)
            cookie = dict(scope['headers']).get(b'cookie', b'').decode()
            if 'session=' not in cookie:
                return await send({'type': 'websocket.close', 'code': 1008})
            session = cookie.partition('session=')[2]
            query = parse_qs(scope['query_string'].decode())
            page = int(query['offset'][0]), int(query.get('limit', ['50'])[0])
            room = scope['path'].rpartition('/')[2]
            await echo((room, session, 'account of %s' % session, *page), receive, send)
        finally:
            Counter.open -= 1

    return app


def typed() -> Any:
    """Return the application with JSON by a faster codec; types are not its business."""
    return application({'/json-orjson': talk_orjson})
