"""Rooms on an engine that the environment names, for workers in processes of their own."""

import os

from apistar import Route

from apistar_ws import ASyncApp, Groups, GroupsComponent, WebSocket, collect_routes, websocket_route


@websocket_route('/rooms/{room}')
async def rooms(room: str, ws: WebSocket, groups: Groups, since: str = None, name: str = None):
    async with groups.join('room:' + room, ws, since=since, info=name, position_key='at') as group:
        async for text in ws:
            await group.send_json({'text': text})


async def who(room: str, groups: Groups) -> list:
    return [member.info for member in await groups.members('room:' + room)]


def pid() -> int:
    return os.getpid()


app = ASyncApp(
    [Route('/who/{room}', 'GET', who), Route('/pid', 'GET', pid)] + collect_routes(rooms),
    components=[
        GroupsComponent(
            os.environ.get('REDIS'),
            prefix=os.environ.get('PREFIX', 'rooms'),
            history=1000,
            lease=float(os.environ.get('LEASE', '10')),
        )
    ],
    docs_url=None,
)
