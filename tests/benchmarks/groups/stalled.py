"""The measure: what others feel of one member that has stopped to read."""

import random
from typing import Callable, List, NamedTuple

from tests.benchmarks.contenders import OURS
from tests.benchmarks.end_to_end import Process
from tests.benchmarks.groups.sockets import Server, ask, drop
from tests.benchmarks.groups.table import ALL_READ, GATHER, MEMORY, SECTION
from tests.benchmarks.results import Row


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    connections: int
    #: Messages to all of them, the seconds between two, and the bytes of one.
    messages: int
    interval: float
    bytes: int
    #: Seconds that the last of them may take.
    patience: float


FULL = Size(rounds=3, connections=200, messages=125, interval=0.02, bytes=4096, patience=1.0)
QUICK = Size(rounds=1, connections=20, messages=100, interval=0.02, bytes=4096, patience=0.5)
#: Of each socket, in bytes: some of a client's messages fill it.
SEND_BUFFER = 32_768
NAMES = {OURS: 'ours', GATHER: 'gather', MEMORY: 'litestar memory'}


def measure(name: str, is_stalled: bool, size: Size) -> float:
    """Return the 99th percentile of the milliseconds that messages take, to those who read."""
    server, client = Server(name, send_buffer=SEND_BUFFER), Process('tests.benchmarks.groups.listening')
    try:
        server.wait()
        server.open(client, size.connections)
        (port,) = server.ports
        if is_stalled:
            ask(client, 'stall %d' % port)
        ask(client, 'time %d' % port)
        begun = ask(server.processes[0], 'stream %d %g %d' % (size.messages, size.interval, size.bytes))['begun']
        question = 'times %d %f %g %d %g' % (port, begun, size.interval, size.messages, size.patience)
        return 1000 * float(ask(client, question)['p99'])
    finally:
        server.stop()
        client.stop()


def run(size: Size, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    title = 'One of %d sockets does not read, p99 of the others' % size.connections
    row = Row('stalled', title, 'ms', SECTION)
    others = {
        contender: Row('stalled ' + contender, '%s, %s' % (title, said), 'ms', SECTION)
        for contender, said in ((GATHER, 'gather in place of groups'), (MEMORY, 'Litestar in place of groups'))
    }
    rows = {OURS: row, **others}
    for number in range(size.rounds):
        tell('Groups: one does not read, round %d of %d' % (number + 1, size.rounds))
        for contender in random.sample(list(NAMES), len(NAMES)):
            for is_stalled in random.sample((True, False), 2):
                try:
                    sample = measure(NAMES[contender], is_stalled, size)
                except Exception as exc:
                    drop([rows[contender]], OURS if is_stalled else ALL_READ, exc)
                else:
                    # In the rows of the others, theirs stands where ours does.
                    rows[contender].add(OURS if is_stalled else ALL_READ, sample)
    return list(rows.values())
