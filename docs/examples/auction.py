"""An auction: a guard, typed messages, a group for each item, and who is there."""

from typing import Dict, List, Union

from apistar import Route, exceptions, http, types, validators
from apistar.server.components import Component
from werkzeug.sansio.http import parse_cookie

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    MembersChanged,
    WebSocket,
    collect_routes,
    websocket_route,
)


class Bid(types.Type):
    type = validators.String(enum=['bid'])
    amount = validators.Integer(minimum=1)


class Say(types.Type):
    type = validators.String(enum=['say'])
    text = validators.String(min_length=1, max_length=200)


class Raised(types.Type):
    """Somebody has bid more."""

    type = validators.String(enum=['raised'], default='raised')
    by = validators.String()
    amount = validators.Integer()


class Said(types.Type):
    type = validators.String(enum=['said'], default='said')
    by = validators.String()
    text = validators.String()


class TooLow(types.Type):
    """For the bidder alone."""

    type = validators.String(enum=['too low'], default='too low')
    highest = validators.Integer()


class People(types.Type):
    type = validators.String(enum=['people'], default='people')
    names = validators.Array(items=validators.String())


class Closed(types.Type):
    type = validators.String(enum=['closed'], default='closed')
    highest = validators.Integer()


class Unauthorized(exceptions.HTTPException):
    default_status_code = 401
    default_detail = 'Log in first'


class User(str):
    """Who is logged in."""


class UserComponent(Component):
    """The guard: whoever asks for a ``User`` is not run without one."""

    sessions = {'1f0c': 'Ann', '9b3e': 'Bob'}

    def resolve(self, headers: http.Headers) -> User:
        session = parse_cookie(headers.get('cookie', '')).get('session', '')
        if session not in self.sessions:
            raise Unauthorized()
        return User(self.sessions[session])


class Prices(Dict[str, int]):
    """The highest bid of each item. Several workers need a database in its place."""


class PricesComponent(Component):
    def __init__(self) -> None:
        self.prices = Prices(teapot=5)

    def resolve(self) -> Prices:
        return self.prices


@websocket_route('/auctions/{item}', receives=[Bid, Say], sends=[TooLow, People])
async def auction(
    item: str,
    ws: WebSocket,
    user: User,
    prices: Prices,
    groups: Groups,
    since: str = '',
) -> None:
    if item not in prices:
        raise exceptions.NotFound('There is no such auction')

    async def show(change: MembersChanged) -> None:
        members = await groups.members('auction:' + item)
        await ws.send(People(names=sorted({member.info for member in members})))

    async with groups.join(
        'auction:' + item,
        ws,
        since=since,
        info=user,
        last=20,
        position_key='position',
        on_change=show,
    ) as group:
        message: Union[Bid, Say]
        async for message in ws:
            if isinstance(message, Say):
                await group.send(Said(by=user, text=message.text))
            elif message.amount <= prices[item]:
                await ws.send(TooLow(highest=prices[item]))
            else:
                prices[item] = message.amount
                await group.send(Raised(by=user, amount=message.amount))


async def close(item: str, prices: Prices, groups: Groups) -> Dict[str, int]:
    if item not in prices:
        raise exceptions.NotFound('There is no such auction')
    highest = prices.pop(item)
    await groups.send('auction:' + item, Closed(highest=highest))
    return {'highest': highest}


async def who(item: str, groups: Groups) -> List[str]:
    return [member.info for member in await groups.members('auction:' + item)]


def make_app() -> ASyncApp:
    return ASyncApp(
        routes=[
            Route('/auctions/{item}/close', 'POST', close),
            Route('/auctions/{item}/people', 'GET', who),
            *collect_routes(auction),
        ],
        components=[
            UserComponent(),
            PricesComponent(),
            GroupsComponent(namespaces={'auction': {'history': 100}}),
        ],
    )


app = make_app()
