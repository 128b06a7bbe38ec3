"""What is left of groups: nothing, but for what has a time to live, and that only so long."""

import asyncio
import contextlib
import gc
import time

import pytest

from tests.clock import virtual
from tests.groups.members import Inbox, new_prefix, process, tick
from tests.groups.redis_server import until
from tests.needs import needs_redis
from tests.sizes import size, soak

JOINS = size(6000, 100_000)
NAMES = size(2000, 10_000)
#: Objects that a process may have more than before, of the interpreter's own.
SOME = 500


async def join_and_leave(groups, count, at_once=1):
    """Join and leave so often, spread over the names."""

    async def one(number):
        async with groups.join('room:%d' % (number % NAMES), Inbox(), info='x'):
            """It is in."""

    for begin in range(0, count, at_once):
        await asyncio.gather(*[one(number) for number in range(begin, begin + at_once)])


def what_is_held(groups):
    """Return how many of each thing the process holds."""
    hub = groups._hub
    held = [hub.joined, hub._sequences, hub._watches, hub._present, hub.reads._gathering]
    return [len(things) for things in held]


@soak
@virtual
async def test_many_joins_and_leaves_in_memory_leave_nothing_once_their_time_is_over():
    async with process(None, history=10, history_ttl=60) as groups:
        await join_and_leave(groups, NAMES)
        gc.collect()
        before = len(gc.get_objects())
        await join_and_leave(groups, JOINS - NAMES)
        gc.collect()
        assert len(gc.get_objects()) - before < SOME
        assert what_is_held(groups) == [0, 0, 0, 0, 0]
        engine = groups._hub.engine
        assert len(engine._records) == NAMES
        # Nobody has sent anything.
        await asyncio.sleep(121)
        assert len(engine._records) == len(engine._looks) == len(engine.presence._present) == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_messages_in_memory_are_forgotten_once_their_time_is_over_and_the_place_of_members_is_not():
    async with process(None, history=10, history_ttl=60) as groups:
        inbox = Inbox()
        async with groups.join('a', inbox) as group:
            await groups.send('a', '1')
            await inbox.until('1')
            since = group.position
            await asyncio.sleep(59)
            assert len(await groups.history('a')) == 1
            await asyncio.sleep(121)
            assert await groups.history('a') == []
            assert not groups._hub.engine._records['a'].messages
            await asyncio.sleep(100_000)
            async with groups.join('a', Inbox(), since=since):
                """Its position is still good."""
        await asyncio.sleep(3600 + 121)
        assert not groups._hub.engine._records


@soak
@needs_redis
async def test_many_joins_and_leaves_over_redis_leave_nothing_once_their_time_is_over(shared_redis, monkeypatch):
    for module in ('engine', 'presence'):
        monkeypatch.setattr('apistar_ws.groups.redis.%s.KEPT_LONGER_MS' % module, 500)
    prefix = new_prefix()
    async with process(shared_redis.url, prefix=prefix, history=10, history_ttl=0.1, lease=2) as groups:
        await join_and_leave(groups, NAMES, 500)
        gc.collect()
        before = len(gc.get_objects())
        await join_and_leave(groups, JOINS - NAMES, 500)
        assert what_is_held(groups) == [0, 0, 0, 0, 0]
        gc.collect()
        assert len(gc.get_objects()) - before < SOME
        assert not groups._hub.engine._groups
        lease = groups._hub.engine.presence.lease
        expected = {'%s:sessions' % prefix, '%s:lease:%s' % (prefix, lease), '%s:history' % prefix}
        await until(lambda: set(shared_redis.keys(prefix)) <= expected, 'the keys to expire')
    await until(lambda: shared_redis.keys(prefix) == [prefix + ':history'], 'the last keys to expire')
    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert running == []


@needs_redis
async def test_an_engine_that_nobody_uses_and_no_lifespan_holds_ends_by_itself(shared_redis):
    from apistar_ws.groups.component import GroupsComponent

    groups = GroupsComponent(shared_redis.url, prefix=new_prefix(), lease=0.4).resolve()
    inbox = Inbox()
    async with groups.join('a', inbox):
        await groups.send('a', '1')
        await inbox.until('1')
        began = time.monotonic()
        while time.monotonic() < began + 1:
            await asyncio.sleep(0.05)
            assert groups.stats()['engine'] == 'open'
    await until(lambda: groups.stats()['engine'] == 'stopped', 'it to end')
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    async with groups.join('a', inbox):
        await groups.send('a', '2')
        await inbox.until('1', '2')
    await until(lambda: groups.stats()['engine'] == 'stopped', 'it to end')


@needs_redis
async def test_an_idle_process_with_a_hundred_groups_sends_one_command_in_five_seconds(redis):
    async with process(redis.url, history=10) as groups, contextlib.AsyncExitStack() as stack:
        for number in range(100):
            await stack.enter_async_context(groups.join('room:%d' % number, Inbox()))
        engine, ticks = groups._hub.engine, []
        assert engine._interval == 5.0
        for _ in range(2):
            before = commands(redis)
            await tick(groups)
            ticks.append(commands(redis) - before)
        # Redis gets to know the script by the first one.
        assert ticks[1] == 1


def commands(redis):
    """Return how many scripts clients have asked for; what a script does inside is part of its call."""
    text = redis.command('INFO', 'commandstats').decode()
    calls = {line.partition(':')[0]: line for line in text.splitlines() if line.startswith('cmdstat_eval')}
    return sum(int(line.partition('calls=')[2].partition(',')[0]) for line in calls.values())


@pytest.mark.parametrize('engine', ['memory'], indirect=True)
async def test_a_member_that_waits_has_no_task(engine):
    async with process(**engine) as groups:
        async with groups.join('a', Inbox()):
            assert asyncio.all_tasks() == {asyncio.current_task()}
