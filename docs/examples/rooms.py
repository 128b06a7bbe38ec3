from apistar import Route, types, validators

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    WebSocket,
    collect_routes,
    websocket_route,
)


class Note(types.Type):
    text = validators.String(max_length=200)


@websocket_route('/rooms/{room}')
async def chat(
    room: str, ws: WebSocket, groups: Groups, name: str = 'somebody', since: str = ''
):
    async with groups.join(
        'room:' + room, ws, since=since, info={'name': name}, position_key='position'
    ) as group:
        async for text in ws:
            await group.send_json({'name': name, 'text': text})


async def announce(room: str, note: Note, groups: Groups) -> dict:
    return {'position': await groups.send('room:' + room, note)}


async def who(room: str, groups: Groups) -> list:
    return [member.info['name'] for member in await groups.members('room:' + room)]


async def last(room: str, groups: Groups) -> list:
    return [message.data for message in await groups.history('room:' + room, limit=10)]


app = ASyncApp(
    routes=[
        Route('/rooms/{room}/notes', 'POST', announce),
        Route('/rooms/{room}/people', 'GET', who),
        Route('/rooms/{room}/last', 'GET', last),
    ]
    + collect_routes(chat),
    components=[
        GroupsComponent(namespaces={'room': {'history': 100, 'history_ttl': 3600}})
    ],
)
