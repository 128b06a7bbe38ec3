import asyncio

from apistar_ws import ASyncApp, WebSocket, WebSocketDisconnect, collect_routes, websocket_route

members = set()


async def tell_all(message: str):
    sends = [member.send(message) for member in members]
    for outcome in await asyncio.gather(*sends, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
            raise outcome


@websocket_route('/crowd', send_timeout=2)
async def crowd(ws: WebSocket):
    members.add(ws)
    try:
        async for message in ws:
            await tell_all(message)
    finally:
        members.discard(ws)


app = ASyncApp(collect_routes(crowd))
