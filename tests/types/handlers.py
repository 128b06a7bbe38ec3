"""What a type checker knows of an application; checked by ``make lint``, and never run."""

from typing import Any, AsyncIterator, Awaitable, Callable, assert_type

from apistar import types

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route, websocket_stream


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


handler: Callable[[str, WebSocket], Awaitable[None]] = chat
app = ASyncApp(collect_routes(chat, order, ticks, Rooms()))
