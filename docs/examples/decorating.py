from apistar import exceptions

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


@websocket_route('/clock', name='clock', idle_timeout=60, max_message_size=1024)
async def tell_time(ws: WebSocket):
    await ws.send('12:00')


@websocket_route('/rooms/{room}')
@websocket_route('/channels/{room}', name='channel')
async def chat(room: str, ws: WebSocket):
    async for message in ws:
        await ws.send('%s: %s' % (room, message))


@websocket_route('/table', connect=False)
async def table(ws: WebSocket):
    if 'csv' not in ws.subprotocols:
        raise exceptions.BadRequest('Speak csv')
    await ws.connect(subprotocol='csv', headers={'X-Columns': 'name,age'})
    await ws.send('Ada,36')


class Counter:
    def __init__(self):
        self.count = 0

    @websocket_route('/count')
    async def tell_count(self, ws: WebSocket):
        self.count += 1
        await ws.send(str(self.count))


app = ASyncApp(collect_routes(tell_time, chat, table, Counter()))
