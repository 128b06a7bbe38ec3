"""The measure: processor time of one message to all members of a group, whose sends are fake."""

import asyncio
import contextlib
import gc
import random
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from tests.benchmarks.contenders import OURS
from tests.benchmarks.groups import members
from tests.benchmarks.groups.members import TEXT, Broadcast, Crowd
from tests.benchmarks.groups.table import CHANNELS, GATHER, LOOP, MEMORY, PUBSUB, SECTION, STREAM
from tests.benchmarks.in_process import why
from tests.benchmarks.results import Row
from tests.benchmarks.scripted import Wrong

#: Seconds that a sample may take.
PATIENCE = 30.0


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    members: int
    burst: int
    #: Messages, and bursts, of one sample.
    messages: int
    bursts: int


FULL = Size(rounds=15, members=1000, burst=20, messages=10, bursts=2)
QUICK = Size(rounds=2, members=100, burst=20, messages=3, bursts=1)

Contender = Callable[..., Any]
#: Of one process.
LOCAL: Dict[str, Contender] = {
    OURS: members.ours,
    MEMORY: members.litestar_memory,
    GATHER: members.gathered,
    LOOP: members.bare_loop,
}
#: Over Redis.
REMOTE: Dict[str, Contender] = {
    OURS: members.ours_with_history,
    PUBSUB: members.litestar_pubsub,
    STREAM: members.litestar_stream,
    CHANNELS: members.channels_redis,
}


class Rows(NamedTuple):
    """One message, and several at once."""

    one: Row
    burst: Row

    def drop(self, contender: str, reason: str) -> None:
        """Take a contender out of both."""
        self.one.drop(contender, reason)
        self.burst.drop(contender, reason)


def make_rows(key: str, where: str, size: Size) -> Rows:
    """Return the rows of all members in one place."""
    title = 'To {:,} members {}, '.format(size.members, where)
    return Rows(
        Row(key + ' one', title + 'one message', 'ms', SECTION),
        Row(key + ' burst', title + 'a burst of %d, each' % size.burst, 'ms', SECTION),
    )


async def measure(broadcast: Broadcast, crowd: Crowd, size: Size, count: int, times: int) -> float:
    """Return the milliseconds of processor time for each of ``count`` messages at once, so many times."""
    gc.collect()
    begun = time.process_time_ns()
    for _ in range(times):
        done = crowd.expect(count * size.members)
        await broadcast([TEXT] * count)
        await asyncio.wait_for(done, PATIENCE)
    taken = time.process_time_ns() - begun
    await asyncio.sleep(0)
    if crowd.left:
        raise Wrong('%d sends were called too often' % -crowd.left)
    return taken / (count * times) / 1e6


class Entry(NamedTuple):
    """A contender that is there."""

    crowd: Crowd
    broadcast: Broadcast


async def take_samples(rows: Rows, contender: str, entry: Entry, size: Size) -> None:
    """Take a sample for both rows."""
    rows.one.add(contender, await measure(entry.broadcast, entry.crowd, size, 1, size.messages))
    rows.burst.add(contender, await measure(entry.broadcast, entry.crowd, size, size.burst, size.bursts))


async def enter(stack: contextlib.AsyncExitStack, make: Contender, url: Optional[str], size: Size) -> Entry:
    """Return a contender, with its members, which have had a message."""
    crowd = Crowd()
    sends = [crowd.member() for _ in range(size.members)]
    entry = Entry(crowd, await stack.enter_async_context(make(sends, url)))
    await measure(entry.broadcast, crowd, size, 1, 2)
    return entry


async def run_place(
    rows: Rows, contenders: Dict[str, Contender], url: Optional[str], size: Size, tell: Callable[[str], None]
) -> None:
    """Take all samples of one place."""
    async with contextlib.AsyncExitStack() as stack:
        entries: Dict[str, Entry] = {}
        for contender, make in contenders.items():
            try:
                entries[contender] = await enter(stack, make, url, size)
            except Exception as exc:
                rows.drop(contender, why(exc))
        gc.collect()
        gc.freeze()
        for number in range(size.rounds):
            tell('Groups: %s, round %d of %d' % (rows.one.title, number + 1, size.rounds))
            await run_round(rows, entries, size)
        gc.unfreeze()


async def run_round(rows: Rows, entries: Dict[str, Entry], size: Size) -> None:
    """Take the samples of all contenders, in random order."""
    for contender in random.sample(list(entries), len(entries)):
        try:
            await take_samples(rows, contender, entries[contender], size)
        except Exception as exc:
            rows.drop(contender, why(exc))
            del entries[contender]


async def run(size: Size, url: Optional[str], tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    local = make_rows('local', 'in one process', size)
    await run_place(local, LOCAL, None, size, tell)
    if url is None:
        return list(local)
    remote = make_rows('remote', 'over Redis, with history', size)
    await run_place(remote, REMOTE, url, size, tell)
    return [*local, *remote]
