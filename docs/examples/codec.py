import orjson

from apistar_ws import (
    ASyncApp,
    WebSocket,
    WebSocketComponent,
    collect_routes,
    websocket_route,
)


@websocket_route('/double')
async def double(ws: WebSocket):
    numbers = await ws.receive_json()
    await ws.send_json([2 * number for number in numbers])


app = ASyncApp(collect_routes(double), components=[WebSocketComponent(json=orjson)])
