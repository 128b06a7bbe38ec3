"""The measure: what groups cost in which nothing is said, in commands, processor time and memory."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
import tracemalloc
from typing import Any, Awaitable, Callable, List, NamedTuple, Optional
from urllib.parse import urlsplit

from tests.benchmarks.contenders import OURS
from tests.benchmarks.groups import members
from tests.benchmarks.groups.members import HISTORY, INFO, Crowd, Send
from tests.benchmarks.groups.table import CHANNELS, MEMORY, PUBSUB, SECTION, STREAM
from tests.benchmarks.in_process import why
from tests.benchmarks.results import Row


class Size(NamedTuple):
    """How much is measured."""

    groups: int
    #: Seconds until all is at rest, and of the measurement.
    settling: float
    seconds: float
    #: Members and groups of which the memory is measured.
    members: int


FULL = Size(groups=100, settling=1.0, seconds=20.0, members=1000)
QUICK = Size(groups=100, settling=0.2, seconds=1.0, members=100)
#: The seconds in which one command is allowed.
PERIOD = 5.0


class Monitor:
    """Counts the commands that Redis is sent, by its MONITOR, in a thread of its own.

    :param url: of Redis.
    """

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._sock = socket.create_connection((address.hostname, address.port))
        self._sock.sendall(b'MONITOR\r\n')
        self._sock.recv(5)
        #: Commands of clients, and commands inside of scripts.
        self.sent = self.inside = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            for line in self._sock.makefile('rb'):
                # +1700000000.000000 [0 127.0.0.1:50000] "get" "key"
                if line[:40].split(b']')[0].endswith(b' lua'):
                    self.inside += 1
                else:
                    self.sent += 1

    def stop(self) -> None:
        """Count no more."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._sock.close()


# Members of many groups


Join = Callable[[contextlib.AsyncExitStack, str, Send], Awaitable[None]]


def joined_to_groups(groups: Any) -> Join:
    """Return what makes a member of ours."""

    async def join(stack: contextlib.AsyncExitStack, name: str, send: Send) -> None:
        await stack.enter_async_context(groups.join(name, send, info=INFO))

    return join


def joined_to_plugin(plugin: Any) -> Join:
    """Return what makes a member of Litestar's."""

    async def join(stack: contextlib.AsyncExitStack, name: str, send: Send) -> None:
        subscriber = await stack.enter_async_context(plugin.start_subscription([name]))
        await stack.enter_async_context(subscriber.run_in_background(send, join=False))

    return join


def joined_to_layer(layer: Any) -> Join:
    """Return what makes a member of that of channels_redis."""

    async def join(stack: contextlib.AsyncExitStack, name: str, send: Send) -> None:
        channel = await layer.new_channel()
        await layer.group_add(name, channel)
        stack.callback(asyncio.ensure_future(members.serve_member(layer, channel, send)).cancel)

    return join


# Commands and processor time


class Contender(NamedTuple):
    """Starts what members join, and makes them join it."""

    started: Callable[[], Any]
    joined_to: Callable[[Any], Join]


class Rest(NamedTuple):
    """What a process does in which nothing happens."""

    #: Commands in five seconds, those of clients and those inside of scripts, and percent of a core.
    sent: float
    inside: float
    core: float


async def measure_rest(contender: 'Contender', url: str, size: Size) -> Rest:
    """Return what groups cost in which nothing is said."""
    crowd = Crowd()
    async with contender.started() as supplied, contextlib.AsyncExitStack() as stack:
        join = contender.joined_to(supplied)
        for number in range(size.groups):
            await join(stack, 'room%d' % number, crowd.member())
        await asyncio.sleep(size.settling)
        monitor = Monitor(url)
        # Of this thread: what the monitor takes does not count.
        begun, busy = time.monotonic(), time.thread_time()
        await asyncio.sleep(size.seconds)
        busy, seconds = time.thread_time() - busy, time.monotonic() - begun
        sent, inside = monitor.sent, monitor.inside
        monitor.stop()
        return Rest(sent / seconds * PERIOD, inside / seconds * PERIOD, 100 * busy / seconds)


def run_rest(size: Size, url: str, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of idle groups, measured."""
    title = '%d idle groups, ' % size.groups
    sent = Row('idle commands', title + 'commands in 5 s', '', SECTION, has_ratios=False)
    inside = Row('idle inside', title + 'commands inside of scripts in 5 s', '', SECTION, has_ratios=False)
    core = Row('idle core', title + 'share of a core', '%', SECTION, has_ratios=False)
    contenders = {
        OURS: Contender(lambda: members.started_groups(url), joined_to_groups),
        PUBSUB: Contender(lambda: members.started_channels(members.pubsub_backend, url), joined_to_plugin),
        STREAM: Contender(lambda: members.started_channels(members.stream_backend, url), joined_to_plugin),
        CHANNELS: Contender(lambda: members.started_layer(url), joined_to_layer),
    }
    for contender, parts in contenders.items():
        tell('Groups: idle, %s' % contender)
        try:
            rest = asyncio.run(measure_rest(parts, url, size))
        except Exception as exc:
            for row in (sent, inside, core):
                row.drop(contender, why(exc))
        else:
            sent.add(contender, rest.sent)
            inside.add(contender, rest.inside)
            core.add(contender, rest.core)
    return [sent, inside, core]


# Memory


def traced() -> int:
    """Return the bytes of all objects that are there."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


class Memory(NamedTuple):
    """Bytes: of a member before and after its first message, of a group with a member, of one that all have left."""

    member: float
    served: float
    group: float
    left: float


async def measure_memory(join: Join, broadcast: Callable[[str], Any], size: Size) -> Memory:
    """Return the bytes of members and groups."""
    crowd = Crowd()
    sends = [crowd.member() for _ in range(size.members)]
    names = ['room:%d' % number for number in range(size.members)]
    async with contextlib.AsyncExitStack() as stack:
        # What is there once is there already.
        await join(stack, names[0], crowd.member())
        begun = traced()
        for send in sends:
            await join(stack, names[0], send)
        await asyncio.sleep(0)
        member = traced() - begun
        done = crowd.expect(size.members + 1)
        broadcast(names[0])
        await done
        await asyncio.sleep(0)
        served = traced() - begun
    del stack
    totals = (member, served, *await measure_groups(join, names, sends))
    return Memory(*[total / size.members for total in totals])


async def measure_groups(join: Join, names: List[str], sends: List[Send]) -> List[int]:
    """Return the bytes of so many groups with a member each, and of as many that all have left."""
    begun = traced()
    async with contextlib.AsyncExitStack() as stack:
        for name, send in zip(names, sends):
            await join(stack, name, send)
        await asyncio.sleep(0)
        group = traced() - begun
    del stack
    await asyncio.sleep(0.1)
    return [group, traced() - begun]


def run_memory(size: Size, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of the memory, measured."""
    title = 'Memory, in one process: '
    rows = [
        Row('memory member', title + 'member that has had no message yet', 'bytes', SECTION),
        Row('memory served', title + 'member that has had one', 'bytes', SECTION),
        Row('memory group', title + 'group with one such member that has had none', 'bytes', SECTION),
        Row('memory left', title + 'group that all have left', 'bytes', SECTION, has_ratios=False),
    ]
    kept = Row('memory kept', title + 'group with history that all have left', 'bytes', SECTION, has_ratios=False)
    for contender in (OURS, MEMORY, 'history'):
        tell('Groups: memory, %s' % contender)
        found = asyncio.run(trace(contender, size))
        if contender == 'history':
            kept.add(OURS, found.left)
            continue
        for row, sample in zip(rows, found):
            row.add(contender, sample)
    return [*rows, kept]


async def trace(contender: str, size: Size) -> Memory:
    """Return the memory of one contender."""
    tracemalloc.start()
    try:
        if contender == MEMORY:
            async with members.started_channels(members.memory_backend, None) as plugin:
                return await measure_memory(joined_to_plugin(plugin), lambda name: plugin.publish('hello', name), size)
        async with members.started_groups(history=HISTORY if contender == 'history' else 0) as groups:
            return await measure_memory(joined_to_groups(groups), lambda name: groups.send(name, 'hello'), size)
    finally:
        tracemalloc.stop()


def run(size: Size, url: Optional[str], tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    return [*(run_rest(size, url, tell) if url else []), *run_memory(size, tell)]
