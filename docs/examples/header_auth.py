import hmac

from apistar import exceptions, http

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

TOKEN = 'read-it-from-the-environment'


class Unauthorized(exceptions.HTTPException):
    default_status_code = 401
    default_detail = 'Unauthorized'

    def get_headers(self):
        return {'WWW-Authenticate': 'Bearer'}


class RequireToken:
    def on_request(self, headers: http.Headers):
        given = headers.get('authorization', '')
        if not hmac.compare_digest(given.encode(), ('Bearer %s' % TOKEN).encode()):
            raise Unauthorized()


@websocket_route('/feed')
async def feed(ws: WebSocket):
    await ws.send('news')


app = ASyncApp(collect_routes(feed), event_hooks=[RequireToken])
