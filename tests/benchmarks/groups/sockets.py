"""The measure: what a message to all members costs the server, and how long it takes, with real sockets."""

import contextlib
import json
import random
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from tests.benchmarks.contenders import OURS
from tests.benchmarks.end_to_end import Process
from tests.benchmarks.groups.table import ASGI_LOOP, GATHER, LOOP, MEMORY, PUBSUB, SECTION, STREAM
from tests.benchmarks.results import Row


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    #: Connections to all workers together.
    connections: int
    burst: int
    #: Messages, and bursts, of one sample.
    messages: int
    bursts: int
    #: Rounds of the workers.
    worker_rounds: int


FULL = Size(rounds=9, connections=1000, burst=20, messages=6, bursts=1, worker_rounds=7)
QUICK = Size(rounds=2, connections=100, burst=20, messages=2, bursts=1, worker_rounds=2)
WORKERS = 2
#: Ours, with history.
HISTORY = 'history'
#: The names of the contenders in ``served``.
LOCAL = {OURS: 'ours', LOOP: 'loop', ASGI_LOOP: 'asgi loop', GATHER: 'gather', MEMORY: 'litestar memory'}
REMOTE = {OURS: 'ours', HISTORY: 'ours history', PUBSUB: 'litestar pubsub', STREAM: 'litestar stream'}


def ask(process: Process, line: str) -> Dict[str, Any]:
    """Have a process do something, and return its answer."""
    process.write(line)
    answer: Dict[str, Any] = json.loads(process.read())
    if 'error' in answer:
        raise RuntimeError(answer['error'])
    return answer


class Server:
    """The workers of one contender.

    :param name: the contender, as ``served`` has it.
    :param url: of Redis, or None.
    :param workers: how many.
    :param send_buffer: of each socket, in bytes; 0 for the system's default.
    """

    def __init__(self, name: str, url: Optional[str] = None, workers: int = 1, send_buffer: int = 0) -> None:
        arguments = ('tests.benchmarks.groups.served', name, url or '-', str(send_buffer))
        self.path = '/lobby'
        self.processes = [Process(*arguments) for _ in range(workers)]
        self.ports: List[int] = []

    def wait(self) -> None:
        """Return when all of them serve."""
        self.ports = [int(process.read()) for process in self.processes]

    def open(self, client: Process, connections: int) -> None:
        """Connect, evenly."""
        for port in self.ports:
            ask(client, 'open %d %d %s' % (port, connections // len(self.ports), self.path))

    def busy(self) -> float:
        """Return the seconds of processor time that all of them have used."""
        return float(sum(ask(process, 'busy')['busy'] for process in self.processes))

    def stop(self) -> None:
        """End them."""
        for process in self.processes:
            process.stop()


class Taken(NamedTuple):
    """What messages have cost, each and for each member in microseconds, and the seconds that they took."""

    core: float
    seconds: float


def measure(server: Server, client: Process, size: Size, count: int, times: int) -> Taken:
    """Send so many messages at once, so many times."""
    ports = ','.join(map(str, server.ports))
    begun, seconds = server.busy(), 0.0
    for _ in range(times):
        ask(client, 'expect %s %d' % (ports, size.connections * count))
        sent = time.monotonic()
        ask(server.processes[0], 'send %d' % count)
        seconds += ask(client, 'got')['at'] - sent
    return Taken(1e6 * (server.busy() - begun) / (size.connections * count * times), seconds / times)


@contextlib.contextmanager
def serving(names: Dict[str, str], rows: List[Row], url: Optional[str], workers: int, size: Size) -> Iterator[Any]:
    """Run a server of each contender and a client with all the connections, and yield both."""
    with contextlib.ExitStack() as stack:
        client = Process('tests.benchmarks.groups.listening')
        stack.callback(client.stop)
        servers: Dict[str, Server] = {}
        for contender, name in names.items():
            server = Server(name, url, workers)
            stack.callback(server.stop)
            try:
                server.wait()
                server.open(client, size.connections)
                measure(server, client, size, 1, 2)
            except Exception as exc:
                drop(rows, contender, exc)
            else:
                servers[contender] = server
        yield servers, client


def drop(rows: List[Row], contender: str, exc: Exception) -> None:
    """Take a contender out of all rows."""
    for row in rows:
        row.drop(contender, str(exc)[:160] or type(exc).__name__)


def take_local(contender: str, servers: Dict[str, Server], client: Process, one: Row, burst: Row, size: Size) -> None:
    """Take a sample of one worker."""
    server = servers[contender]
    try:
        one.add(contender, measure(server, client, size, 1, size.messages).core)
        burst.add(contender, measure(server, client, size, size.burst, size.bursts).core)
    except Exception as exc:
        drop([one, burst], contender, exc)
        del servers[contender]


def take_workers(
    contender: str, servers: Dict[str, Server], client: Process, plain: List[Row], kept: List[Row], size: Size
) -> None:
    """Take a sample of several workers; the others stand beside ours without and with history."""
    rows = ([] if contender == HISTORY else plain) + ([] if contender == OURS else kept)
    name = OURS if contender == HISTORY else contender
    try:
        taken = measure(servers[contender], client, size, size.burst, size.bursts)
    except Exception as exc:
        drop(rows, name, exc)
        del servers[contender]
        return
    for row in rows:
        row.add(name, 1000 * taken.seconds if row.unit == 'ms' else taken.core)


def run_local(size: Size, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of one worker, measured."""
    title = '{:,} sockets, one worker, server time of a member and message, '.format(size.connections)
    one = Row('sockets one', title + 'one', 'µs', SECTION)
    burst = Row('sockets burst', title + 'burst', 'µs', SECTION)
    with serving(LOCAL, [one, burst], None, 1, size) as (servers, client):
        for number in range(size.rounds):
            tell('Groups: sockets, round %d of %d' % (number + 1, size.rounds))
            for contender in random.sample(list(servers), len(servers)):
                take_local(contender, servers, client, one, burst, size)
    return [one, burst]


def run_workers(size: Size, url: str, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of several workers, measured."""
    title = '{:,} sockets, {} workers over Redis, burst of {}, '.format(size.connections, WORKERS, size.burst)
    core = Row('workers core', title + 'server time of a member and message', 'µs', SECTION)
    seconds = Row('workers time', title + 'until all have it', 'ms', SECTION)
    kept_core = Row('workers history core', core.title + ', with history', 'µs', SECTION)
    kept_seconds = Row('workers history time', seconds.title + ', with history', 'ms', SECTION)
    with serving(REMOTE, [core, seconds], url, WORKERS, size) as (servers, client):
        for number in range(size.worker_rounds):
            tell('Groups: workers, round %d of %d' % (number + 1, size.worker_rounds))
            for contender in random.sample(list(servers), len(servers)):
                take_workers(contender, servers, client, [core, seconds], [kept_core, kept_seconds], size)
    return [core, seconds, kept_core, kept_seconds]


def run(size: Size, url: Optional[str], tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    rows = run_local(size, tell)
    return rows + (run_workers(size, url, tell) if url else [])
