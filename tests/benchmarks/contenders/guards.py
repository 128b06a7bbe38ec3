"""The guards and the counter as plain ASGI middlewares, for the contenders whose idiom that is."""

import asyncio
from typing import Any

from tests.benchmarks.contenders import HOSTS

HOST_BYTES = tuple(host.encode() for host in HOSTS)


class RefuseBots:
    """Refuses clients that call themselves a bot."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what is no bot."""
        if scope['type'] == 'websocket' and b'bot' in dict(scope['headers']).get(b'user-agent', b''):
            return await send({'type': 'websocket.close', 'code': 1008})
        await self.app(scope, receive, send)


class RequireHost:
    """Refuses hosts that are not ours."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what is for one of our hosts."""
        if scope['type'] == 'websocket' and dict(scope['headers']).get(b'host') not in HOST_BYTES:
            return await send({'type': 'websocket.close', 'code': 1008})
        await self.app(scope, receive, send)


class RequireSession:
    """Refuses clients without a session, which it may have to wait for."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on what has a session."""
        if scope['type'] == 'websocket':
            await asyncio.sleep(0)
            if b'session=' not in dict(scope['headers']).get(b'cookie', b''):
                return await send({'type': 'websocket.close', 'code': 1008})
        await self.app(scope, receive, send)


class Counter:
    """Counts the connections that are open."""

    open = 0

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Count one more until it is over."""
        if scope['type'] != 'websocket':
            return await self.app(scope, receive, send)
        Counter.open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            Counter.open -= 1
