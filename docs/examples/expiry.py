import time

from apistar import exceptions, http
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

#: The claims of each token. In earnest, a library for JWT reads them from the token,
#: and checks its signature.
tokens = {'Bearer brief': {'sub': 'Ada', 'exp': time.time() + 1}}


class User(str):
    """The name of a user."""


class UserComponent(Component):
    def resolve(self, authorization: http.Header, ws: WebSocket) -> User:
        claims = tokens.get(authorization)
        if claims is None:
            raise exceptions.Forbidden()
        ws.expires_at = claims['exp']
        return User(claims['sub'])


@websocket_route('/inbox')
async def inbox(user: User, ws: WebSocket):
    async for message in ws:
        claims = tokens.get('Bearer ' + message)
        if claims is not None:
            ws.expires_at = claims['exp']
            await ws.send('renewed')


app = ASyncApp(collect_routes(inbox), components=[UserComponent()])
