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


async def test_own_cancellation_is_recognised():
    """A cancellation of ours is recognised and taken back."""
    handler = Handler()
    await turn()
    handler.interruption.cancel([handler.task])
    assert await handler.outcome() is True
    assert (handler.left, handler.interruption.is_known) == (0, True)


async def test_later_foreign_cancellation_stays():
    """A foreign cancellation after ours stays."""
    handler = Handler()
    await turn()
    handler.interruption.cancel([handler.task])
    handler.task.cancel()
    assert await handler.outcome() is not COUNTS
    assert handler.left == int(COUNTS)


@needs_python(3, 11)
async def test_earlier_foreign_cancellation_stays():
    """A foreign cancellation in the same loop iteration before ours stays."""
    handler = Handler()
    await turn()
    handler.task.cancel()
    handler.interruption.cancel([handler.task])
    assert await handler.outcome() is False
    assert handler.left == 1


async def test_swallowed_cancellation_does_not_matter():
    """A cancellation that the task swallowed before does not matter."""
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
async def test_second_foreign_cancellation_is_awaited():
    """A second foreign cancellation is awaited, too."""
    handler = Handler(swallows=1)
    await turn()
    handler.task.cancel()
    await turn()
    handler.interruption.cancel([handler.task])
    handler.task.cancel()
    handler.interruption.cancel([handler.task])
    assert await handler.outcome() is False


async def test_task_is_cancelled_once():
    """A task is cancelled once, however often this is requested."""
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
async def test_cancelled_task_group_ends():  # pragma: no cover
    """A task group that fails in the same loop iteration ends."""
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


class TestKnownEnd:
    async def test_only_the_handlers_own_task_counts(self):
        interruption = Interruption(asyncio.current_task())

        async def receive():
            interruption.note_known()

        await asyncio.ensure_future(receive())
        assert not interruption.is_known
        interruption.note_known()
        assert interruption.is_known

    async def test_notified_handler_is_not_cancelled(self):
        """A handler that knows of the end is not cancelled."""
        handler = Handler()
        await turn()
        handler.interruption.is_known = True
        handler.interruption.cancel([handler.task])
        await turn()
        assert not handler.task.done()
        handler.task.cancel()
        assert await handler.outcome() is False

    def test_missing_handler_owns_no_cancellation(self):
        """Without a handler, no cancellation is recognised as ours."""
        interruption = Interruption()
        interruption.cancel([None])
        assert not interruption.was_ours(None)


class TestRelease:
    async def test_swallowed_cancellation_is_taken_back(self):
        """A cancellation that the handler swallowed is taken back."""
        interruption = Interruption(asyncio.current_task())
        interruption.cancel([asyncio.current_task()])
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        await interruption.release()
        await asyncio.sleep(0)
        assert interruption.is_known
        assert not COUNTS or asyncio.current_task().cancelling() == 0

    async def test_pending_cancellation_is_taken_back(self):
        """A cancellation that is still pending is taken back, too."""
        interruption = Interruption(asyncio.current_task())
        interruption.cancel([asyncio.current_task()])
        await interruption.release()
        await asyncio.sleep(0)
        assert not COUNTS or asyncio.current_task().cancelling() == 0

    async def test_without_any_nothing_is(self):
        interruption = Interruption(asyncio.current_task())
        await interruption.release()
        assert interruption.is_known


async def test_current_task_knows_its_cancellation():
    """The current task knows whether it is being cancelled."""
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
    async def test_exceeded_limit_raises_timeout(self):
        """A block that takes too long raises TimeoutError with a message."""
        with pytest.raises(TimeoutError, match='It took longer than 0.5 seconds.'):
            with TimeLimit(0.5):
                await asyncio.sleep(3600)
        await asyncio.sleep(1)

    @virtual
    async def test_timely_block_is_unchanged(self):
        """A block that ends in time is not cancelled."""
        with TimeLimit(0.5):
            await asyncio.sleep(0.4)
        await asyncio.sleep(1)

    @virtual
    async def test_swallowed_cancellation_ends_normally(self):
        """A block that suppresses the cancellation ends normally."""
        with TimeLimit(0.5):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)
        await asyncio.sleep(1)

    @virtual
    async def test_foreign_cancellation_continues(self):
        """A cancellation by another task continues."""

        async def work():
            with TimeLimit(5):
                await asyncio.sleep(3600)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
