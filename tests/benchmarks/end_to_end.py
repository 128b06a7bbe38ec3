"""What a user feels: every contender behind the same uvicorn on the loopback, the client in another process."""

import contextlib
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Sequence

from tests.benchmarks.contenders import BARE, TITLES
from tests.benchmarks.results import BARE_AGAIN, Row

SECTION = 'End to end'
ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Seconds that a process may take to start, to answer, and to end.
PATIENCE = 30.0
#: Seconds that a process has to end by itself: most servers would wait for handlers that sleep.
ENDING = 2.0
#: The rows of the memory, and how the client makes their connections.
MEMORY = {'memory': 'hold', 'sleeping memory': 'hold_sleeping'}
#: Keeps the C library from returning memory to the system and fetching it again with every read of asyncio's, as
#: it does where the heap happens to end: that halves the rate of a small process, which the bare one is.
MALLOC = {'MALLOC_TRIM_THRESHOLD_': str(2**22), 'MALLOC_MMAP_THRESHOLD_': str(2**22)}


class Length(NamedTuple):
    """How much is measured."""

    rounds: int
    #: Seconds of each sample of a rate.
    seconds: float
    memory_rounds: int
    #: Idle connections.
    connections: int
    #: Seconds of idleness before the memory is read, in which whatever looks at idle connections has looked.
    settling: float


FULL = Length(rounds=30, seconds=0.17, memory_rounds=2, connections=2500, settling=1.6)
QUICK = Length(rounds=2, seconds=0.05, memory_rounds=1, connections=100, settling=0.1)


def make_rows(length: Length) -> List[Row]:
    """Return the rows of this part, in the order of the table."""
    return [
        Row('echo', 'Echo round trips per second, 50 connections', '/s', SECTION, more_is_better=True),
        Row('connect', 'Connections per second, one message each', '/s', SECTION, more_is_better=True),
        Row('memory', 'Memory per idle connection, {:,} of them'.format(length.connections), 'KiB', SECTION),
        Row('sleeping memory', 'Memory per sleeping handler, {:,} of them'.format(length.connections), 'KiB', SECTION),
    ]


class Process:
    """A process of ours that answers with lines.

    :param arguments: the module to run, and its arguments.
    """

    def __init__(self, *arguments: str) -> None:
        self.errors = tempfile.TemporaryFile('w+')
        self.popen = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', *arguments],
            cwd=ROOT,
            env={**os.environ, **MALLOC},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def read(self) -> str:
        """Return the next line; raise if there is none in time."""
        assert self.popen.stdout is not None
        timer = threading.Timer(PATIENCE, self.popen.kill)
        timer.start()
        try:
            line = self.popen.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise RuntimeError('the process ended: %s' % self.last_error())
        return line

    def write(self, line: str) -> None:
        """Send a line."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + '\n')
        self.popen.stdin.flush()

    def last_error(self) -> str:
        """Return the last line of its standard error."""
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors.read().split('\n')]
        return next((line[:120] for line in reversed(lines) if line), 'no error is known')

    def memory(self) -> float:
        """Return its resident memory in KiB; raises where the system does not tell."""
        status = pathlib.Path('/proc/%d/status' % self.popen.pid).read_text()
        return float(status.split('VmRSS:')[1].split()[0])

    def stop(self) -> None:
        """End it, whatever state it is in."""
        self.popen.terminate()
        try:
            self.popen.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for file in (self.popen.stdout, self.errors):
            if file is not None:
                file.close()
        with contextlib.suppress(OSError):
            assert self.popen.stdin is not None
            self.popen.stdin.close()


class Server(Process):
    """A server process.

    :param contender: what it serves; ``BARE_AGAIN`` for a second one of the bare application.
    """

    port = 0

    def __init__(self, contender: str) -> None:
        self.contender = contender
        super().__init__('tests.benchmarks.served', BARE if contender == BARE_AGAIN else contender)

    def wait(self) -> None:
        """Wait for the port."""
        self.port = int(self.read())


class Client(Process):
    """The client process."""

    def __init__(self) -> None:
        super().__init__('tests.benchmarks.client')

    def ask(self, command: str, server: Server, amount: float) -> Dict[str, float]:
        """Return the answer to one command."""
        self.write('%s %d %s' % (command, server.port, amount))
        answer: Dict[str, Any] = json.loads(self.read())
        if 'error' in answer:
            raise RuntimeError(answer['error'])
        return answer


class Bench:
    """The running processes, and the rows that they are measured for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = {row.key: row for row in rows}
        self.client: Any = None
        self.servers: List[Server] = []
        #: How busy the client was at most, as a share of one processor.
        self.busy = 0.0

    @contextlib.contextmanager
    def running(self, contenders: Iterable[str]) -> Iterator[None]:
        """Run a server of each contender, and the client."""
        with contextlib.ExitStack() as stack:
            started = []
            for contender in contenders:
                started.append(Server(contender))
                stack.callback(started[-1].stop)
            self.servers = [server for server in started if self.attempt(server, list(self.rows), server.wait)]
            self.client = Client()
            stack.callback(self.client.stop)
            yield

    def attempt(self, server: Server, keys: Iterable[str], action: Callable[[], Any]) -> bool:
        """Do something with a server, and take it out of those rows if that fails."""
        try:
            action()
        except Exception as exc:
            for key in keys:
                self.rows[key].drop(server.contender, str(exc)[:160] or type(exc).__name__)
            return False
        return True

    def shuffled(self, key: str) -> List[Server]:
        """Return the servers that are still in that row, in random order."""
        servers = [server for server in self.servers if server.contender not in self.rows[key].missing]
        return random.sample(servers, len(servers))

    def measure_rate(self, key: str, server: Server, seconds: float) -> None:
        """Take one sample of a rate."""
        answer = self.client.ask(key, server, seconds)
        self.rows[key].add(server.contender, answer['rate'])
        self.busy = max(self.busy, answer['busy'])

    def measure_memory(self, key: str, server: Server, length: Length) -> None:
        """Take one sample of the memory, once as many connections have filled what was free before."""
        self.client.ask(MEMORY[key], server, length.connections)
        time.sleep(length.settling)
        before = server.memory()
        self.client.ask(MEMORY[key], server, length.connections)
        time.sleep(length.settling)
        self.rows[key].add(server.contender, (server.memory() - before) / length.connections)
        self.client.ask('release', server, 0)

    def run_rates(self, length: Length, tell: Callable[[str], None]) -> None:
        """Take all samples of the rates."""
        for key in ('echo', 'connect'):
            for server in self.shuffled(key):
                # Not counted: the first use of everything.
                self.attempt(server, [key], lambda: self.client.ask(key, server, length.seconds / 2))
        for number in range(length.rounds):
            tell('End to end: round %d of %d' % (number + 1, length.rounds))
            for key in ('echo', 'connect'):
                for server in self.shuffled(key):
                    self.attempt(server, [key], lambda: self.measure_rate(key, server, length.seconds))

    def run_memory(self, key: str, length: Length) -> None:
        """Take a sample of the memory of each contender."""
        for server in self.shuffled(key):
            self.attempt(server, [key], lambda: self.measure_memory(key, server, length))


class EndToEnd(NamedTuple):
    """The rows of this part, and how busy the client was at most, as a share of one processor."""

    rows: List[Row]
    busy: float


def run(length: Length, tell: Callable[[str], None]) -> EndToEnd:
    """Return the rows of this part, measured."""
    rows = make_rows(length)
    bench = Bench(rows)
    for number, key in itertools.product(range(length.memory_rounds), MEMORY):
        tell('Memory: round %d of %d' % (number + 1, length.memory_rounds))
        # New servers each time: what a connection has used once, the next may have for nothing.
        with bench.running(name for name in (*TITLES, BARE_AGAIN) if name not in bench.rows[key].missing):
            bench.run_memory(key, length)
            if number == 0 and key == 'memory':
                bench.run_rates(length, tell)
    return EndToEnd(rows, bench.busy)
