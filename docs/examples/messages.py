from apistar import types, validators

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


class Join(types.Type):
    type = validators.String(enum=['join'])
    name = validators.String(max_length=40)


class Say(types.Type):
    type = validators.String(enum=['say'])
    text = validators.String(min_length=1, max_length=500)


class Event(types.Type):
    who = validators.String()
    what = validators.String()


@websocket_route('/room', receives=[Join, Say], sends=Event)
async def room(ws: WebSocket):
    name = 'somebody'
    async for message in ws:
        if isinstance(message, Join):
            name = message.name
            await ws.send(Event(who=name, what='joined'))
        else:
            await ws.send({'who': name, 'what': message.text})


@websocket_route('/login')
async def login(ws: WebSocket):
    join = await ws.receive(Join)
    await ws.send(Event(who=join.name, what='logged in'))
    await ws.send_json({'rooms': ['kitchen', 'hall']})


app = ASyncApp(collect_routes(room, login))
