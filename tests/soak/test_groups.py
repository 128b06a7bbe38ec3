"""Random faults of Redis and of the way to it, with recording members: nothing lost silently, no ghost, nobody missing.

Some seconds, a minute with ``SOAK=1``, and as many seconds as ``SOAK`` says.
"""

import asyncio
import contextlib
import os
import random
import time

from apistar_ws import GroupsUnavailable, PositionLost
from tests.groups.members import new_prefix, process
from tests.groups.redis_server import Proxy, until
from tests.groups.test_faults import LOST, Publishing, Witness, check, opened
from tests.groups.test_sessions import follow, two_servers
from tests.needs import needs_redis
from tests.sizes import soak

SOAK = os.environ.get('SOAK', '')
SECONDS = {'': 10, '1': 60}[SOAK] if SOAK in ('', '1') else int(SOAK)
GROUPS = ('a', 'b', 'c')
#: Members of each group in each of the processes.
MEMBERS = 2
PROCESSES = 4
#: Seconds within which everything has to be right after the last fault.
PROMISED = 10.0


class Recorder:
    """A client that comes back with its position whenever it has left, and records what it gets and is told."""

    def __init__(self, groups, name, chance):
        self.witness, self.name = Witness(), name
        self._groups, self._chance = groups, chance
        self._leaving = asyncio.Event()
        self.is_in = False

    async def run(self):
        since = None
        while True:
            self._leaving.clear()
            try:
                joining = self._groups.join(self.name, self._take(), since=since, on_lost=self.witness.on_lost)
                async with joining as group:
                    self.is_in = True
                    await self._leaving.wait()
                since = group.position
            except PositionLost:
                await self.witness.on_lost(None)
                since = None
            except GroupsUnavailable:
                await asyncio.sleep(0.1)
            self.is_in = False

    def has_reached(self, number):
        """Return whether it has got a message, or a later one: what was lost in between was told."""
        numbers = [text for text in self.witness.messages[-2:] if text != LOST]
        return bool(numbers) and int(numbers[-1]) >= number

    def leave(self):
        """Have it leave, and come back at once."""
        self._leaving.set()

    def _take(self):
        async def take(message):
            await self.witness(message)
            if self._chance.random() < 0.01:
                await asyncio.sleep(self._chance.random())

        return take


class Faults:
    """What may happen to two servers and the way to them; each is over when it returns."""

    def __init__(self, servers, proxy, prefix, chance):
        self.servers, self.proxy, self.prefix, self.chance = list(servers), proxy, prefix, chance

    @property
    def primary(self):
        return self.servers[0]

    async def pause(self):
        await asyncio.sleep(self.chance.uniform(0.1, 3.0))

    async def kill(self):
        self.primary.kill()
        await self.pause()
        self.primary.start()

    async def freeze(self):
        self.primary.freeze()
        await self.pause()
        self.primary.thaw()

    async def pause_clients(self):
        self.primary.command('CLIENT', 'PAUSE', str(self.chance.randrange(100, 3000)), 'ALL')
        await self.pause()

    async def kill_connections(self):
        self.primary.command('CLIENT', 'KILL', 'TYPE', self.chance.choice(['pubsub', 'normal']))

    async def cut(self):
        self.proxy.cut()

    async def swallow(self):
        which = self.chance.choice(['passes_commands', 'passes_answers'])
        setattr(self.proxy, which, False)
        await self.pause()
        setattr(self.proxy, which, True)
        # What was swallowed does not come: the connections are of no use.
        self.proxy.cut()

    async def delete(self):
        keys = self.primary.keys(self.prefix)
        if keys:
            self.primary.command('DEL', self.chance.choice(keys))

    async def flush(self):
        self.primary.command('FLUSHALL')

    async def fill_memory(self):
        self.primary.command('CONFIG', 'SET', 'maxmemory', '1')
        await self.pause()
        self.primary.command('CONFIG', 'SET', 'maxmemory', '0')

    async def fail_over(self):
        """Promote the other server, with what it has by then, and have the first one follow it."""
        first, second = self.servers
        second.command('REPLICAOF', 'NO', 'ONE')
        self.proxy._target = second.port
        if self.chance.random() < 0.5:
            self.proxy.cut()
            await self.pause()
        await follow(first, second.port)
        self.servers.reverse()

    async def any(self):
        names = ['kill', 'freeze', 'pause_clients', 'kill_connections', 'cut', 'swallow', 'delete', 'delete', 'flush']
        name = self.chance.choice([*names, 'fill_memory', 'fail_over'])
        await getattr(self, name)()
        return name


async def until_right(processes, recorders, publishers):
    """Return when each member has got the last message and all members are listed."""
    for groups in processes:
        await opened(groups)
    for publisher in publishers.values():
        await publisher.more(3)
    await until(lambda: all(recorder.is_in for recorder in recorders), 'all to be members again', PROMISED)
    for name, publisher in publishers.items():
        last = int(publisher.accepted[-1])
        there = [recorder for recorder in recorders if recorder.name == name]
        await until(lambda there=there, last=last: all(r.has_reached(last) for r in there), str(last), PROMISED)
        await until_listed(processes, name)


async def until_listed(processes, name):
    """Return when each process lists all members of a group, and no ghost."""
    deadline, counts = time.monotonic() + PROMISED, []
    while counts != [PROCESSES * MEMBERS] * PROCESSES:
        assert time.monotonic() < deadline, counts
        await asyncio.sleep(0.05)
        with contextlib.suppress(GroupsUnavailable):
            counts = [await groups.count(name) for groups in processes]


@soak
@needs_redis
async def test_random_faults_lose_nothing_silently(tmp_path):
    seed = int(os.environ.get('SEED', time.time_ns() % 10**6))
    print('SEED=%d' % seed)
    chance, prefix, seen = random.Random(seed), new_prefix(), []
    options = {'prefix': prefix, 'history': 500, 'lease': 5.0, 'publish_timeout': 2.0}
    with two_servers(tmp_path) as servers:
        await follow(servers[1], servers[0].port)
        async with Proxy(servers[0].port) as proxy, contextlib.AsyncExitStack() as stack:
            processes = [await stack.enter_async_context(process(proxy.url, **options)) for _ in range(PROCESSES)]
            recorders = [Recorder(p, name, chance) for p in processes for name in GROUPS for _ in range(MEMBERS)]
            running = [asyncio.ensure_future(recorder.run()) for recorder in recorders]
            publishers = {
                name: await stack.enter_async_context(Publishing(groups, name, pause=0.01))
                for name, groups in zip(GROUPS, processes)
            }
            faults, end = Faults(servers, proxy, prefix, chance), time.monotonic() + SECONDS
            await until_right(processes, recorders, publishers)
            while time.monotonic() < end:
                for _ in range(chance.randrange(1, 4)):
                    seen.append(await faults.any())
                    chance.choice(recorders).leave()
                    await asyncio.sleep(chance.uniform(0, 0.5))
                await until_right(processes, recorders, publishers)
            for task in running:
                task.cancel()
            await asyncio.wait(running)
        for recorder in recorders:
            check(recorder.witness.messages, publishers[recorder.name])
    lost = sum(recorder.witness.messages.count(LOST) for recorder in recorders)
    accepted = sum(len(publisher.accepted) for publisher in publishers.values())
    print('%d faults, %d accepted messages, %d losses told: %s' % (len(seen), accepted, lost, sorted(set(seen))))
