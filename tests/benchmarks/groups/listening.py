"""The client process of the real sockets: opens them, and counts or times what comes.

``python -m tests.benchmarks.groups.listening`` reads commands, a line each, and answers each with a line of JSON:
``open 8000 500 /lobby`` opens so many connections, ``expect 8000,8001 1000`` counts so many frames on those from now
on, ``got`` tells when the last one of them has come, ``stall 8000`` has one of them read no more, ``time 8000`` begins
to time what comes, and ``times 8000 12.5 0.02 100 3`` tells the median and the 99th percentile of the seconds that
so many messages took which were due from that time on, at that interval; what has not come after so many seconds
more counts as if it came then.
"""

import asyncio
import json
import math
import sys
import time
from typing import Any, Awaitable, Callable, Dict, List, Optional

from tests.benchmarks.client import Connection, done, masked, open_connection
from tests.benchmarks.limits import raise_file_limit

#: Connections that are opened at the same time.
OPENING = 50
PATIENCE = 30.0
PING = 0x89
TEXT = 0x81
#: Characters of a timed message that tell when it was due.
TIME = 17


class Counter:
    """Counts frames, so many on each connection, and notes when the last one has come.

    :param connections: on which they come.
    :param count: how many.
    """

    def __init__(self, connections: List['Listener'], count: int) -> None:
        self.connections = connections
        self.share = count // len(connections)
        self.left = count
        self.last: 'asyncio.Future[float]' = asyncio.get_running_loop().create_future()
        for connection in connections:
            connection.counter, connection.frames = self, 0

    def add(self) -> None:
        """Count one."""
        self.left -= 1
        if not self.left:
            self.last.set_result(time.monotonic())

    def fail(self, reason: str) -> None:
        """Count no more."""
        if not self.last.done():
            self.last.set_exception(RuntimeError(reason))

    def require_shares(self) -> None:
        """Raise unless each connection has got what was sent to all, and nothing else."""
        found = {connection.frames for connection in self.connections}
        if found != {self.share}:
            raise RuntimeError('connections got %s messages where %d were sent' % (sorted(found), self.share))


class Listener(Connection):
    """A member: takes whatever comes."""

    counter: Optional[Counter] = None
    frames = 0
    times: Optional[List[float]] = None

    def data_received(self, data: bytes) -> None:
        """Wait for the answer to the handshake, and handle the frames after it, short and long."""
        if not self.is_open:
            # The base class would read the frames too, if some came with the answer; none does.
            return super().data_received(data)
        data = self.buffer + data
        at, end = 0, len(data)
        while end - at >= 4:
            size = data[at + 1]
            begin = at + 2
            if size == 126:
                size = data[at + 2] << 8 | data[at + 3]
                begin = at + 4
            if begin + size > end:
                break
            self.take(data[at], data[begin : begin + size])
            at = begin + size
        self.buffer = data[at:]

    def take(self, head: int, payload: bytes) -> None:
        """Handle one frame."""
        if head == PING:
            self.transport.write(masked(10, payload))
        elif head != TEXT:
            self.fail('%r came' % payload[:40])
        elif self.times is not None:
            self.times.append(time.monotonic() - float(payload[:TIME]))
        elif self.counter is not None:
            self.frames += 1
            self.counter.add()

    def fail(self, reason: str) -> None:
        """Note what went wrong, also with what is counted: a member that is closed gets nothing."""
        super().fail(reason)
        if self.counter is not None:
            self.counter.fail(reason)


def percentile(values: List[float], share: float) -> float:
    """Return the value below which that share of them is."""
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


class Client:
    """Runs the commands."""

    def __init__(self) -> None:
        self.crowds: Dict[int, List[Any]] = {}
        self.counter: Optional[Counter] = None

    async def open(self, port: str, count: str, path: str) -> Dict[str, float]:
        """Open so many connections."""
        crowd = self.crowds.setdefault(int(port), [])
        while len(crowd) < int(count):
            several = min(OPENING, int(count) - len(crowd))
            opened = [await open_connection(int(port), path, Listener) for _ in range(several)]
            await done(opened)
            crowd += opened
        return {'open': len(crowd)}

    async def expect(self, ports: str, count: str) -> Dict[str, float]:
        """Count frames from now on."""
        crowds = [self.crowds[int(port)] for port in ports.split(',')]
        self.counter = Counter(sum(crowds, []), int(count))
        return {}

    async def got(self) -> Dict[str, float]:
        """Wait for the last one."""
        assert self.counter is not None
        at = await asyncio.wait_for(self.counter.last, PATIENCE)
        self.counter.require_shares()
        return {'at': at}

    async def stall(self, port: str) -> Dict[str, float]:
        """Have the first connection read no more, as a client that hangs."""
        self.crowds[int(port)].pop(0).transport.pause_reading()
        return {}

    async def time(self, port: str) -> Dict[str, float]:
        """Time what comes from now on."""
        for connection in self.crowds[int(port)]:
            connection.times = []
        return {}

    async def times(self, port: str, begun: str, interval: str, count: str, seconds: str) -> Dict[str, float]:
        """Tell how long messages have taken."""
        crowd, number = self.crowds[int(port)], int(count)
        end = float(begun) + number * float(interval) + float(seconds)
        while time.monotonic() < end and any(len(connection.times) < number for connection in crowd):
            await asyncio.sleep(0.05)
        now = time.monotonic()
        if any(connection.transport.is_closing() for connection in crowd):
            raise RuntimeError('a member that reads was closed')
        found = [taken for connection in crowd for taken in connection.times]
        late = [
            now - float(begun) - missing * float(interval)
            for connection in crowd
            for missing in range(len(connection.times), number)
        ]
        return {'p50': percentile(found + late, 0.5), 'p99': percentile(found + late, 0.99), 'missing': len(late)}


async def run(client: Client, line: str) -> Dict[str, Any]:
    """Return the answer to one command."""
    command, *arguments = line.split()
    commands: Dict[str, Callable[..., Awaitable[Dict[str, float]]]] = {
        'open': client.open,
        'expect': client.expect,
        'got': client.got,
        'stall': client.stall,
        'time': client.time,
        'times': client.times,
    }
    try:
        return await commands[command](*arguments)
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
