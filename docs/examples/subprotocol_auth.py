from apistar import Component, exceptions

from apistar_ws import (
    ASyncApp,
    WebSocket,
    WebSocketComponent,
    collect_routes,
    websocket_route,
)

users = {'c2VjcmV0': 'Ada'}


class User:
    def __init__(self, name: str):
        self.name = name


class UserComponent(Component):
    def resolve(self, ws: WebSocket) -> User:
        for subprotocol in ws.subprotocols:
            if subprotocol.startswith('token.') and subprotocol[6:] in users:
                return User(users[subprotocol[6:]])
        raise exceptions.Forbidden('A token is missing')


@websocket_route('/inbox', subprotocols=['chat'])
async def inbox(user: User, ws: WebSocket):
    await ws.send('hello, %s' % user.name)


app = ASyncApp(
    collect_routes(inbox), components=[WebSocketComponent(), UserComponent()]
)
