from apistar import exceptions

from apistar_ws import (
    ASyncApp,
    CloseCode,
    WebSocket,
    WebSocketDisconnect,
    collect_routes,
    websocket_route,
)

ends = []


@websocket_route('/greet')
async def greet(ws: WebSocket):
    name = await ws.receive_text()
    if name == 'nobody':
        raise exceptions.NotFound('No such person')
    if name == 'enough':
        await ws.close(CloseCode.GOING_AWAY, 'The kitchen is closed')
        return
    await ws.send('hello, %s' % name)


@websocket_route('/add')
async def add(ws: WebSocket):
    total = 0
    async for number in ws:
        total += int(number)
    ends.append((total, ws.close_code, ws.close_reason, ws.state.value))


@websocket_route('/ask')
async def ask(ws: WebSocket):
    try:
        await ws.send('Are you there?')
        await ws.receive()
    except WebSocketDisconnect as exc:
        ends.append((exc.code, exc.reason))
        raise


app = ASyncApp(collect_routes(greet, add, ask))
