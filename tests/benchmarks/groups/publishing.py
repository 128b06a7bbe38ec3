"""The measure: how long a message takes through Redis, how many are taken in a second, and reading the members."""

import asyncio
import contextlib
import gc
import json
import random
import statistics
import time
from typing import Any, AsyncIterator, Awaitable, Callable, Dict, List, NamedTuple

from tests.benchmarks.contenders import OURS
from tests.benchmarks.groups import members
from tests.benchmarks.groups.members import HISTORY, INFO, TEXT, prefixes
from tests.benchmarks.groups.table import CHANNELS, ONE_GROUP, PUBSUB, REDIS_PY, SECTION
from tests.benchmarks.results import Row

#: Seconds that one message may take.
PATIENCE = 10.0


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    #: Messages of a sample of the latency, one after the other.
    trips: int
    #: Those who publish at once, and the messages of each in a sample.
    publishers: int
    messages: int
    #: Members that are read, and how often in a sample.
    members: int
    reads: int


FULL = Size(rounds=15, trips=60, publishers=50, messages=40, members=1000, reads=4)
QUICK = Size(rounds=2, trips=10, publishers=50, messages=4, members=100, reads=1)
#: Numbers of groups.
GROUPS = (1, 100, 1000)

#: Takes one sample.
Take = Callable[[], Awaitable[float]]


# From publishing to the mailbox


class Arrival:
    """Where a message arrives: notes when."""

    def __init__(self) -> None:
        self.at: 'asyncio.Future[float]' = asyncio.get_running_loop().create_future()

    def expect(self) -> 'asyncio.Future[float]':
        """Return the time of the next arrival, to come."""
        self.at = asyncio.get_running_loop().create_future()
        return self.at

    def note(self) -> None:
        """Note that a message is here."""
        self.at.set_result(time.perf_counter())

    def member(self) -> members.Send:
        """Return a member of some group."""

        async def send(message: Any) -> None:
            self.note()

        return send


async def measure_trips(publish: Callable[[], Any], arrival: Arrival, size: Size) -> float:
    """Return the median of the microseconds that messages take, one after the other."""
    gc.collect()
    times = []
    for _ in range(size.trips):
        at, begun = arrival.expect(), time.perf_counter()
        published = publish()
        times.append(await asyncio.wait_for(at, PATIENCE) - begun)
        if published is not None:
            await published
    return 1e6 * statistics.median(times)


@contextlib.asynccontextmanager
async def trips_of_ours(url: str, count: int, size: Size, history: int = 0) -> AsyncIterator[Take]:
    """Send to one of so many groups."""
    arrival = Arrival()
    names = ['room:%d' % number for number in range(count)]
    async with members.started_groups(url, history=history) as groups, contextlib.AsyncExitStack() as stack:
        for name in names:
            await stack.enter_async_context(groups.join(name, arrival.member()))
        yield lambda: measure_trips(lambda: groups.send(random.choice(names), TEXT), arrival, size)


@contextlib.asynccontextmanager
async def trips_of_litestar(url: str, count: int, size: Size) -> AsyncIterator[Take]:
    """Publish to one of so many channels."""
    arrival, mark = Arrival(), next(prefixes)
    names = ['room-%d-%d' % (mark, number) for number in range(count)]
    async with members.started_channels(members.pubsub_backend, url) as plugin, contextlib.AsyncExitStack() as stack:
        for name in names:
            subscriber = await stack.enter_async_context(plugin.start_subscription([name]))
            await stack.enter_async_context(subscriber.run_in_background(arrival.member(), join=False))
        yield lambda: measure_trips(lambda: plugin.publish(TEXT, [random.choice(names)]), arrival, size)


async def listen(pubsub: Any, arrival: Arrival) -> None:
    """Note what comes."""
    async for message in pubsub.listen():
        if message['type'] == 'message':
            arrival.note()


@contextlib.asynccontextmanager
async def trips_of_redis_py(url: str, size: Size) -> AsyncIterator[Take]:
    """Publish and listen with redis-py, and nothing else."""
    arrival, channel = Arrival(), 'bare-%d' % next(prefixes)
    async with members.redis_client(url) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        listening = asyncio.ensure_future(listen(pubsub, arrival))
        await asyncio.sleep(0.05)

        def publish() -> Any:
            return asyncio.ensure_future(client.publish(channel, TEXT))

        yield lambda: measure_trips(publish, arrival, size)
        listening.cancel()
        await asyncio.wait([listening])


def trip_rows() -> List[Row]:
    """Return the rows of the latency."""
    title = 'From send to member over Redis, p50, '
    rows = [Row('trip %d' % count, title + group_count(count), 'µs', SECTION) for count in GROUPS]
    rows.append(Row('trip history', title + '1 group with history', 'µs', SECTION))
    rows.append(Row('trip flat', title + '{:,} groups beside 1'.format(GROUPS[-1]), 'µs', SECTION))
    return rows


def group_count(count: int) -> str:
    """Return how the table names a number of groups."""
    return '1 group' if count == 1 else '{:,} groups'.format(count)


async def run_trips(size: Size, url: str, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of the latency, measured."""
    rows = {row.key: row for row in trip_rows()}
    async with contextlib.AsyncExitStack() as stack:
        takes: Dict[Any, Take] = {REDIS_PY: await stack.enter_async_context(trips_of_redis_py(url, size))}
        takes['trip history'] = await stack.enter_async_context(trips_of_ours(url, 1, size, HISTORY))
        for count in GROUPS:
            takes[OURS, count] = await stack.enter_async_context(trips_of_ours(url, count, size))
            takes[PUBSUB, count] = await stack.enter_async_context(trips_of_litestar(url, count, size))
        for number in range(size.rounds):
            tell('Groups: latency, round %d of %d' % (number + 1, size.rounds))
            found = {key: await takes[key]() for key in random.sample(list(takes), len(takes))}
            if number or size.rounds < 3:
                add_trips(rows, found)
    return list(rows.values())


def add_trips(rows: Dict[str, Row], found: Dict[Any, float]) -> None:
    """Note the samples of one round."""
    for count in GROUPS:
        row = rows['trip %d' % count]
        row.add(OURS, found[OURS, count])
        row.add(PUBSUB, found[PUBSUB, count])
        row.add(REDIS_PY, found[REDIS_PY])
    rows['trip history'].add(OURS, found['trip history'])
    rows['trip history'].add(REDIS_PY, found[REDIS_PY])
    rows['trip flat'].add(OURS, found[OURS, GROUPS[-1]])
    rows['trip flat'].add(ONE_GROUP, found[OURS, GROUPS[0]])


# Publishing


async def measure_rate(publish: Callable[[], Awaitable[Any]], size: Size) -> float:
    """Return how many messages a second are taken, from so many who await each of theirs."""

    async def publish_some() -> None:
        for _ in range(size.messages):
            await publish()

    gc.collect()
    begun = time.perf_counter()
    await asyncio.gather(*[publish_some() for _ in range(size.publishers)])
    return size.publishers * size.messages / (time.perf_counter() - begun)


async def run_rates(size: Size, url: str, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of publishing, measured."""
    title = 'Messages published a second, %d at once' % size.publishers
    plain = Row('publish', title, '/s', SECTION, more_is_better=True)
    kept = Row('publish history', title + ', with history', '/s', SECTION, more_is_better=True)
    async with contextlib.AsyncExitStack() as stack:
        groups = await stack.enter_async_context(members.started_groups(url))
        keeping = await stack.enter_async_context(members.started_groups(url, history=HISTORY))
        plugin = await stack.enter_async_context(members.started_channels(members.pubsub_backend, url))
        client = await stack.enter_async_context(members.redis_client(url))
        layer = await stack.enter_async_context(members.started_layer(url))
        message = {'type': 'chat.message', 'text': TEXT}
        publishes: Dict[str, Callable[[], Awaitable[Any]]] = {
            OURS: lambda: groups.send(members.ROOM, TEXT),
            'history': lambda: keeping.send(members.ROOM, TEXT),
            PUBSUB: lambda: plugin.wait_published(TEXT, ['lobby']),
            CHANNELS: lambda: layer.group_send('lobby', message),
            REDIS_PY: lambda: client.publish('lobby', TEXT),
        }
        await take_rates(publishes, plain, kept, size, tell)
    return [plain, kept]


async def take_rates(
    publishes: Dict[str, Callable[[], Awaitable[Any]]], plain: Row, kept: Row, size: Size, tell: Callable[[str], None]
) -> None:
    """Take all samples of publishing; the first round is not counted."""
    for number in range(size.rounds + 1):
        tell('Groups: publishing, round %d of %d' % (number, size.rounds))
        for name in random.sample(list(publishes), len(publishes)):
            rate = await measure_rate(publishes[name], size)
            if not number:
                continue
            if name != 'history':
                plain.add(name, rate)
            if name in ('history', REDIS_PY):
                kept.add(OURS if name == 'history' else name, rate)


# Members


async def measure_reads(read: Callable[[], Awaitable[Any]], size: Size) -> float:
    """Return the milliseconds of reading all members."""
    gc.collect()
    begun = time.perf_counter()
    for _ in range(size.reads):
        if len(await read()) != size.members:
            raise ValueError('not all members were read')
    return 1000 * (time.perf_counter() - begun) / size.reads


async def run_members(size: Size, url: str, tell: Callable[[str], None]) -> List[Row]:
    """Return the row of the members, measured."""
    row = Row('members', 'members() of {:,} over Redis'.format(size.members), 'ms', SECTION)
    crowd = members.Crowd()
    async with contextlib.AsyncExitStack() as stack:
        groups = await stack.enter_async_context(members.started_groups(url))
        client = await stack.enter_async_context(members.redis_client(url))
        for _ in range(size.members):
            await stack.enter_async_context(groups.join(members.ROOM, crowd.member(), info=INFO))
        entries = {member.id: json.dumps(member) for member in await groups.members(members.ROOM)}
        await client.hset('bare-members', mapping=entries)

        async def read_hash() -> Dict[bytes, Any]:
            return {id: json.loads(entry) for id, entry in (await client.hgetall('bare-members')).items()}

        reads: Dict[str, Any] = {OURS: lambda: groups.members(members.ROOM), REDIS_PY: read_hash}
        for number in range(size.rounds):
            tell('Groups: members, round %d of %d' % (number + 1, size.rounds))
            for contender in random.sample(list(reads), len(reads)):
                row.add(contender, await measure_reads(reads[contender], size))
    return [row]


async def run(size: Size, url: str, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    rows: List[Row] = []
    for part in (run_trips, run_rates, run_members):
        rows += await part(size, url, tell)
    return rows
