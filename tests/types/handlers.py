"""What a type checker knows of an application; checked by ``make lint``, and never run."""

from typing import Any, AsyncIterator, Awaitable, Callable, assert_type

from apistar import types

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    Member,
    MembersChanged,
    MessagesLost,
    WebSocket,
    WebSocketComponent,
    collect_routes,
    websocket_listener,
    websocket_route,
    websocket_stream,
)
from apistar_ws.testing import TestClient


class Order(types.Type):  # type: ignore[misc]
    """A message."""


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket) -> None:
    """A handler, which stays what it was."""
    assert_type(await ws.receive(Order), Order)
    assert_type(await ws.receive_text(), str)
    assert_type(await ws.receive_bytes(), bytes)
    assert_type(ws.expires_at, float | None)
    async for message in ws:
        assert_type(message, Any)
    await ws.accept()  # type: ignore[attr-defined]


@websocket_listener('/orders', per_message=['session'])
async def order(message: Order, session: object) -> str:
    """A listener."""
    return 'ordered'


@websocket_stream('/ticks')
async def ticks(start: int) -> AsyncIterator[str]:
    """A stream."""
    yield str(start)


class Rooms:
    """An object with a decorated method."""

    @websocket_route('/rooms/{room}')
    async def join(self, room: str, ws: WebSocket) -> None:
        """A method."""


async def use(ws: WebSocket) -> None:
    """Call them as a test does."""
    await chat('a', ws)
    await chat('a', 5)  # type: ignore[arg-type]
    assert_type(await order(Order(), object()), str)
    assert_type(ticks(5), AsyncIterator[str])
    await Rooms().join('a', ws)


@websocket_route('/limited', idle_timeout=60, max_connections=None, subprotocols=['v1'], on_invalid='reply')
async def limited(ws: WebSocket, groups: Groups) -> dict[str, int]:
    """Settings are keywords; so is what a group can do."""

    async def tell(change: MembersChanged) -> None:
        assert_type(change.joined, list[Member])

    async def note(lost: MessagesLost) -> None:
        assert_type(lost.position, str | None)

    async with groups.join('a', ws, since='', info={'name': 'ann'}, on_change=tell, on_lost=note) as group:
        assert_type(await group.send('text'), str | None)
        assert_type(await groups.members('a'), list[Member])
        return {'count': await group.count()}


async def outside() -> None:
    """A script."""
    async with Groups.connect('redis://localhost', history=10, namespaces={'room': {'overflow': 'close'}}) as groups:
        await groups.send_json('a', {})
    Groups.connect('redis://localhost', histroy=10)  # type: ignore[call-arg]


websocket_route('/a', idletimeout=3)  # type: ignore[call-arg]
websocket_route('/a', idle_timeout='3')  # type: ignore[arg-type]
websocket_route('/a', on_invalid='answer')  # type: ignore[arg-type]
websocket_listener('/a', idletimeout=3)  # type: ignore[call-arg]
websocket_stream('/a', idletimeout=3)  # type: ignore[call-arg]
WebSocketComponent(idletimeout=3)  # type: ignore[call-arg]
GroupsComponent(histroy=10)  # type: ignore[call-arg]
GroupsComponent(namespaces={'room': {'histroy': 10}})  # type: ignore[typeddict-unknown-key]

with TestClient(ASyncApp([])).websocket_connect('/a') as connection:
    assert_type(connection.receive(), str | bytes)

handler: Callable[[str, WebSocket], Awaitable[None]] = chat
app = ASyncApp(collect_routes(chat, order, ticks, Rooms()))
