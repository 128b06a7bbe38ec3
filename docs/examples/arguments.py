from typing import Optional

from apistar import Component, exceptions, http

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


class Reader:
    def __init__(self, name: str):
        self.name = name


class ReaderComponent(Component):
    def resolve(self, name: http.QueryParam) -> Reader:
        if name is None:
            raise exceptions.BadRequest('Who are you?')
        return Reader(str(name))


@websocket_route('/books/{book}/pages/{number}')
async def page(
    book: str, number: int, ws: WebSocket, size: int = 10, mark: Optional[str] = None
):
    await ws.send_json({'book': book, 'number': number, 'size': size, 'mark': mark})


@websocket_route('/files/{+path}')
async def file(path: str, ws: WebSocket, user_agent: http.Header):
    await ws.send_json({'path': path, 'user_agent': user_agent})


@websocket_route('/shelf')
async def shelf(reader: Reader, ws: WebSocket):
    await ws.send(reader.name)


app = ASyncApp(collect_routes(page, file, shelf), components=[ReaderComponent()])
