"""A chat with rooms, for one process or for many: the demo that ``make run`` serves."""

import datetime
import os
import pathlib
import re
from typing import Any, Dict, List

from apistar import Route, exceptions, http, types, validators

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    Member,
    MembersChanged,
    WebSocket,
    WebSocketComponent,
    collect_routes,
    websocket_route,
)

HERE = pathlib.Path(__file__).parent
#: The name of a group is short, and has no control characters.
ROOM = re.compile('[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,40}')


class Post(types.Type):
    """What a client sends."""

    text = validators.String(min_length=1, max_length=500)


class Message(types.Type):
    """What everybody in the room gets for it, with its position."""

    type = validators.String(enum=['message'])
    author = validators.String()
    client = validators.String()
    text = validators.String()
    at = validators.DateTime()


class Person(types.Type):
    """Somebody in the room: ``id`` is the connection, ``client`` the page, which may
    come back with another one."""

    id = validators.String()
    name = validators.String()
    client = validators.String()


class People(types.Type):
    """Who is in the room: first everybody, then who has joined and left."""

    type = validators.String(enum=['people'])
    everybody = validators.Array(items=Person, allow_null=True)
    joined = validators.Array(items=Person)
    left = validators.Array(items=Person)


def people(members: List[Member]) -> List[Dict[str, Any]]:
    return [{'id': member.id, **member.info} for member in members]


@websocket_route(
    '/rooms/{room}',
    receives=Post,
    sends=[Message, People],
    on_invalid='reply',
    send_timeout=2,
)
async def chat(
    room: str,
    ws: WebSocket,
    groups: Groups,
    name: str = 'somebody',
    client: str = '',
    since: str = '',
):
    if not ROOM.fullmatch(room):
        raise exceptions.BadRequest('There is no such room')
    group_name, me = 'room:' + room, {'name': name[:40], 'client': client[:40]}

    async def tell_people(change: MembersChanged) -> None:
        everybody = None if change.members is None else people(change.members)
        joined, left = people(change.joined), people(change.left)
        await ws.send(
            {'type': 'people', 'everybody': everybody, 'joined': joined, 'left': left}
        )

    # Who comes back says where it was; who is new is shown the last messages.
    async with groups.join(
        group_name,
        ws,
        since=since,
        info=me,
        on_change=tell_people,
        last=50,
        position_key='position',
    ) as group:
        async for post in ws:
            text = post.text.encode('utf-8', 'replace').decode()
            now = datetime.datetime.now(datetime.timezone.utc)
            await group.send(
                Message(
                    type='message',
                    author=me['name'],
                    client=me['client'],
                    text=text,
                    at=now,
                )
            )


def file_route(url: str, name: str, content_type: str) -> Route:
    """Return a route that serves a file from beside this one."""

    def serve() -> http.Response:
        return http.Response(
            (HERE / name).read_bytes(),
            headers={'Content-Type': content_type + '; charset=utf-8'},
        )

    return Route(url, 'GET', serve, name=name)


app = ASyncApp(
    routes=[
        file_route('/', 'chat.html', 'text/html'),
        file_route('/reconnecting.js', 'reconnecting.js', 'text/javascript'),
        file_route('/source', 'chat.py', 'text/plain'),
        *collect_routes(chat),
    ],
    components=[
        WebSocketComponent(max_message_size=4096, max_messages_per_second=20),
        # With a Redis, any number of processes and machines share the rooms.
        GroupsComponent(os.environ.get('REDIS') or None, history=200, history_ttl=3600),
    ],
    # For a demo, where everybody may ask why a handshake was denied.
    websocket_docs_explain=True,
)
