"""One handler's task: whether it knows that the connection is over, and whose a cancellation of it is.

Nothing here knows of a WebSocket. Every difference between the versions of Python in this matter is in this file.
"""

import asyncio
import sys
from typing import Any, Dict, Iterable, Optional

Task = Optional['asyncio.Task[Any]']

#: Seconds after which what is over its time, and goes on awaiting, is ended again.
AGAIN = 0.1

if sys.version_info >= (3, 12):  # pragma: no cover
    current_task = asyncio.current_task
else:  # pragma: no cover
    # The same look-up: before 3.12 asyncio's own is written in Python, and a send would pay for it.
    current_task = asyncio.tasks._current_tasks.get

if sys.version_info >= (3, 11):  # pragma: no cover

    def cancellations(task: 'asyncio.Task[Any]') -> int:
        """Return how often ``task`` was asked to end and has not taken it back."""
        return task.cancelling()

    def take_back(task: 'asyncio.Task[Any]') -> int:
        """Take one cancellation of ``task`` back, and return how many are left."""
        return task.uncancel()

else:  # pragma: no cover

    def cancellations(task: 'asyncio.Task[Any]') -> int:
        """Return 0: Python 3.10 does not count cancellations."""
        return 0

    def take_back(task: 'asyncio.Task[Any]') -> int:
        """Return 0: Python 3.10 does not count cancellations."""
        return 0


def is_current(task: Task) -> bool:
    """Return whether ``task`` is the one that is running, or none is known; False in another thread."""
    if task is None:
        return True
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def is_cancelled() -> bool:
    """Return whether somebody has cancelled the current task; Python 3.10 does not know, and it is assumed."""
    task = asyncio.current_task()
    return sys.version_info < (3, 11) or task is None or cancellations(task) > 0


def was_taken_back(made: Optional[BaseException]) -> bool:
    """Return whether nobody's cancellation of the current task is left, where ``made`` was made of one.

    Python 3.10 does not count them: there only another exception tells.
    """
    if sys.version_info < (3, 11):  # pragma: no cover
        return made is not None and not isinstance(made, asyncio.CancelledError)
    return not is_cancelled()


class Mark:
    """What an interruption has done to one task.

    :param before: cancellations by others when this one came.
    """

    __slots__ = ('before', 'ours')

    def __init__(self, before: int) -> None:
        self.before = before
        self.ours = 0


class Interruption:
    """The end of one connection, as the tasks feel it that depend on it.

    Made once for a connection, when its end begins, for the task that the lifecycle names. The WebSocket tells, the
    watch and the lifecycle ask.

    :param owner: the task that the handler runs in, or None where there is none to end.
    """

    __slots__ = ('owner', 'told', '_marks')

    def __init__(self, owner: Task = None) -> None:
        self.owner = owner
        #: Whether the handler knows: its own task was told or cancelled, or it has ended.
        self.told = False
        self._marks: Optional[Dict['asyncio.Task[Any]', Mark]] = None

    def tell(self) -> None:
        """Note that the current task learns of the end; only the handler's own counts."""
        if not self.told and self.owner is asyncio.current_task():
            self.told = True

    def cancel(self, tasks: Iterable[Task]) -> None:
        """Cancel ``tasks``, each once, and the handler's own only if it does not know.

        A task that somebody else has cancelled is left to that: call again, and one that is still there gets ours.
        """
        for task in tasks:
            if task is not None and not (task is self.owner and self.told):
                self._cancel_once(task)

    def cancel_again(self) -> int:
        """Cancel the handler's task whatever it knows, and return how often that was done."""
        assert self.owner is not None
        mark = self._mark(self.owner)
        self._cancel(self.owner, mark)
        return mark.ours

    def _cancel_once(self, task: 'asyncio.Task[Any]') -> None:
        known = self._marks is not None and task in self._marks
        mark = self._mark(task)
        before = cancellations(task)
        if mark.ours:
            return
        if before and not (known and mark.before == before):
            # It may be on its way to the task: both would arrive as one, and one of them would be lost.
            mark.before = before
            return
        self._cancel(task, mark)

    def _cancel(self, task: 'asyncio.Task[Any]', mark: Mark) -> None:
        mark.ours += 1
        if task is self.owner:
            self.told = True
        task.cancel()

    def _mark(self, task: 'asyncio.Task[Any]') -> Mark:
        if self._marks is None:
            self._marks = {}
        return self._marks.setdefault(task, Mark(cancellations(task)))

    def was_ours(self, task: Task) -> bool:
        """Return whether the cancellation that ``task`` has just got was ours alone; ours is taken back."""
        mark = None if self._marks is None or task is None else self._marks.pop(task, None)
        if mark is None or task is None or not mark.ours:
            return False
        left = 0
        for _ in range(mark.ours):
            left = take_back(task)
        return left <= mark.before

    def is_ours(self, task: Task) -> bool:
        """Return whether ``task`` was cancelled here, and has not taken it back."""
        return self._marks is not None and task in self._marks and self._marks[task].ours > 0

    async def release(self) -> None:
        """Let the handler's task, which is the current one, go its own way: the handler has ended."""
        self.told = True
        owner, self.owner = self.owner, None
        if self.was_ours(owner):
            await absorb()


if sys.version_info >= (3, 13):  # pragma: no cover

    async def absorb() -> None:
        """Do nothing: ``uncancel`` has taken a cancellation back that was still on its way."""

else:  # pragma: no cover

    async def absorb() -> None:
        """Take a cancellation that was taken back and may still be on its way."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            """It was on its way."""


class TimeLimit:
    """Ends what the current task awaits in a ``with`` block after a time, with ``TimeoutError``.

    What goes on awaiting, as a clean-up may, is ended again and again: the block ends soon after its time.

    :param seconds: how long the block may take; time that it spends without an ``await`` cannot be taken from it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._times = 0

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._before = 0 if self._task is None else cancellations(self._task)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        assert self._task is not None
        self._times += 1
        self._timer = self._loop.call_later(AGAIN, self._expire)
        self._task.cancel()

    def __exit__(self, kind: Any, exc: Optional[BaseException], traceback: Any) -> None:
        self._timer.cancel()
        left = 0
        for _ in range(self._times):
            assert self._task is not None
            left = take_back(self._task)
        if self._times and isinstance(exc, asyncio.CancelledError) and left <= self._before:
            raise TimeoutError('It took longer than %.1f seconds.' % self._seconds) from exc


def ends_from_outside(exc: BaseException) -> bool:
    """Return whether the server, or the program, ends the current task by ``exc``.

    A task that it awaits may have been cancelled, and not itself.
    """
    return not isinstance(exc, Exception) and (not isinstance(exc, asyncio.CancelledError) or is_cancelled())
