from apistar import exceptions, http

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

failures = []


class Guard:
    def on_request(self, request: http.Request):
        if request.headers.get('authorization') != 'Bearer letmein':
            raise exceptions.Forbidden()


class Header:
    def on_response(self, response: http.Response):
        response.headers['X-Served-By'] = 'kitchen'


class Reporter:
    def on_error(self, exc: Exception, ws: WebSocket):
        failures.append((repr(exc), ws.close_code))


@websocket_route('/hello')
async def hello(ws: WebSocket):
    await ws.send('hello')


@websocket_route('/broken')
async def broken(ws: WebSocket):
    raise RuntimeError('out of eggs')


app = ASyncApp(collect_routes(hello, broken), event_hooks=[Guard, Header, Reporter])
