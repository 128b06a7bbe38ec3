"""Handlers that do what handlers do, for a server that shuts down under them."""

import asyncio

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


@websocket_route('/{what}')
async def crowd(what: str, ws: WebSocket):
    await ws.send('ready')
    try:
        while True:
            if what == 'sleep':
                await asyncio.sleep(3600)
            elif what == 'receive':
                async for _ in ws:
                    """Read on."""
                return
            else:
                await ws.send('tick')
                await asyncio.sleep(0.5)
    finally:
        print('ended', flush=True)


app = ASyncApp(collect_routes(crowd), docs_url=None)
