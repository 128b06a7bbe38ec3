import json

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    MembersChanged,
    WebSocket,
    collect_routes,
    websocket_route,
)


@websocket_route('/prices')
async def prices(ws: WebSocket, groups: Groups, above: int = 0):
    async def pass_on(message):
        if json.loads(message)['price'] > above:
            await ws.send(message)

    async with groups.join('prices', pass_on):
        async for text in ws:
            await groups.send_json('prices', {'price': int(text)})


@websocket_route('/rooms/{room}/people')
async def people(room: str, ws: WebSocket, groups: Groups, name: str = 'somebody'):
    async def tell(change: MembersChanged):
        if change.members is not None:
            await ws.send_json(
                {'here': sorted(member.info for member in change.members)}
            )
        else:
            joined, left = (
                [member.info for member in members]
                for members in (change.joined, change.left)
            )
            await ws.send_json({'joined': joined, 'left': left})

    async with groups.join('room:' + room, ws, info=name, on_change=tell):
        async for _ in ws:
            """This client only listens."""


app = ASyncApp(collect_routes(prices, people), components=[GroupsComponent()])
