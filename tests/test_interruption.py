"""Whose a cancellation is, and who knows of the end: tasks alone, without any WebSocket."""

import asyncio
import contextlib
import sys

import pytest

from apistar_ws.interruption import Interruption, TimeLimit, is_cancelled
from tests.clock import virtual
from tests.needs import needs_python

#: Python 3.10 does not count cancellations: there every one that may be ours is taken for ours.
COUNTS = sys.version_info >= (3, 11)


class Handler:
    """A task that sleeps until it is cancelled, and then says whether the interruption takes that for its own."""

    def __init__(self, swallows=0):
        self.interruption = Interruption()
        self.left = None
        self.task = asyncio.ensure_future(self.run(swallows))
        self.interruption.owner = self.task

    async def run(self, swallows):
        for _ in range(swallows):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            was_ours = self.interruption.was_ours(self.task)
            self.left = self.task.cancelling() if COUNTS else 0
            return was_ours

    async def outcome(self):
        return await asyncio.wait_for(self.task, 5)


async def turn():
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_cancellation_of_ours_is_known_and_taken_back():
    handler = Handler()
    await turn()
    handler.interruption.cancel([handler.task])
    assert await handler.outcome() is True
    assert (handler.left, handler.interruption.is_known) == (0, True)


async def test_one_of_others_that_comes_after_ours_stays():
    handler = Handler()
    await turn()
    handler.interruption.cancel([handler.task])
    handler.task.cancel()
    assert await handler.outcome() is not COUNTS
    assert handler.left == int(COUNTS)


@needs_python(3, 11)
async def test_one_of_others_in_the_same_turn_before_ours_is_not_lost():
    handler = Handler()
    await turn()
    handler.task.cancel()
    handler.interruption.cancel([handler.task])
    assert await handler.outcome() is False
    assert handler.left == 1


async def test_one_that_the_task_has_swallowed_before_does_not_matter():
    handler = Handler(swallows=1)
    await turn()
    handler.task.cancel()
    await turn()
    # The first time it could be on its way, the second time it is not.
    handler.interruption.cancel([handler.task])
    await turn()
    handler.interruption.cancel([handler.task])
    assert await handler.outcome() is True
    assert handler.left == int(COUNTS)


@needs_python(3, 11)
async def test_a_second_one_of_others_is_waited_for_too():
    handler = Handler(swallows=1)
    await turn()
    handler.task.cancel()
    await turn()
    handler.interruption.cancel([handler.task])
    handler.task.cancel()
    handler.interruption.cancel([handler.task])
    assert await handler.outcome() is False


async def test_a_task_is_cancelled_once_however_often_that_is_asked_for():
    handler = Handler(swallows=1)
    other = asyncio.ensure_future(asyncio.sleep(3600))
    await turn()
    for _ in range(3):
        handler.interruption.cancel([handler.task, other, None])
        await turn()
    assert (handler.task.done(), other.cancelled()) == (False, True)
    assert handler.interruption.cancel_again() == 2
    assert await handler.outcome() is True
    assert handler.left == 0


@needs_python(3, 11)
async def test_a_task_group_that_is_cancelled_in_the_same_turn_ends():  # pragma: no cover
    interruption = Interruption()

    async def send():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if interruption.was_ours(asyncio.current_task()):
                return
            raise

    async def fail():
        await turn()
        interruption_target[0].cancel()
        interruption.cancel(interruption_target)
        raise ValueError

    with pytest.raises(BaseException) as info:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            interruption_target = [group.create_task(send())]
            group.create_task(fail())
    assert [type(exc) for exc in info.value.exceptions] == [ValueError]


class TestTold:
    async def test_only_the_handlers_own_task_counts(self):
        interruption = Interruption(asyncio.current_task())

        async def receive():
            interruption.note_known()

        await asyncio.ensure_future(receive())
        assert not interruption.is_known
        interruption.note_known()
        assert interruption.is_known

    async def test_a_handler_that_knows_is_not_cancelled(self):
        handler = Handler()
        await turn()
        handler.interruption.is_known = True
        handler.interruption.cancel([handler.task])
        await turn()
        assert not handler.task.done()
        handler.task.cancel()
        assert await handler.outcome() is False

    def test_where_there_is_no_handler_nobody_is_told(self):
        interruption = Interruption()
        interruption.cancel([None])
        assert not interruption.was_ours(None)


class TestRelease:
    async def test_what_the_handler_swallowed_is_taken_back(self):
        interruption = Interruption(asyncio.current_task())
        interruption.cancel([asyncio.current_task()])
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        await interruption.release()
        await asyncio.sleep(0)
        assert interruption.is_known
        assert not COUNTS or asyncio.current_task().cancelling() == 0

    async def test_what_is_still_on_its_way_is_taken_back_too(self):
        interruption = Interruption(asyncio.current_task())
        interruption.cancel([asyncio.current_task()])
        await interruption.release()
        await asyncio.sleep(0)
        assert not COUNTS or asyncio.current_task().cancelling() == 0

    async def test_without_any_nothing_is(self):
        interruption = Interruption(asyncio.current_task())
        await interruption.release()
        assert interruption.is_known


async def test_the_current_task_knows_whether_it_is_cancelled():
    assert is_cancelled() is not COUNTS
    asyncio.current_task().cancel()
    assert is_cancelled()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    if COUNTS:  # pragma: no branch
        asyncio.current_task().uncancel()


class TestTimeLimit:
    """A block of code that may not take for ever."""

    @virtual
    async def test_what_takes_too_long_is_ended_with_a_sentence(self):
        with pytest.raises(TimeoutError, match='It took longer than 0.5 seconds.'):
            with TimeLimit(0.5):
                await asyncio.sleep(3600)
        await asyncio.sleep(1)

    @virtual
    async def test_what_ends_in_time_is_left_alone(self):
        with TimeLimit(0.5):
            await asyncio.sleep(0.4)
        await asyncio.sleep(1)

    @virtual
    async def test_a_block_that_ends_in_its_own_way_keeps_it(self):
        with TimeLimit(0.5):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        await asyncio.sleep(1)

    @virtual
    async def test_a_cancellation_by_somebody_else_goes_on(self):
        async def work():
            with TimeLimit(5):
                await asyncio.sleep(3600)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
