from typing import AsyncIterator, Iterator

from apistar import Route, exceptions
from apistar.server.components import Component

from apistar_ws import (
    ASyncApp,
    WebSocket,
    collect_routes,
    websocket_listener,
    websocket_route,
)

events = []


class Pool:
    """Connections to a database."""


class PoolHook:
    pool = None

    async def on_startup(self):
        PoolHook.pool = Pool()
        events.append('pool opened')

    async def on_shutdown(self):
        events.append('pool closed')


class Session:
    """One transaction."""


class SessionComponent(Component):
    def resolve(self) -> Iterator[Session]:
        session = Session()
        try:
            yield session
        except BaseException:
            events.append('rolled back')
            raise
        else:
            events.append('committed')


class Subscription:
    """News for one client."""


class SubscriptionComponent(Component):
    async def resolve(self) -> AsyncIterator[Subscription]:
        events.append('subscribed')
        yield Subscription()
        events.append('unsubscribed')


@websocket_route('/news')
async def news(subscription: Subscription, ws: WebSocket):
    await ws.send('the news')


@websocket_listener('/orders', per_message=['session'])
async def order(message: str, session: Session):
    if message == 'coal':
        raise exceptions.NotFound('We have no coal')
    return {'ordered': message}


def show_orders(session: Session) -> list:
    return []


routes = [Route('/orders', 'GET', show_orders)] + collect_routes(news, order)
app = ASyncApp(
    routes,
    components=[SessionComponent(), SubscriptionComponent()],
    event_hooks=[PoolHook],
)
