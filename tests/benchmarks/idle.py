"""The measure: what open connections cost that do nothing, thousands of them, in one process and one event loop."""

import asyncio
import contextlib
import gc
import itertools
import random
import time
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, NamedTuple, Tuple

from tests.benchmarks.contenders import visited
from tests.benchmarks.in_process import ROOM, load_all, why
from tests.benchmarks.results import Row
from tests.benchmarks.scripted import PATIENCE, Message, Wrong, make_scope, require_visit, started

SECTION = 'In process, idle'
#: Connections that are opened at the same time until all are open.
OPENING = 100
#: Seconds that the handlers have to end by themselves once their clients have left; who sleeps on is cancelled.
LEAVING = 1.0
#: Seconds between two looks at how late the event loop is.
TICK = 0.001


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    #: Open connections.
    connections: int
    #: Seconds of idleness before the first sample, in which whatever looks at idle connections has come to rest.
    settling: float
    #: Seconds of each sample.
    seconds: float


FULL = Size(rounds=3, connections=10_000, settling=2.0, seconds=3.0)
QUICK = Size(rounds=1, connections=1000, settling=1.5, seconds=0.5)


class Situation(NamedTuple):
    """What all the handlers do meanwhile, and the two rows that are measured of it."""

    #: The first segment of the route, and what a contender that has no such route names in ``MISSING``.
    key: str
    core: Row
    stall: Row

    def drop(self, contender: str, reason: str) -> None:
        """Take a contender out of both rows."""
        self.core.drop(contender, reason)
        self.stall.drop(contender, reason)


def make_situation(key: str, doing: str, size: Size) -> Situation:
    """Return a situation, named by what the handlers do."""
    title = '{:,} idle {}, '.format(size.connections, doing)
    return Situation(
        key,
        Row('idle %s core' % key, title + 'share of a core', '%', SECTION, has_ratios=False),
        Row('idle %s stall' % key, title + 'longest stall', 'ms', SECTION, has_ratios=False),
    )


def make_situations(size: Size) -> List[Situation]:
    """Return all situations, in the order of the table."""
    return [
        make_situation('talk', 'in receive', size),
        make_situation('sleep', 'in sleep', size),
        make_situation('limited', 'in receive with limits', size),
    ]


class Peer:
    """A client that connects and then does nothing until it leaves.

    :param gone: set when it leaves.
    """

    __slots__ = ('scope', 'gone', 'has_connected', 'sent')

    def __init__(self, scope: Dict[str, Any], gone: asyncio.Event) -> None:
        self.scope = scope
        self.gone = gone
        self.has_connected = False
        #: The types of what the application has sent.
        self.sent: List[str] = []

    async def receive(self) -> Message:
        """Return the handshake, and in the end the disconnect."""
        if not self.has_connected:
            self.has_connected = True
            return {'type': 'websocket.connect'}
        await self.gone.wait()
        return {'type': 'websocket.disconnect', 'code': 1000, 'reason': ''}

    async def send(self, message: Message) -> None:
        """Note a message."""
        self.sent.append(message['type'])


class Member(NamedTuple):
    """One open connection: the client, and the task of the application."""

    peer: Peer
    task: 'asyncio.Future[None]'

    @property
    def is_pending(self) -> bool:
        """Whether the application still has to answer the handshake."""
        return not self.peer.sent and not self.task.done()


def join(app: Any, path: str, gone: asyncio.Event) -> Member:
    """Return a new connection, its handshake on the way."""
    peer = Peer(make_scope(path), gone)
    return Member(peer, asyncio.ensure_future(app(peer.scope, peer.receive, peer.send)))


async def answered(members: List[Member]) -> None:
    """Wait until the application has answered each handshake."""
    end = time.perf_counter() + PATIENCE
    while any(member.is_pending for member in members):
        if time.perf_counter() > end:
            raise Wrong('it did not answer in time')
        await asyncio.sleep(0)


def require_idle(members: List[Member]) -> None:
    """Raise unless each connection is open and its handler runs."""
    for peer, task in members:
        if peer.sent != ['websocket.accept'] or task.done():
            end = ', and its handler ended' if task.done() else ''
            raise Wrong('an idle connection was sent %r%s' % (peer.sent, end))


async def leave(members: List[Member], gone: asyncio.Event) -> None:
    """Let all clients leave, and end the handlers that do not end by that."""
    gone.set()
    tasks = [member.task for member in members]
    if tasks:
        await asyncio.wait(tasks, timeout=LEAVING)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def crowd(app: Any, path: str, count: int) -> AsyncIterator[List[Member]]:
    """Have so many connections open."""
    gone = asyncio.Event()
    members: List[Member] = []
    visited.clear()
    try:
        while len(members) < count:
            several = min(OPENING, count - len(members))
            opened = [join(app, path, gone) for _ in range(several)]
            members += opened
            await answered(opened)
        require_idle(members)
        require_visit(ROOM)
        yield members
    finally:
        await leave(members, gone)


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Keep the cyclic garbage collector from running, which would stall the event loop of any application."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def measure_core(seconds: float) -> float:
    """Return the processor time that this process takes meanwhile, in percent of one core."""
    begun, busy = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    return 100 * (time.process_time() - busy) / (time.perf_counter() - begun)


class Probe:
    """Looks at the clock a thousand times a second, and notes the longest time that the process kept it waiting.

    In seconds. It counts as far as the process has used the processor meanwhile; the rest is the machine's.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.worst = 0.0
        self.set_timer()

    def set_timer(self) -> None:
        """Look again in a moment."""
        self.due = self.loop.time() + TICK
        self.used = time.process_time()
        self.timer = self.loop.call_at(self.due, self.look)

    def look(self) -> None:
        """Note how late it is, as far as that is of this process's making."""
        late = min(self.loop.time() - self.due, time.process_time() - self.used)
        self.worst = max(self.worst, late)
        self.set_timer()


async def measure_stall(seconds: float) -> float:
    """Return the longest time that the event loop is held up meanwhile, in milliseconds."""
    probe = Probe()
    try:
        await asyncio.sleep(seconds)
    finally:
        probe.timer.cancel()
    return 1000 * probe.worst


async def measure(app: Any, key: str, size: Size) -> Tuple[float, float]:
    """Return one sample of both figures: one after the other, since the probe takes processor time itself."""
    async with started(app), crowd(app, '/%s/%s' % (key, ROOM), size.connections) as members:
        with collector_off():
            await asyncio.sleep(size.settling)
            core = await measure_core(size.seconds)
            stall = await measure_stall(size.seconds)
        require_idle(members)
        return core, stall


def take_sample(situation: Situation, contender: str, module: Any, size: Size) -> None:
    """Take one sample of a contender, alone on a new event loop; if there is none, note why."""
    if contender in situation.core.missing:
        return
    try:
        core, stall = asyncio.run(measure(module.conversations(), situation.key, size))
    except Exception as exc:
        return situation.drop(contender, why(exc))
    situation.core.add(contender, core)
    situation.stall.add(contender, stall)


def run(size: Size, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    situations = make_situations(size)
    rows = [row for situation in situations for row in (situation.core, situation.stall)]
    modules = load_all(rows)
    for situation, contender in itertools.product(situations, modules):
        if situation.key in modules[contender].MISSING:
            situation.drop(contender, modules[contender].MISSING[situation.key])
    for number in range(size.rounds):
        for situation in situations:
            for contender in random.sample(list(modules), len(modules)):
                tell('Idle: round %d of %d, %s, %s' % (number + 1, size.rounds, situation.key, contender))
                take_sample(situation, contender, modules[contender], size)
    return rows
