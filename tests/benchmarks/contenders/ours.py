"""apistar-ws, every default switched on."""

import asyncio
from typing import Any, Dict

from apistar import http
from apistar.exceptions import Forbidden
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from tests.benchmarks.contenders import HOSTS, SLEEP, visited

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
