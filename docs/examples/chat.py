"""A chat with rooms: the demo that ``make run`` serves."""

import asyncio
import datetime
import pathlib
from typing import Any, Dict

from apistar import Route, http, types, validators

from apistar_ws import (
    ASyncApp,
    WebSocket,
    WebSocketComponent,
    WebSocketDisconnect,
    collect_routes,
    websocket_route,
)

PAGE = pathlib.Path(__file__).with_name('chat.html')


class Post(types.Type):
    """What a client sends."""

    text = validators.String(min_length=1, max_length=500)


class Message(types.Type):
    """What everybody in the room gets for it."""

    type = validators.String(enum=['message'])
    author = validators.String()
    text = validators.String()
    at = validators.DateTime()


class People(types.Type):
    """Who is in the room, whenever that changes."""

    type = validators.String(enum=['people'])
    names = validators.Array(items=validators.String())


rooms: Dict[str, Dict[WebSocket, str]] = {}


async def tell(room: str, event: Any) -> None:
    """Send ``event`` to everybody in the room; who has left, or does not read, is no trouble to the others."""
    members = list(rooms.get(room, ()))
    for outcome in await asyncio.gather(*[member.send(event) for member in members], return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
            raise outcome


async def tell_people(room: str) -> None:
    await tell(room, {'type': 'people', 'names': sorted(rooms.get(room, {}).values())})


@websocket_route('/rooms/{room}', receives=Post, sends=[Message, People], on_invalid='reply', send_timeout=2)
async def chat(room: str, ws: WebSocket, name: str = 'somebody'):
    rooms.setdefault(room, {})[ws] = name[:40]
    try:
        await tell_people(room)
        async for post in ws:
            now = datetime.datetime.now(datetime.timezone.utc)
            text = post.text.encode('utf-8', 'replace').decode()
            await tell(room, {'type': 'message', 'author': name[:40], 'text': text, 'at': now.isoformat()})
    finally:
        del rooms[room][ws]
        if rooms[room]:
            await tell_people(room)
        else:
            del rooms[room]


def page() -> http.HTMLResponse:
    return http.HTMLResponse(PAGE.read_text(encoding='utf-8'))


app = ASyncApp(
    routes=[Route('/', 'GET', page)] + collect_routes(chat),
    components=[WebSocketComponent(max_message_size=4096, max_messages_per_second=20)],
)
