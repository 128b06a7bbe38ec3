import secrets

from apistar import Component, Route, exceptions, http
from werkzeug.sansio.http import parse_cookie

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

sessions = {}


class User:
    def __init__(self, name: str):
        self.name = name


class UserComponent(Component):
    def resolve(self, headers: http.Headers) -> User:
        session = parse_cookie(headers.get('cookie', '')).get('session')
        if session not in sessions:
            raise exceptions.Forbidden('Log in first')
        return User(sessions[session])


def login() -> http.JSONResponse:
    session = secrets.token_urlsafe()
    sessions[session] = 'Ada'  # Check a password first.
    cookie = 'session=%s; Path=/; Secure; HttpOnly; SameSite=Lax' % session
    return http.JSONResponse('Welcome', headers={'Set-Cookie': cookie})


@websocket_route('/inbox')
async def inbox(user: User, ws: WebSocket):
    await ws.send('hello, %s' % user.name)


app = ASyncApp(
    [Route('/login', 'POST', login)] + collect_routes(inbox),
    components=[UserComponent()],
)
