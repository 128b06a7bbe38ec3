"""Tasks that belong to nobody's connection, and that let others have their turn."""

import asyncio
import contextvars
from typing import Any, Coroutine, TypeVar

T = TypeVar('T')

#: Seconds of work after which the event loop is given to others.
LONGEST_TURN = 0.005


def start_task(coro: Coroutine[Any, Any, T]) -> 'asyncio.Task[T]':
    """Run ``coro`` in a task with nothing of the context of whoever was the first to need it."""
    return contextvars.Context().run(asyncio.ensure_future, coro)


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


class Turn:
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
