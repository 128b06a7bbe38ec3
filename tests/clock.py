"""An event loop whose time is virtual: where it would wait, it is later, so that hours pass in no time."""

import asyncio
import functools
import inspect
import selectors
from typing import Any, Callable, Coroutine, Optional

#: What is wrong where an event loop would wait for ever.
STUCK = 'Nothing is due on the event loop, and nobody else can wake it.'


class VirtualSelector(selectors.DefaultSelector):
    """Waits for nothing: it is later at once."""

    now = 0.0

    def select(self, timeout: Optional[float] = None) -> Any:
        """Return what is ready, after ``timeout`` virtual seconds."""
        assert timeout is not None, STUCK
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self.clock = VirtualSelector()
        super().__init__(self.clock)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self.clock.now

    def block(self, seconds: float) -> None:
        """Let time pass as if the current callback took so long."""
        self.clock.now += seconds


def run_virtually(coro: Coroutine[Any, Any, Any]) -> Any:
    """Run ``coro`` on a new virtual loop, and end what it left running."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(coro)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        asyncio.set_event_loop(None)
        loop.close()


def virtual(test: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Run an async test on virtual time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtually(test(*args, **kwargs))

    # Not for pytest-asyncio, which would look through to the coroutine function.
    del run.__wrapped__  # type: ignore[attr-defined]
    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run
