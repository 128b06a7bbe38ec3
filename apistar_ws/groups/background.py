"""Tasks that belong to no connection, and yield to others."""

import asyncio
import contextvars
import functools
import sys
from collections import deque
from typing import Any, Coroutine, Deque, Protocol, Sequence, TypeVar

T = TypeVar('T')

#: Seconds of work after which the event loop is given to others.
LONGEST_TURN = 0.005
#: Seconds that something may be late because the event loop was blocked.
GRACE = 0.2


def start_task(coro: Coroutine[Any, Any, T]) -> 'asyncio.Task[T]':
    """Run ``coro`` in a task with nothing of the context of whoever was the first to need it, and only after this.

    A factory of tasks that begins them at once, as Python 3.12 has one, is passed by.
    """
    return contextvars.Context().run(functools.partial(asyncio.Task, coro, loop=asyncio.get_running_loop()))


if sys.version_info >= (3, 12):  # pragma: no cover

    def begin_task(coro: Coroutine[Any, Any, T]) -> 'asyncio.Task[T]':
        """As :func:`start_task`, but it runs at once up to where it first waits: often there is nothing left then."""
        loop, context = asyncio.get_running_loop(), contextvars.Context()
        return asyncio.Task(coro, loop=loop, context=context, eager_start=True)

else:  # pragma: no cover
    begin_task = start_task


async def finished(task: 'asyncio.Task[Any]') -> None:
    """Wait for ``task``, also if the current one is cancelled meanwhile: that comes after it."""
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


async def all_done(futures: Sequence['asyncio.Future[Any]'], timeout: float) -> bool:
    """Wait for ``futures`` for at most ``timeout`` seconds, and return whether they are done."""
    await asyncio.wait(futures, timeout=timeout)
    if not all(future.done() for future in futures):
        # Where the event loop was blocked, what has come meanwhile is still to be read.
        await asyncio.wait(futures, timeout=GRACE)
    return all(future.done() for future in futures)


class TimeSlice:
    """Gives way to others whenever it is time, in a loop without a natural end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()

    def begin(self) -> None:
        """Note that others have just had their turn."""
        self._begun = self._loop.time()

    @property
    def is_over(self) -> bool:
        """Whether others should have their turn."""
        return self._loop.time() - self._begun > LONGEST_TURN

    async def give(self) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)
        self.begin()


#: What begins between two looks at the time.
BEGUN_AT_ONCE = 20


class Beginner(Protocol):
    """An object with work to do."""

    def begin(self) -> None:
        """Do it."""


class Pump:
    """Begins what there is to do, all of one moment together, and gives way to others in between."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: Deque[Beginner] = deque()
        self._is_scheduled = False

    def add(self, beginner: Beginner) -> None:
        """Have ``beginner`` begin soon."""
        self._waiting.append(beginner)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        turn = TimeSlice()
        while self._waiting:
            for _ in range(min(len(self._waiting), BEGUN_AT_ONCE)):
                self._waiting.popleft().begin()
            if turn.is_over:
                break
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            self._loop.call_soon(self._run)
