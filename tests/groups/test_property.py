"""The promise of groups, for random joins, sends, resumes, kills and restarts: a contiguous run, or being told."""

import asyncio
import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws import GroupsUnavailable, PositionLost
from tests.groups.members import Inbox, new_prefix, process
from tests.groups.redis_server import redis_server, until
from tests.groups.test_faults import LOST, check
from tests.needs import needs_redis
from tests.sizes import examples

JOIN, LEAVE, SEND, RESUME, BURST = 'join', 'leave', 'send', 'resume', 'burst'
CUT, RESTART, FLUSH = 'cut', 'restart', 'flush'
STEPS = [JOIN, LEAVE, SEND, SEND, RESUME, BURST]
FAULTS = [CUT, RESTART, FLUSH]


class Log(Inbox):
    """What one client got, over all its connections."""

    def __init__(self):
        super().__init__()
        self.stack = contextlib.AsyncExitStack()
        self.group = None

    async def on_lost(self, lost):
        await self(LOST)

    async def join(self, groups, since=None):
        joining = groups.join('a', self.take(), since=since, on_lost=self.on_lost)
        self.group = await self.stack.enter_async_context(joining)

    def take(self):
        """Return a function of its own: the same cannot join twice."""

        async def take(message):
            await self(message)

        return take


class World:
    """Some clients of two processes, and all that was sent."""

    def __init__(self, here, there, redis=None):
        self.processes = [here, there]
        self.redis = redis
        self.logs, self.left = [], []
        self.accepted, self.refused, self.unknown = [], [], []
        self._number = 0

    async def run(self, steps):
        for step, which in steps:
            await getattr(self, step)(which)
        await self.settle()

    async def join(self, which):
        log = Log()
        with contextlib.suppress(GroupsUnavailable):
            await log.join(self.processes[which % 2])
            self.logs.append(log)

    async def leave(self, which):
        if self.logs:
            log = self.logs.pop(which % len(self.logs))
            await log.stack.aclose()
            self.left.append(log)

    async def resume(self, which):
        """Have a client come back to the other process with its position, as a page does that reconnects."""
        if not self.logs:
            return
        log = self.logs[which % len(self.logs)]
        await log.stack.aclose()
        since, log.stack = log.group.position, contextlib.AsyncExitStack()
        deadline = asyncio.get_running_loop().time() + 20
        while True:
            try:
                return await log.join(self.processes[which % 2], since)
            except PositionLost:
                await log.on_lost(None)
                since = None
            except GroupsUnavailable:  # pragma: no cover
                # Whether it is noticed by then is a matter of milliseconds.
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.02)

    async def send(self, which):
        number = str(self._number)
        self._number += 1
        try:
            await self.processes[which % 2].send('a', number)
        except GroupsUnavailable as exc:
            (self.unknown if exc.maybe_sent else self.refused).append(number)
        else:
            self.accepted.append(number)

    async def burst(self, which):
        for _ in range(10):
            await self.send(which)

    async def cut(self, which):
        self.redis.command('CLIENT', 'KILL', 'TYPE', 'pubsub' if which % 2 else 'normal')

    async def flush(self, which):
        self.redis.command('FLUSHALL')

    async def restart(self, which):
        self.redis.kill()
        self.redis.start()

    async def settle(self):
        """Send until it works again, and see that every client has got the last message."""
        wanted = len(self.accepted) + 2
        while len(self.accepted) < wanted:
            await self.send(0)
            await asyncio.sleep(0.01)
        last = self.accepted[-1]
        for log in self.logs:
            await until(lambda log=log: log.messages[-1:] == [last], 'the last message')
        for log in self.logs:
            await log.stack.aclose()
        for log in self.logs + self.left:
            check(log.messages, self)


steps_of = lambda names, size: st.lists(  # noqa: E731
    st.tuples(st.sampled_from(names), st.integers(0, 7)), max_size=size
)


@examples(30, 200)
@given(steps_of(STEPS, 40), st.sampled_from([1, 5, 1000]))
def test_in_one_process_every_log_is_a_contiguous_run_or_its_owner_was_told(steps, max_queue):
    async def main():
        async with process(None, history=20, max_queue=max_queue) as groups:
            await World(groups, groups).run(steps)

    asyncio.run(main())


@needs_redis
@examples(8, 30)
@given(steps=steps_of(STEPS + FAULTS, 25))
@example(steps=[(JOIN, 0), (BURST, 0), (FLUSH, 0), (SEND, 0), (SEND, 0), (RESUME, 1), (SEND, 0)])
@example(steps=[(JOIN, 0), (JOIN, 1), (BURST, 0), (LEAVE, 0), (FLUSH, 0), (RESUME, 1), (BURST, 1), (RESTART, 0)])
def test_through_faults_of_redis_every_log_is_a_contiguous_run_or_its_owner_was_told(tmp_path_factory, steps):
    async def main():
        with redis_server(tmp_path_factory.mktemp('redis')) as redis:
            options = {'prefix': new_prefix(), 'history': 20}
            async with process(redis.url, **options) as here, process(redis.url, **options) as there:
                await World(here, there, redis).run(steps)

    asyncio.run(main())
