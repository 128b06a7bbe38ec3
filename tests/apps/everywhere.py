"""The application of the server matrix."""

from apistar import Route, http

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


def page(path: http.Path) -> str:
    return 'page at %s' % path


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket):
    async for message in ws:
        if message == 'leave':
            return
        await ws.send('%s: %s' % (room, message) if isinstance(message, str) else message)


@websocket_route('/fails')
async def fails(ws: WebSocket):
    raise RuntimeError('password=hunter2')


@websocket_route('/where')
async def where(path: http.Path, ws: WebSocket):
    await ws.send('%s, %s' % (path, ws.url.components.path))


app = ASyncApp([Route('/', 'GET', page)] + collect_routes(chat, fails, where))
