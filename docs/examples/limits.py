from apistar_ws import (
    ASyncApp,
    WebSocket,
    WebSocketComponent,
    collect_routes,
    websocket_route,
)


@websocket_route('/chat')
async def chat(ws: WebSocket):
    async for message in ws:
        await ws.send(message)


@websocket_route(
    '/upload',
    max_message_size=8 * 1024 * 1024,
    max_messages_per_second=None,
    max_connections=1,
)
async def upload(ws: WebSocket):
    await ws.send(str(len(await ws.receive_bytes())))


app = ASyncApp(
    collect_routes(chat, upload),
    components=[
        WebSocketComponent(
            max_message_size=4096, max_messages_per_second=20, idle_timeout=300
        )
    ],
)
