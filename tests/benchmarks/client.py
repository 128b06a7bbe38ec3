"""The client process: asyncio protocols with frames made by hand, so that the server is the slower side.

``python -m tests.benchmarks.client`` reads commands, a line each, and answers each with a line of JSON:
``echo 8000 0.5`` and ``connect 8000 0.5`` measure for so many seconds, ``hold 8000 1000`` opens so many connections
more, ``hold_sleeping 8000 1000`` as many whose handlers sleep, and ``release 8000 0`` closes them.
"""

import asyncio
import json
import socket
import sys
import time
from typing import Any, Awaitable, Callable, Dict, List

from tests.benchmarks.limits import raise_file_limit

#: Connections that echo at the same time.
ECHOING = 50
#: Clients that connect, send and close at the same time.
CONNECTING = 10
#: Connections that are opened at the same time until all are held.
OPENING = 50
#: Seconds that anything may take that is not measured.
PATIENCE = 20.0

HANDSHAKE = '\r\n'.join(
    [
        'GET %s HTTP/1.1',
        'Host: 127.0.0.1:%d',
        'Connection: Upgrade',
        'Pragma: no-cache',
        'Cache-Control: no-cache',
        'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
        'Upgrade: websocket',
        'Origin: http://127.0.0.1:%d',
        'Sec-WebSocket-Version: 13',
        'Accept-Encoding: gzip, deflate',
        'Accept-Language: en-GB,en;q=0.9',
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
        '\r\n',
    ]
)
MASK = bytes.fromhex('37fa213d')


def masked(opcode: int, payload: bytes) -> bytes:
    """Return a frame of a client (RFC 6455 section 5.2)."""
    data = bytes(byte ^ MASK[index % 4] for index, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + MASK + data


HELLO = masked(1, b'hello')
HELLO_BACK = b'\x81\x05hello'
CLOSE = masked(8, b'\x03\xe8')
CLOSE_BACK = b'\x88\x02\x03\xe8'
#: The first byte of a ping.
PING = 0x89


class Connection(asyncio.Protocol):
    """A WebSocket from its handshake on; what comes after the handshake, subclasses handle."""

    def __init__(self, handshake: bytes) -> None:
        self.handshake = handshake
        self.buffer = b''
        self.is_open = False
        self.transport: Any = None
        #: Done when what is waited for has come; fails if anything else comes.
        self.done: 'asyncio.Future[None]' = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        self.transport = transport
        self.transport.write(self.handshake)

    def data_received(self, data: bytes) -> None:
        """Wait for the answer to the handshake, and handle the frames after it."""
        self.buffer += data
        if not self.is_open and b'\r\n\r\n' in self.buffer:
            head, _, self.buffer = self.buffer.partition(b'\r\n\r\n')
            if not head.startswith(b'HTTP/1.1 101 '):
                return self.fail('the handshake was answered with %r' % head[:80])
            self.is_open = True
            self.opened()
        while self.is_open and len(self.buffer) >= 2 and len(self.buffer) >= 2 + self.buffer[1]:
            end = 2 + self.buffer[1]
            frame, self.buffer = self.buffer[:end], self.buffer[end:]
            if frame[0] == PING:
                self.transport.write(masked(10, frame[2:]))
            else:
                self.frame_received(frame)

    def opened(self) -> None:
        """Be content with an open WebSocket."""
        self.finish()

    def frame_received(self, frame: bytes) -> None:
        """Handle a frame, which is a short one."""
        self.fail('nothing was expected, but %r came' % frame)

    def connection_lost(self, exc: Any) -> None:
        """Fail unless the end of the connection was due."""
        self.fail('the connection was lost: %r' % exc)

    def finish(self) -> None:
        """Note that what was waited for has come."""
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        """Note what went wrong."""
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))


class Echo(Connection):
    """Sends the next message when the last has come back, until the time is up."""

    count = 0
    end = 0.0

    def start(self, end: float) -> None:
        """Echo until that time."""
        self.done = asyncio.get_running_loop().create_future()
        self.count, self.end = 0, end
        self.transport.write(HELLO)

    def frame_received(self, frame: bytes) -> None:
        """Count the message, and send the next."""
        if frame != HELLO_BACK:
            return self.fail('%r came back' % frame)
        self.count += 1
        if time.perf_counter() < self.end:
            self.transport.write(HELLO)
        else:
            self.finish()


class Visit(Connection):
    """Sends one message, and takes part in the server's closing of the connection."""

    is_echoed = is_closed = False

    def opened(self) -> None:
        """Send the message."""
        self.transport.write(HELLO)

    def frame_received(self, frame: bytes) -> None:
        """Take the message, and answer the server's close frame, which comes after it."""
        if frame != (CLOSE_BACK if self.is_echoed else HELLO_BACK):
            return self.fail('%r came back' % frame)
        if self.is_echoed:
            self.is_closed = True
            self.transport.write(CLOSE)
        self.is_echoed = True

    def connection_lost(self, exc: Any) -> None:
        """End here, if the server has said that it closes."""
        if not self.is_closed:
            return super().connection_lost(exc)
        self.finish()


async def open_connection(port: int, path: str, kind: Callable[[bytes], Any]) -> Any:
    """Return a new connection of that kind, its handshake on the way."""
    sock = socket.create_connection(('127.0.0.1', port), PATIENCE)
    sock.setblocking(False)
    handshake = (HANDSHAKE % (path, port, port)).encode()
    _, connection = await asyncio.get_running_loop().create_connection(lambda: kind(handshake), sock=sock)
    return connection


async def open_all(port: int, number: int, kind: Callable[[bytes], Any], path: str = '/talk/lobby') -> List[Any]:
    """Return so many open connections."""
    connections: List[Any] = []
    while len(connections) < number:
        several = min(OPENING, number - len(connections))
        opened = [await open_connection(port, path, kind) for _ in range(several)]
        await done(opened)
        connections += opened
    return connections


async def done(connections: List[Any]) -> None:
    """Wait until what each of the connections waits for has come."""
    await asyncio.wait_for(asyncio.gather(*[connection.done for connection in connections]), PATIENCE)


class Clock:
    """Measures how long something takes, and how much of the time this process was busy."""

    def __init__(self) -> None:
        self.begun, self.busy = time.perf_counter(), time.process_time()

    def result(self, count: int) -> Dict[str, float]:
        """Return the rate of what was counted since."""
        taken = time.perf_counter() - self.begun
        return {'rate': count / taken, 'busy': (time.process_time() - self.busy) / taken}


class Client:
    """Runs the commands."""

    def __init__(self) -> None:
        self.echoing: Dict[int, List[Any]] = {}
        self.held: List[Any] = []

    async def echo(self, port: int, seconds: float) -> Dict[str, float]:
        """Measure round trips per second, over connections that stay."""
        if port not in self.echoing:
            self.echoing[port] = await open_all(port, ECHOING, Echo)
        connections = self.echoing[port]
        clock = Clock()
        for connection in connections:
            connection.start(clock.begun + seconds)
        await done(connections)
        return clock.result(sum(connection.count for connection in connections))

    async def connect(self, port: int, seconds: float) -> Dict[str, float]:
        """Measure connections per second."""
        clock = Clock()

        async def visit() -> int:
            count = 0
            while time.perf_counter() < clock.begun + seconds:
                await done([await open_connection(port, '/chat/lobby', Visit)])
                count += 1
            return count

        return clock.result(sum(await asyncio.gather(*[visit() for _ in range(CONNECTING)])))

    async def hold(self, port: int, number: float) -> Dict[str, float]:
        """Open so many connections more, and leave them alone."""
        self.held += await open_all(port, int(number), Connection)
        return {'held': len(self.held)}

    async def hold_sleeping(self, port: int, number: float) -> Dict[str, float]:
        """Open so many connections more whose handlers sleep, and leave them alone."""
        self.held += await open_all(port, int(number), Connection, '/sleep/lobby')
        return {'held': len(self.held)}

    async def release(self, port: int, number: float) -> Dict[str, float]:
        """Close all connections that are held."""
        for connection in self.held:
            connection.transport.close()
        self.held.clear()
        return {'held': 0}


async def run(client: Client, line: str) -> Dict[str, Any]:
    """Return the answer to one command."""
    commands: Dict[str, Callable[[int, float], Awaitable[Dict[str, float]]]] = {
        'echo': client.echo,
        'connect': client.connect,
        'hold': client.hold,
        'hold_sleeping': client.hold_sleeping,
        'release': client.release,
    }
    command, port, amount = line.split()
    try:
        return await commands[command](int(port), float(amount))
    except Exception as exc:
        return {'error': '%s: %s' % (type(exc).__name__, exc)}


async def main() -> None:
    """Answer commands until there are no more."""
    client = Client()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await run(client, line)), flush=True)


if __name__ == '__main__':
    raise_file_limit()
    asyncio.run(main())
