"""One handler's task: whether it knows that the connection is over, and whose a cancellation of it is.

It does not depend on WebSockets. All differences between Python versions in this matter are here.
"""

import asyncio
import sys
from typing import Any, Dict, Iterable, Optional

Task = Optional['asyncio.Task[Any]']

#: Seconds between two cancellations of work that exceeds its time.
AGAIN = 0.1

if sys.version_info >= (3, 12):  # pragma: no cover
    current_task = asyncio.current_task
else:  # pragma: no cover
    # The same function: before 3.12 asyncio's own is written in Python, which slows down every send.
    current_task = asyncio.tasks._current_tasks.get

if sys.version_info >= (3, 11):  # pragma: no cover

    def cancellations(task: 'asyncio.Task[Any]') -> int:
        """Return how many cancellations of ``task`` were not withdrawn."""
        return task.cancelling()

    def withdraw(task: 'asyncio.Task[Any]') -> int:
        """Withdraw one cancellation of ``task``, and return how many are left."""
        return task.uncancel()

else:  # pragma: no cover

    def cancellations(task: 'asyncio.Task[Any]') -> int:
        """Return 0: Python 3.10 does not count cancellations."""
        return 0

    def withdraw(task: 'asyncio.Task[Any]') -> int:
        """Return 0: Python 3.10 does not count cancellations."""
        return 0


def is_current(task: Task) -> bool:
    """Return whether ``task`` is running or unknown; False in another thread."""
    if task is None:
        return True
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def is_cancelled() -> bool:
    """Return whether the current task was cancelled; on Python 3.10, which does not count it, True."""
    task = asyncio.current_task()
    return sys.version_info < (3, 11) or task is None or cancellations(task) > 0


def was_withdrawn(result: Optional[BaseException]) -> bool:
    """Return whether the current task is not cancelled any more, after ``result`` came of a cancellation.

    Python 3.10 does not count cancellations: there only another exception shows it.
    """
    if sys.version_info < (3, 11):  # pragma: no cover
        return result is not None and not isinstance(result, asyncio.CancelledError)
    return not is_cancelled()


class Mark:
    """The cancellations of one task by an interruption.

    :param before: cancellations by others at the time of the first.
    """

    __slots__ = ('before', 'ours')

    def __init__(self, before: int) -> None:
        self.before = before
        self.ours = 0


class Interruption:
    """The tasks that were cancelled because their connection is over.

    Made once for a connection, at its end.

    :param owner: the task that the handler runs in, or None.
    """

    __slots__ = ('owner', 'is_known', '_marks')

    def __init__(self, owner: Task = None) -> None:
        self.owner = owner
        #: Whether the handler knows of the end: its task got an exception or was cancelled, or it has ended.
        self.is_known = False
        self._marks: Optional[Dict['asyncio.Task[Any]', Mark]] = None

    def note_known(self) -> None:
        """Note that the current task knows of the end, if it is the handler's own."""
        if not self.is_known and self.owner is asyncio.current_task():
            self.is_known = True

    def cancel(self, tasks: Iterable[Task]) -> None:
        """Cancel each of ``tasks`` once, but the handler's own only if it does not know of the end.

        A task that was cancelled by others is left alone at the first call, and cancelled at the next.
        """
        for task in tasks:
            if task is not None and not (task is self.owner and self.is_known):
                self._cancel_once(task)

    def cancel_again(self) -> int:
        """Cancel the handler's task in any case, and return how often it was cancelled here."""
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
            # It may not have arrived yet: both would arrive as one, and one of them would be lost.
            mark.before = before
            return
        self._cancel(task, mark)

    def _cancel(self, task: 'asyncio.Task[Any]', mark: Mark) -> None:
        mark.ours += 1
        if task is self.owner:
            self.is_known = True
        task.cancel()

    def _mark(self, task: 'asyncio.Task[Any]') -> Mark:
        if self._marks is None:
            self._marks = {}
        return self._marks.setdefault(task, Mark(cancellations(task)))

    def was_ours(self, task: Task) -> bool:
        """Return whether the cancellation that just arrived in ``task`` was only this one, and withdraw it."""
        mark = None if self._marks is None or task is None else self._marks.pop(task, None)
        if mark is None or task is None or not mark.ours:
            return False
        left = 0
        for _ in range(mark.ours):
            left = withdraw(task)
        return left <= mark.before

    def is_ours(self, task: Task) -> bool:
        """Return whether ``task`` was cancelled here, and that was not withdrawn."""
        return self._marks is not None and task in self._marks and self._marks[task].ours > 0

    async def release(self) -> None:
        """Stop tracking the handler's task, the current one, since the handler has ended."""
        self.is_known = True
        owner, self.owner = self.owner, None
        if self.was_ours(owner):
            await absorb()


if sys.version_info >= (3, 13):  # pragma: no cover

    async def absorb() -> None:
        """Do nothing: ``uncancel`` has also withdrawn a cancellation that had not arrived."""

else:  # pragma: no cover

    async def absorb() -> None:
        """Catch a cancellation that was withdrawn and may still arrive."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass  # It has arrived.


if (3, 11) <= sys.version_info < (3, 13):  # pragma: no cover

    async def withdraw_handled() -> None:
        """Withdraw the cancellations of the current task that were handled: a failed task group leaves one behind.

        :raises CancelledError: if one has not arrived yet.
        """
        task = asyncio.current_task()
        if task is not None and cancellations(task):
            await asyncio.sleep(0)
            while cancellations(task):
                withdraw(task)

else:  # pragma: no cover

    async def withdraw_handled() -> None:
        """Do nothing: Python 3.10 does not count cancellations, and later versions leave none behind."""


class TimeLimit:
    """A limit for the time of a ``with`` block, which ends with ``TimeoutError``.

    Work that goes on after its cancellation, such as clean-up, is cancelled repeatedly.

    :param seconds: the limit; code without an ``await`` cannot be interrupted.
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
            left = withdraw(self._task)
        if self._times and isinstance(exc, asyncio.CancelledError) and left <= self._before:
            raise TimeoutError('It took longer than %.1f seconds.' % self._seconds) from exc


def ends_from_outside(exc: BaseException) -> bool:
    """Return whether ``exc`` means that the server or the program ends the current task.

    A cancellation may also come from a task that it awaits.
    """
    return not isinstance(exc, Exception) and (not isinstance(exc, asyncio.CancelledError) or is_cancelled())
