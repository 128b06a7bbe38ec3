"""The measure: what an application costs, with scripted receive and send, in one process and one event loop."""

import asyncio
import contextlib
import gc
import itertools
import json
import random
import time
from typing import Any, Awaitable, Callable, Dict, Iterator, List, NamedTuple, Type

from tests.benchmarks.contenders import TITLES, load
from tests.benchmarks.contenders.guards import Counter
from tests.benchmarks.contenders.payloads import MOVE, MOVED, ORDER, RECEIPT
from tests.benchmarks.results import Row
from tests.benchmarks.scripted import (
    ECHO_DUE,
    TEXT,
    VALUE,
    PreparedScript,
    Script,
    Wrong,
    check_echo,
    check_refused,
    check_talk,
    make_scope,
    started,
)

SECTION = 'In process'
QUERY = 'limit=50'
ROOM = 'lobby'
#: Numbers that make a path new.
numbers = itertools.count(1_000_000)


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    #: Connections per sample, of the rows that count connections; fewer with as many routes.
    connections: int
    connections_of_many: int
    #: Connections per sample, and messages in each, of the rows that count messages.
    conversations: int
    messages: int
    #: Connections before the first sample on new paths: more than any contender remembers.
    warm_up: int


FULL = Size(21, connections=600, connections_of_many=250, conversations=5, messages=2000, warm_up=5000)
QUICK = Size(2, connections=200, connections_of_many=100, conversations=2, messages=500, warm_up=100)
#: So many routes are many.
MANY = 1000
#: Connections that are made at a time, right before they are measured: what is new is in the caches, as it is for a
#: server that has just read it.
BATCH = 10


class Job(NamedTuple):
    """What one row measures."""

    row: Row
    #: Makes the application, given the module of a contender.
    build: Callable[[Any], Any]
    #: Raises if the application does not do the work.
    check: Callable[[Any], Awaitable[None]]
    #: Makes the connections of one sample.
    scripts: Callable[[Size], Iterator[Script]]
    #: Makes the connections that go before the first sample.
    warm_up: Callable[[Size], Iterator[Script]]
    #: What a sample of so many connections is divided by.
    units: Callable[[Size, int], int]


def echo_script(path: str) -> Script:
    """Return a connection that sends one text."""
    return Script(make_scope(path), TEXT.encode(), ECHO_DUE)


def drawn(count: int, total: int) -> List[int]:
    """Return ``total`` routes of ``count``, drawn evenly, in random order."""
    step = max(1, count // total)
    routes = list(range(random.randrange(step), count, step)) * max(1, total // count)
    random.shuffle(routes)
    return routes


def sample_size(count: int, size: Size) -> int:
    """Return how many connections a sample has with ``count`` routes."""
    return size.connections_of_many if count >= MANY else size.connections


def seen_job(count: int) -> Job:
    """Return the job of connections with ``count`` routes, on paths seen before."""

    def make(total: int) -> Iterator[Script]:
        return (echo_script('/chat%d/%s' % (index, ROOM)) for index in drawn(count, total))

    row = Row('seen %d' % count, 'Connection, %s, path seen before' % routes_title(count), 'µs', SECTION)
    # Every path is seen before the first sample.
    return connection_job(row, count, make, lambda size: make(max(count, size.connections)))


def new_job(count: int) -> Job:
    """Return the job of connections with ``count`` routes, on a new path each time."""

    def make(total: int) -> Iterator[Script]:
        return (echo_script('/chat%d/%d' % (index, next(numbers))) for index in drawn(count, total))

    row = Row('new %d' % count, 'Connection, %s, new path each time' % routes_title(count), 'µs', SECTION)
    return connection_job(row, count, make, lambda size: make(size.warm_up))


def routes_title(count: int) -> str:
    """Return how the table names a number of routes."""
    return '1 route' if count == 1 else '{:,} routes'.format(count)


def connection_job(
    row: Row, count: int, make: Callable[[int], Iterator[Script]], warm_up: Callable[[Size], Iterator[Script]]
) -> Job:
    """Return a job of connections with one message each; ``make`` makes so many of them."""

    def scripts(size: Size) -> Iterator[Script]:
        return make(sample_size(count, size))

    async def check(app: Any) -> None:
        for index in {0, count // 2, count - 1}:
            await check_echo(app, '/chat%d/%s' % (index, ROOM), ROOM)

    return Job(row, lambda module: module.build(count), check, scripts, warm_up, lambda size, n: n)


def guarded_job() -> Job:
    """Return the job of connections with three derived values and two guards."""

    async def check(app: Any) -> None:
        path = '/chat0/' + ROOM
        await check_echo(app, path, (ROOM, 'ann', 'en-GB', 50), QUERY, proxied=True)
        await check_refused(app, path, QUERY, 'user-agent', 'Examplebot/1.0')
        await check_refused(app, path, QUERY, 'host', 'other.example')

    def scripts(size: Size) -> Iterator[Script]:
        for _ in range(size.connections):
            yield Script(make_scope('/chat%d/%s' % (0, ROOM), QUERY, proxied=True), TEXT.encode(), ECHO_DUE)

    row = Row('guarded', 'Connection, 1 route, three components and two hooks', 'µs', SECTION)
    return Job(row, lambda module: module.guarded(), check, scripts, scripts, lambda size, n: n)


def counted_job() -> Job:
    """Return the job of connections with a guard that waits, a counter, and values that depend on each other."""
    path, query = '/chat0/' + ROOM, 'offset=20&limit=10'

    async def check(app: Any) -> None:
        session = '5b1d0c6a8f3e4d27'
        await check_echo(app, path, (ROOM, session, 'account of ' + session, 20, 10), query)
        await check_refused(app, path, query, 'cookie', 'theme=dark')
        if Counter.open:
            raise Wrong('it has counted %d connections too many' % Counter.open)

    def scripts(size: Size) -> Iterator[Script]:
        for _ in range(size.connections):
            yield Script(make_scope(path, query), TEXT.encode(), ECHO_DUE)

    row = Row('counted', 'Connection, 1 route, three other components and two other hooks', 'µs', SECTION)
    return Job(row, lambda module: module.counted(), check, scripts, scripts, lambda size, n: n)


def conversations(module: Any) -> Any:
    """Return the application of a contender whose connections stay."""
    return module.conversations()


def typed(module: Any) -> Any:
    """Return the application of a contender with messages of declared types."""
    return module.typed()


def message_job(
    key: str,
    title: str,
    value: Any,
    answer: Any = None,
    build: Callable[[Any], Any] = conversations,
    script: Type[Script] = Script,
) -> Job:
    """Return a job of connections with many messages, which are echoed where there is no ``answer``."""
    payload = (value if isinstance(value, str) else json.dumps(value)).encode()
    path = '/%s/%s' % (key.partition(' ')[0], ROOM)

    def scripts(size: Size) -> Iterator[Script]:
        for _ in range(size.conversations):
            yield script(make_scope(path), payload, size.messages + 1, size.messages)

    return Job(
        Row(key, title, 'µs', SECTION),
        build,
        lambda app: check_talk(app, path, ROOM, value, answer),
        scripts,
        scripts,
        lambda size, n: n * size.messages,
    )


#: What an application answers with.
KINDS = [('instance', 'an instance'), ('dict', 'a dict')]


def typed_job(key: str, what: str, value: Any, answer: Any) -> Job:
    """Return a job of messages of declared types."""
    return message_job(key, 'Typed message in, %s' % what, value, answer, typed)


def make_jobs() -> List[Job]:
    """Return all jobs, in the order of the table."""
    return [
        *[seen_job(count) for count in (1, 100, 1000)],
        *[new_job(count) for count in (1, 100, 1000)],
        guarded_job(),
        counted_job(),
        message_job('talk', 'Message received and sent, while True', TEXT),
        message_job('talk made', 'The same, messages made beforehand', TEXT, script=PreparedScript),
        message_job('each', 'Message received and sent, async for', TEXT),
        message_job('each made', 'The same, async for, messages made beforehand', TEXT, script=PreparedScript),
        message_job('json', 'JSON message received and sent', VALUE),
        message_job('json-orjson', 'JSON message received and sent, orjson', VALUE, build=typed),
        *[
            typed_job('order-%s%s' % (kind, ending), '%s out%s' % (title, codec), ORDER, RECEIPT)
            for ending, codec in [('', ''), ('-orjson', ', orjson')]
            for kind, title in KINDS
        ],
        *[typed_job('move-' + kind, '%s out, other types' % title, MOVE, MOVED) for kind, title in KINDS],
    ]


class Entry(NamedTuple):
    """An application that takes part in a job."""

    contender: str
    app: Any


async def run_batch(app: Any, scripts: List[Script]) -> int:
    """Return the nanoseconds of processor time that ``app`` takes for these connections, one after the other."""
    calls = [(script.scope, script.receive, script.send) for script in scripts]
    begun = time.process_time_ns()
    for scope, receive, send in calls:
        await app(scope, receive, send)
    return time.process_time_ns() - begun


async def measure(job: Job, app: Any, scripts: Iterator[Script], size: Size) -> float:
    """Return one sample in microseconds, once it is certain that the work was done."""
    taken = count = 0
    gc.collect()
    while batch := list(itertools.islice(scripts, BATCH)):
        taken += await run_batch(app, batch)
        count += len(batch)
        require_work(batch)
    # Timers and callbacks that the application has left get their turn outside of the measurement.
    await asyncio.sleep(0)
    return taken / job.units(size, count) / 1000


def require_work(scripts: List[Script]) -> None:
    """Raise for a connection that was not sent what it should have been."""
    for script in scripts:
        if script.sent != script.due:
            raise Wrong('it sent %d messages where %d were due' % (script.sent, script.due))


def why(exc: Exception) -> str:
    """Return the reason that the page gives for a contender that is not in a row."""
    text = str(exc).split('\n')[0]
    return '%s: %s' % (type(exc).__name__, text[:120]) if text else type(exc).__name__


async def enter(job: Job, contender: str, module: Any, size: Size, stack: contextlib.AsyncExitStack) -> List[Entry]:
    """Return the contender's application for a job, checked and warmed up, or nothing if it cannot take part."""
    if job.row.key in module.MISSING:
        job.row.drop(contender, module.MISSING[job.row.key])
        return []
    try:
        app = await stack.enter_async_context(started(job.build(module)))
        await job.check(app)
        await measure(job, app, job.warm_up(size), size)
    except Exception as exc:
        job.row.drop(contender, why(exc))
        return []
    return [Entry(contender, app)]


def load_all(rows: List[Row]) -> Dict[str, Any]:
    """Return the modules of the contenders whose packages are there; the others are in none of the rows."""
    modules = {}
    for contender in TITLES:
        try:
            modules[contender] = load(contender)
        except Exception as exc:
            for row in rows:
                row.drop(contender, why(exc))
    return modules


async def run_round(job: Job, entries: List[Entry], size: Size) -> None:
    """Take one sample of each contender, in random order."""
    for contender, app in random.sample(entries, len(entries)):
        try:
            job.row.add(contender, await measure(job, app, job.scripts(size), size))
        except Exception as exc:
            job.row.drop(contender, why(exc))
            entries.remove(Entry(contender, app))


async def run_jobs(jobs: List[Job], size: Size, tell: Callable[[str], None]) -> None:
    """Take all samples of all jobs, a round of everything at a time."""
    modules = load_all([job.row for job in jobs])
    async with contextlib.AsyncExitStack() as stack:
        entries = {}
        for job in jobs:
            tell('In process: %s' % job.row.title)
            entered = [await enter(job, contender, module, size, stack) for contender, module in modules.items()]
            entries[job.row.key] = sum(entered, [])
        # What the applications consist of is not for the collector to look at while one of them is measured.
        gc.collect()
        gc.freeze()
        for number in range(size.rounds):
            tell('In process: round %d of %d' % (number + 1, size.rounds))
            for job in jobs:
                await run_round(job, entries[job.row.key], size)
        gc.unfreeze()


def run(size: Size, tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of this part, measured."""
    jobs = make_jobs()
    asyncio.run(run_jobs(jobs, size, tell))
    return [job.row for job in jobs]
