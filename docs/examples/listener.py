from apistar import types, validators

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener


class Order(types.Type):
    item = validators.String(max_length=10)
    count = validators.Integer(minimum=1)


class Receipt(types.Type):
    total = validators.Integer()


@websocket_listener('/shops/{shop}/orders')
async def order(message: Order, shop: str) -> Receipt:
    return Receipt(total=len(shop) * message.count)


@websocket_listener('/upper')
async def upper(message: str, ws: WebSocket):
    if message == 'bye':
        await ws.close(reason='bye')
        return
    return message.upper()


app = ASyncApp(collect_routes(order, upper))
