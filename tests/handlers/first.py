from apistar_ws import WebSocket, websocket_route


@websocket_route('/second')
async def second(ws: WebSocket):
    """Come first."""


@websocket_route('/first')
async def first(ws: WebSocket):
    await ws.send('first')


also_first = first
number = 5
