from apistar import types, validators

from apistar_ws import (
    ASyncApp,
    InvalidMessage,
    WebSocket,
    collect_routes,
    websocket_route,
)


class Order(types.Type):
    item = validators.String(max_length=10)
    count = validators.Integer(minimum=1)


async def take(ws: WebSocket):
    async for order in ws:
        await ws.send('%d x %s' % (order.count, order.item))


@websocket_route('/close', receives=Order)
async def closing(ws: WebSocket):
    await take(ws)


@websocket_route('/reply', receives=Order, on_invalid='reply')
async def replying(ws: WebSocket):
    await take(ws)


async def count_mistakes(ws: WebSocket, exc: InvalidMessage):
    ws.mistakes = getattr(ws, 'mistakes', 0) + 1
    if ws.mistakes == 3:
        raise exc
    await ws.send_json({'mistake': ws.mistakes, 'detail': exc.detail})


@websocket_route('/function', receives=Order, on_invalid=count_mistakes)
async def counting(ws: WebSocket):
    await take(ws)


app = ASyncApp(collect_routes(closing, replying, counting))
