"""The measure: processor time of one message to all members of a group, whose sends are fake."""

import asyncio
import contextlib
import functools
import gc
import random
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from tests.benchmarks.contenders import OURS
from tests.benchmarks.groups import members
from tests.benchmarks.groups.members import TEXT, Broadcast, Crowd
from tests.benchmarks.groups.table import CHANNELS, GATHER, LOOP, PUBSUB, SECTION, STREAM, MEMORY
from tests.benchmarks.in_process import why
from tests.benchmarks.results import Row

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
    CHANNELS: members.channels_redis,
}
#: Asks Redis a thousand times a second for as long as it is there, which it is therefore for its own samples only.
RESTLESS: Dict[str, Contender] = {STREAM: members.litestar_stream}


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
    return (time.process_time_ns() - begun) / (count * times) / 1e6


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


async def take_alone(rows: Rows, contender: str, make: Contender, url: Optional[str], size: Size) -> None:
    """Take the samples of a contender that is there for these only."""
    async with contextlib.AsyncExitStack() as stack:
        await take_samples(rows, contender, await enter(stack, make, url, size), size)


async def run_place(
    rows: Rows, resting: Dict[str, Contender], restless: Dict[str, Contender], url: Optional[str], size: Size,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Take all samples of one place."""
    async with contextlib.AsyncExitStack() as stack:
        takes: Dict[str, Any] = {}
        for contender, make in resting.items():
            try:
                entry = await enter(stack, make, url, size)
            except Exception as exc:
                rows.drop(contender, why(exc))
            else:
                takes[contender] = functools.partial(take_samples, rows, contender, entry, size)
        for contender, make in restless.items():
            takes[contender] = functools.partial(take_alone, rows, contender, make, url, size)
        gc.collect()
        gc.freeze()
        for number in range(size.rounds):
            tell('Groups: %s, round %d of %d' % (rows.one.title, number + 1, size.rounds))
            await run_round(rows, takes)
        gc.unfreeze()


async def run_round(rows: Rows, takes: Dict[str, Any]) -> None:
    """Take the samples of all contenders, in random order."""
    for contender in random.sample(list(takes), len(takes)):
        try:
            await takes[contender]()
        except Exception as exc:
            rows.drop(contender, why(exc))
            del takes[contender]


async def run(size: Size, url: Optional[str], tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    local = make_rows('local', 'in one process', size)
    await run_place(local, LOCAL, {}, None, size, tell)
    if url is None:
        return list(local)
    remote = make_rows('remote', 'over Redis, with history', size)
    await run_place(remote, REMOTE, RESTLESS, url, size, tell)
    return [*local, *remote]
