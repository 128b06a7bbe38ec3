"""apistar-ws, every default switched on."""

import asyncio
from typing import Any, Dict, NamedTuple

import orjson
from apistar import http
from apistar.exceptions import Forbidden
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from tests.benchmarks.contenders import HOSTS, SLEEP, visited
from tests.benchmarks.contenders.apistar_types import Move, Moved, Order, Receipt, Say
from tests.benchmarks.contenders.guards import Counter

VERSION_OF = 'apistar-ws'
MISSING: Dict[str, str] = {}


def route(index: int) -> Any:
    """Return the handler of one route of many."""

    @websocket_route('/chat%d/{room}' % index, name='chat%d' % index)
    async def echo(room: str, ws: WebSocket) -> None:
        visited.append(room)
        await ws.send(await ws.receive())

    return echo


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket) -> None:
    """Echo one text."""
    visited.append(room)
    await ws.send(await ws.receive())


@websocket_route('/talk/{room}')
async def talk(room: str, ws: WebSocket) -> None:
    """Echo texts until the client leaves."""
    visited.append(room)
    while True:
        await ws.send(await ws.receive())


@websocket_route('/each/{room}')
async def each(room: str, ws: WebSocket) -> None:
    """Echo each text."""
    visited.append(room)
    async for message in ws:
        await ws.send(message)


@websocket_route('/sleep/{room}')
async def sleep(room: str, ws: WebSocket) -> None:
    """Sleep, whatever the client does."""
    visited.append(room)
    await asyncio.sleep(SLEEP)


@websocket_route('/limited/{room}', idle_timeout=3600, send_timeout=20)
async def limited(room: str, ws: WebSocket) -> None:
    """Echo texts until the client leaves, or does nothing for too long."""
    visited.append(room)
    while True:
        await ws.send(await ws.receive())


@websocket_route('/json/{room}')
async def talk_json(room: str, ws: WebSocket) -> None:
    """Echo JSON until the client leaves."""
    visited.append(room)
    while True:
        await ws.send_json(await ws.receive_json())


class User(str):
    """The name of a user."""


class Locale(str):
    """A language, with its country."""


class Limit(int):
    """How many messages a client wants to see."""


class UserComponent(Component):
    """Supplies the user."""

    def resolve(self, x_forwarded_user: http.Header) -> User:
        """Take the user from the header that the proxy sets."""
        return User(x_forwarded_user)


class LocaleComponent(Component):
    """Supplies the locale."""

    def resolve(self, accept_language: http.Header) -> Locale:
        """Take the preferred language."""
        return Locale(accept_language.split(',')[0])


class LimitComponent(Component):
    """Supplies the limit."""

    def resolve(self, limit: http.QueryParam) -> Limit:
        """Take the limit from the query string."""
        return Limit(limit)


class RefuseBots:
    """Refuses clients that call themselves a bot."""

    def on_request(self, user_agent: http.Header) -> None:
        """Pass on what is no bot."""
        if 'bot' in user_agent:
            raise Forbidden()


class RequireHost:
    """Refuses hosts that are not ours."""

    def on_request(self, host: http.Header) -> None:
        """Pass on what is for one of our hosts."""
        if host not in HOSTS:
            raise Forbidden()


@websocket_route('/chat0/{room}')
async def derived(room: str, ws: WebSocket, user: User, locale: Locale, limit: Limit) -> None:
    """Echo one text, for a known user."""
    visited.append((room, user, locale, limit))
    await ws.send(await ws.receive())


class Session(str):
    """The session of a client."""


class Account(str):
    """Whose session it is."""


class Page(NamedTuple):
    """Which part of a list a client wants to see."""

    offset: int
    limit: int


class SessionComponent(Component):
    """Supplies the session."""

    def resolve(self, cookie: http.Header) -> Session:
        """Take it from its cookie."""
        return Session(cookie.partition('session=')[2])


class AccountComponent(Component):
    """Supplies the account."""

    def resolve(self, session: Session) -> Account:
        """Return the account of a session."""
        return Account('account of %s' % session)


class PageComponent(Component):
    """Supplies the page."""

    def resolve(self, params: http.QueryParams) -> Page:
        """Take the numbers from the query string."""
        return Page(int(params['offset']), int(params.get('limit', 50)))


class RequireSession:
    """Refuses clients without a session, which it may have to wait for."""

    async def on_request(self, cookie: http.Header) -> None:
        """Pass on what has a session."""
        await asyncio.sleep(0)
        if 'session=' not in cookie:
            raise Forbidden()


class Counting:
    """Counts the connections that are open."""

    def on_request(self) -> None:
        """Count one more."""
        Counter.open += 1

    def on_response(self) -> None:
        """Count one less."""
        Counter.open -= 1

    def on_error(self) -> None:
        """Count one less."""
        Counter.open -= 1


@websocket_route('/chat0/{room}')
async def paged(room: str, ws: WebSocket, session: Session, account: Account, page: Page) -> None:
    """Echo one text, for the account of a session."""
    visited.append((room, session, account, *page))
    await ws.send(await ws.receive())


@websocket_route('/order-instance/{room}', receives=Order, sends=Receipt)
@websocket_route('/order-instance-orjson/{room}', name='instance_orjson', receives=Order, sends=Receipt, json=orjson)
async def give_instance(room: str, ws: WebSocket) -> None:
    """Answer orders with an instance."""
    visited.append(room)
    async for order in ws:
        total = order.price * order.quantity
        await ws.send(Receipt(number=order.number, status='accepted', total=total))


@websocket_route('/order-dict/{room}', receives=Order, sends=Receipt)
@websocket_route('/order-dict-orjson/{room}', name='dict_orjson', receives=Order, sends=Receipt, json=orjson)
async def give_dict(room: str, ws: WebSocket) -> None:
    """Answer orders with a dict."""
    visited.append(room)
    async for order in ws:
        total = order.price * order.quantity
        await ws.send({'number': order.number, 'status': 'accepted', 'total': total})


@websocket_route('/move-instance/{room}', receives=[Move, Say], sends=Moved)
async def move_instance(room: str, ws: WebSocket) -> None:
    """Answer moves with an instance."""
    visited.append(room)
    async for move in ws:
        if isinstance(move, Move):
            score = float(len(move.path))
            await ws.send(
                Moved(type='moved', player=move.player, at=move.at, path=move.path, score=score, is_last=move.is_last)
            )


@websocket_route('/move-dict/{room}', receives=[Move, Say], sends=Moved)
async def move_dict(room: str, ws: WebSocket) -> None:
    """Answer moves with a dict."""
    visited.append(room)
    async for move in ws:
        if isinstance(move, Move):
            await ws.send(
                {
                    'type': 'moved',
                    'player': move.player,
                    'at': move.at,
                    'path': move.path,
                    'score': float(len(move.path)),
                    'is_last': move.is_last,
                }
            )


@websocket_route('/json-orjson/{room}', json=orjson)
async def talk_orjson(room: str, ws: WebSocket) -> None:
    """Echo JSON until the client leaves, by a faster codec."""
    visited.append(room)
    while True:
        await ws.send_json(await ws.receive_json())


def build(count: int) -> Any:
    """Return the application with ``count`` routes."""
    return ASyncApp(collect_routes([route(index) for index in range(count)]))


def conversations() -> Any:
    """Return the application whose connections stay."""
    return ASyncApp(collect_routes(chat, talk, each, talk_json, sleep, limited))


def guarded() -> Any:
    """Return the application with guards and derived values."""
    components = [UserComponent(), LocaleComponent(), LimitComponent()]
    return ASyncApp(collect_routes(derived), components=components, event_hooks=[RefuseBots, RequireHost])


def counted() -> Any:
    """Return the application with a counter."""
    components = [SessionComponent(), AccountComponent(), PageComponent()]
    return ASyncApp(collect_routes(paged), components=components, event_hooks=[Counting, RequireSession])


def typed() -> Any:
    """Return the application with messages of declared types."""
    return ASyncApp(collect_routes(give_instance, give_dict, move_instance, move_dict, talk_orjson))
