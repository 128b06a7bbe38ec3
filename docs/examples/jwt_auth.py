import os

import jwt
from apistar import exceptions
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

#: 32 bytes or more, from the environment.
KEY = os.environ.get('JWT_KEY', 'for-this-example-and-nothing-else')


class User(str):
    """The name of a user."""


class UserComponent(Component):
    def resolve(self, ws: WebSocket) -> User:
        tokens = [name[6:] for name in ws.subprotocols if name.startswith('token.')]
        if not tokens:
            raise exceptions.Forbidden('A token is missing')
        try:
            claims = jwt.decode(
                tokens[0],
                KEY,
                algorithms=['HS256'],
                options={'require': ['exp', 'sub']},
            )
        except jwt.InvalidTokenError:
            raise exceptions.Forbidden('The token is not valid') from None
        ws.expires_at = claims['exp']
        return User(claims['sub'])


@websocket_route('/inbox', subprotocols=['chat'])
async def inbox(user: User, ws: WebSocket) -> None:
    await ws.send('hello, %s' % user)
    async for message in ws:
        await ws.send(message)


app = ASyncApp(collect_routes(inbox), components=[UserComponent()])
