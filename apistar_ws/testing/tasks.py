"""Tasks that a handler has started, and the line that a task is at."""

import asyncio
import contextvars
import linecache
import weakref
from types import FrameType
from typing import Any, Coroutine, Iterator, List, MutableMapping, Optional, Set

#: The set of the connection under test to which new tasks are added.
started_tasks: 'contextvars.ContextVar[Optional[weakref.WeakSet[asyncio.Task[Any]]]]' = contextvars.ContextVar(
    'started_tasks', default=None
)


class _Tracking:
    """A task factory that adds each new task to the set of the connection under test.

    It replaces the task factory of the event loop while there are connections under test.

    :param loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.connections: Set[Any] = set()
        self._loop = loop
        self._before: Any = loop.get_task_factory()
        loop.set_task_factory(self)

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        """Make a task as the event loop would, and add it to the set."""
        task = asyncio.Task(coro, loop=loop, **options) if self._before is None else self._before(loop, coro, **options)
        tasks = started_tasks.get()
        if tasks is not None:
            tasks.add(task)
        return task

    def end(self) -> None:
        """Restore the task factory of the event loop, unless it was replaced in the meantime."""
        if self._loop.get_task_factory() is self:
            self._loop.set_task_factory(self._before)


_trackings: MutableMapping[asyncio.AbstractEventLoop, _Tracking] = weakref.WeakKeyDictionary()


def start_tracking(connection: Any) -> None:
    """Track tasks on the running event loop for ``connection``."""
    loop = asyncio.get_running_loop()
    if loop not in _trackings:
        _trackings[loop] = _Tracking(loop)
    _trackings[loop].connections.add(connection)


def stop_tracking(connection: Any) -> None:
    """Stop tracking tasks for ``connection``; a second call does nothing."""
    loop = asyncio.get_running_loop()
    tracking = _trackings.get(loop)
    if tracking is not None:
        tracking.connections.discard(connection)
        if not tracking.connections:
            del _trackings[loop]
            tracking.end()


def describe_task(task: 'asyncio.Task[Any]', subject: str) -> str:
    """Return text about the line that ``task`` is at: the innermost one that is not in a library.

    :param subject: the subject of the sentence.
    """
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, 'cr_frame', None) or getattr(awaited, 'gi_frame', None)
        if frame is not None:
            frames.append(frame)
        awaited = getattr(awaited, 'cr_await', None)
    if task.done() or not frames:
        return '%s has ended.' % subject
    return '%s was in %s' % (subject, describe_frame(frames))


def describe_frame(frames: List[FrameType]) -> str:
    """Return function, file and line of the innermost of ``frames`` that is not in a library."""
    frame = ([frame for frame in frames if not _is_library(frame)] or frames)[-1]
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return '%s, %s line %d: %s' % (frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno, line)


def _is_library(frame: FrameType) -> bool:
    """Return whether ``frame`` is in this package or a library that it uses."""
    package = frame.f_globals.get('__name__', '').partition('.')[0]
    return package in ('apistar_ws', 'apistar', 'asyncio', 'threading', 'wrapt')


def frames_below(frame: Optional[FrameType]) -> Iterator[FrameType]:
    """Yield ``frame`` and its callers, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back
