from apistar import Route, exceptions, http
from apistar.server.components import Component

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    WebSocket,
    collect_routes,
    websocket_route,
)


class User(str):
    """Who is logged in."""


class UserComponent(Component):
    def resolve(self, authorization: http.Header) -> User:
        if authorization is None:
            raise exceptions.Forbidden()
        return User(authorization.split()[-1])


@websocket_route('/inbox')
async def inbox(user: User, ws: WebSocket, groups: Groups):
    async with groups.join('user:' + user, ws):
        async for _ in ws:
            """This client only listens."""


def notify(name: str, text: str, groups: Groups) -> dict:
    groups.send_json('user:' + name, {'text': text})
    return {}


app = ASyncApp(
    routes=[Route('/notify/{name}', 'POST', notify)] + collect_routes(inbox),
    components=[GroupsComponent(), UserComponent()],
)
