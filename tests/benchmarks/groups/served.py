"""The server process of one contender with real sockets: uvicorn on a free port of the loopback, the same for all.

``python -m tests.benchmarks.groups.served ours - 0`` prints the port; the arguments are the contender, the URL of
Redis or ``-``, and the bytes of a socket's send buffer or 0. It reads commands, a line each, and answers each with a
line of JSON: ``busy`` tells the seconds of processor time so far, ``send 20`` sends so many messages to all members,
``stream 100 0.02 4096`` begins to send so many, at that interval and of that size, and tells when it has begun.
"""

import asyncio
import contextlib
import json
import socket
import sys
import time
from typing import Any, Awaitable, Callable, Dict, Optional, Sequence

import uvicorn

from tests.benchmarks.groups.members import HISTORY, ROOM, TEXT, memory_backend, pubsub_backend, stream_backend
from tests.benchmarks.limits import raise_file_limit
from tests.benchmarks.served import OPTIONS, listen

Broadcast = Callable[[Sequence[str]], Awaitable[None]]
#: Keeps the tasks that stream.
streams = set()


class Contender:
    """An application whose sockets are members of one group.

    :param app: the application.
    :param broadcast: sends some texts to all members.
    """

    def __init__(self, app: Any, broadcast: Broadcast) -> None:
        self.app = app
        self.broadcast = broadcast


def ours(url: Optional[str], **options: Any) -> Contender:
    """Use groups."""
    from apistar_ws import ASyncApp, Groups, GroupsComponent, WebSocket, collect_routes, websocket_route

    # Contenders that share a prefix would share their groups.
    component = GroupsComponent(url, prefix='bench-%d' % options.get('history', 0), **options)

    @websocket_route('/lobby')
    async def lobby(ws: WebSocket, groups: Groups) -> None:
        async with groups.join(ROOM, ws):
            async for _ in ws:
                pass

    async def broadcast(texts: Sequence[str]) -> None:
        groups = component.resolve()
        for text in texts:
            groups.send(ROOM, text)

    return Contender(ASyncApp(collect_routes(lobby), components=[component]), broadcast)


def ours_with_history(url: Optional[str]) -> Contender:
    """Use groups that keep messages."""
    return ours(url, history=HISTORY)


def set_of_sockets(make_broadcast: Callable[[Any], Broadcast]) -> Contender:
    """Keep the members in a set, as the documentation of most frameworks shows it."""
    from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route

    sends: Dict[Callable[[str], Awaitable[None]], None] = {}

    @websocket_route('/lobby')
    async def lobby(ws: WebSocket) -> None:
        sends[ws.send] = None
        try:
            async for _ in ws:
                pass
        finally:
            del sends[ws.send]

    return Contender(ASyncApp(collect_routes(lobby)), make_broadcast(sends))


def looping(sends: Any) -> Broadcast:
    """Await one member after the other."""

    async def broadcast(texts: Sequence[str]) -> None:
        for text in texts:
            for send in tuple(sends):
                await send(text)

    return broadcast


def gathering(sends: Any) -> Broadcast:
    """Await all members at once."""

    async def broadcast(texts: Sequence[str]) -> None:
        for text in texts:
            await asyncio.gather(*[send(text) for send in sends])

    return broadcast


def asgi_loop(url: Optional[str]) -> Contender:
    """Keep the ASGI callables of the server, and await one after the other."""
    sends: Dict[Callable[[Any], Awaitable[None]], None] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] != 'websocket':
            raise RuntimeError('Only WebSockets are served here.')
        await receive()
        await send({'type': 'websocket.accept'})
        sends[send] = None
        with contextlib.suppress(OSError):
            while (await receive())['type'] != 'websocket.disconnect':
                pass
        del sends[send]

    async def broadcast(texts: Sequence[str]) -> None:
        for text in texts:
            for send in tuple(sends):
                await send({'type': 'websocket.send', 'text': text})

    return Contender(app, broadcast)


def litestar(make_backend: Callable[[Any], Any], url: Optional[str]) -> Contender:
    """Use Litestar's channels, by the handler that they bring."""
    from litestar import Litestar
    from litestar.channels import ChannelsPlugin
    from redis.asyncio import Redis

    backend = make_backend(None if url is None else Redis.from_url(url))
    plugin = ChannelsPlugin(backend, channels=['lobby'], create_ws_route_handlers=True)

    async def broadcast(texts: Sequence[str]) -> None:
        for text in texts:
            plugin.publish(text, 'lobby')

    return Contender(Litestar([], plugins=[plugin]), broadcast)


CONTENDERS: Dict[str, Callable[[Optional[str]], Contender]] = {
    'ours': ours,
    'ours history': ours_with_history,
    'loop': lambda url: set_of_sockets(looping),
    'gather': lambda url: set_of_sockets(gathering),
    'asgi loop': asgi_loop,
    'litestar memory': lambda url: litestar(memory_backend, url),
    'litestar pubsub': lambda url: litestar(pubsub_backend, url),
    'litestar stream': lambda url: litestar(stream_backend, url),
}


async def stream(broadcast: Broadcast, begun: float, count: int, interval: float, size: int) -> None:
    """Send messages that begin with when they are due; who does not keep up sends them later."""
    for number in range(count):
        due = begun + number * interval
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await broadcast([('%017.6f ' % due).ljust(size, '.')])


async def run(broadcast: Broadcast, line: str) -> Dict[str, float]:
    """Return the answer to one command."""
    command, *amounts = line.split()
    if command == 'send':
        await broadcast([TEXT] * int(amounts[0]))
    elif command == 'stream':
        begun = time.monotonic() + 0.1
        task = stream(broadcast, begun, int(amounts[0]), float(amounts[1]), int(amounts[2]))
        streams.add(asyncio.ensure_future(task))
        return {'begun': begun}
    return {'busy': time.process_time()}


async def main(name: str, url: str, send_buffer: int) -> None:
    """Serve, and answer commands until there are no more."""
    contender = CONTENDERS[name](None if url == '-' else url)
    sock = listen()
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = uvicorn.Server(uvicorn.Config(contender.app, **OPTIONS))
    loop = asyncio.get_running_loop()
    serving = loop.create_task(server.serve(sockets=[sock]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    print(sock.getsockname()[1], flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await run(contender.broadcast, line)), flush=True)
    server.should_exit = True
    await serving


if __name__ == '__main__':
    raise_file_limit()
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
