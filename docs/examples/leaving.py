import asyncio

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

events = []


@websocket_route('/ticks')
async def ticks(ws: WebSocket):
    try:
        await ws.send('begun')
        await asyncio.sleep(3600)
    finally:
        events.append('cleaned up')


@websocket_route('/orders', cancel_on_disconnect=False)
async def orders(ws: WebSocket):
    await ws.send('cooking')
    await cook(ws)
    async for message in ws:
        events.append(message)
    events.append('served')


async def cook(ws: WebSocket):
    while not ws.disconnected:
        await asyncio.sleep(0.01)


app = ASyncApp(collect_routes(ticks, orders))
