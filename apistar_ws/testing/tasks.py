"""Which tasks a handler has started, and where a task is."""

import asyncio
import contextvars
import linecache
import weakref
from types import FrameType
from typing import Any, Coroutine, Iterator, List, MutableMapping, Optional, Set

#: Where the tasks are noted that are started from here; one set for each connection.
started_tasks: 'contextvars.ContextVar[Optional[weakref.WeakSet[asyncio.Task[Any]]]]' = contextvars.ContextVar(
    'started_tasks', default=None
)


class Tracking:
    """A task factory that notes each new task with the connection that it was started for.

    It stands in for the factory that the event loop had, for as long as there is a connection under test.

    :param loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.connections: Set[Any] = set()
        self._loop = loop
        self._before: Any = loop.get_task_factory()
        loop.set_task_factory(self)

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> Any:
        """Make a task as the event loop would, and note it."""
        task = asyncio.Task(coro, loop=loop, **options) if self._before is None else self._before(loop, coro, **options)
        noted = started_tasks.get()
        if noted is not None:
            noted.add(task)
        return task

    def end(self) -> None:
        """Give the event loop its own factory back, unless somebody has given it another one meanwhile."""
        if self._loop.get_task_factory() is self:
            self._loop.set_task_factory(self._before)


trackings: MutableMapping[asyncio.AbstractEventLoop, Tracking] = weakref.WeakKeyDictionary()


def start_tracking(connection: Any) -> None:
    """Have the running event loop note tasks until the last connection that asked for it is over."""
    loop = asyncio.get_running_loop()
    if loop not in trackings:
        trackings[loop] = Tracking(loop)
    trackings[loop].connections.add(connection)


def stop_tracking(connection: Any) -> None:
    """Note that ``connection`` is over, on the running event loop; a second call does nothing."""
    loop = asyncio.get_running_loop()
    tracking = trackings.get(loop)
    if tracking is not None:
        tracking.connections.discard(connection)
        if not tracking.connections:
            del trackings[loop]
            tracking.end()


def describe_task(task: 'asyncio.Task[Any]', who: str) -> str:
    """Return where ``task`` is: the innermost line outside of this package and of asyncio, and its function."""
    frames = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, 'cr_frame', None) or getattr(awaited, 'gi_frame', None)
        if frame is not None:
            frames.append(frame)
        awaited = getattr(awaited, 'cr_await', None)
    if task.done() or not frames:
        return '%s has ended.' % who
    return '%s was in %s' % (who, describe_frame(frames))


def describe_frame(frames: List[FrameType]) -> str:
    """Return function, place and line of the innermost of ``frames`` that is the user's."""
    users = [frame for frame in frames if not is_library(frame)] or frames[-1:]
    frame = users[-1]
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return '%s, %s line %d: %s' % (frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno, line)


def is_library(frame: FrameType) -> bool:
    """Return whether ``frame`` is of this package, of API Star or of asyncio."""
    return frame.f_globals.get('__name__', '').split('.')[0] in (
        'apistar_ws',
        'apistar',
        'asyncio',
        'threading',
        'wrapt',
    )


def frames_below(frame: Optional[FrameType]) -> Iterator[FrameType]:
    """Yield ``frame`` and what called it, from the inside out."""
    while frame is not None:
        yield frame
        frame = frame.f_back
