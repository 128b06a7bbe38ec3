"""Handlers that do not end when they should, for a server that shuts down under them."""

import asyncio
import contextlib

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


async def linger(what: str) -> None:
    """Go on for longer than any server waits."""
    print('lingers', flush=True)
    try:
        await asyncio.sleep(3600)
    finally:
        print('ended', flush=True)


@websocket_route('/told')
async def told(ws: WebSocket):
    async for _ in ws:
        """Read on."""
    await linger('told')


@websocket_route('/closed')
async def closed(ws: WebSocket):
    await ws.close()
    await linger('closed')


@websocket_route('/opted-out', cancel_on_disconnect=False)
async def opted_out(ws: WebSocket):
    await linger('opted out')


@websocket_route('/swallows')
async def swallows(ws: WebSocket):
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)
    await linger('swallows')


@websocket_route('/backlog')
async def backlog(ws: WebSocket):
    await linger('backlog')


app = ASyncApp(collect_routes(told, closed, opted_out, swallows, backlog), docs_url=None)
