"""The event loop of tests that are not ``async``, which runs only during calls of the test client.

It runs in the thread of the test, so that objects bound to a thread, such as sessions and in-memory databases, can be
shared with the handler. A handler that blocks is interrupted by a signal. Signals need the main thread of a POSIX
system, and an event loop cannot run inside another: otherwise the loop runs in a thread of its own, which is
abandoned if it blocks.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Coroutine, Iterator, Optional, TypeVar

from apistar_ws.testing.errors import WaitTimeout
from apistar_ws.testing.tasks import describe_frame, frames_below
from apistar_ws.testing.waits import wait

T = TypeVar('T')

#: Seconds that tasks may take to end when the loop is stopped.
_STOP_TIMEOUT = 2.0
#: Interruptions that blocking code may catch before the process is ended: a test that never ends would be worse.
_MAX_INTERRUPTIONS = 3


class _Interrupted(BaseException):
    """Raised by a signal in the code that blocks the event loop."""


class Portal:
    """An event loop that runs coroutines for a test that is not ``async``."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        #: The thread that runs the loop, unless it is the thread of the test.
        self._thread: Optional[threading.Thread] = None
        self._blocked_in = ''
        self._interruptions = 0

    def call(self, coro: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine on the loop and return its result.

        :raises WaitTimeout: if it takes too long because the loop is blocked.
        """
        if self.loop.is_running():
            coro.close()
            raise self._busy_error(timeout)
        return self._call_here(coro, timeout) if _is_interruptible() else self._call_in_thread(coro, timeout)

    def _busy_error(self, timeout: float) -> Exception:
        if self._thread is None or asyncio._get_running_loop() is self.loop:
            return RuntimeError(
                'The client was called inside of a handler that it runs: make another TestClient there, or '
                'await what the handler needs.'
            )
        return self._timeout_error(timeout)

    def _call_here(self, coro: Coroutine[Any, Any, T], timeout: float) -> T:
        self._blocked_in = ''
        self._interruptions = 0
        try:
            with self._alarm(timeout):
                return self.loop.run_until_complete(coro)
        finally:
            if self._blocked_in:
                # Also if the handler has caught the interruption.
                raise WaitTimeout('Waited %g seconds; the event loop was in %s' % (timeout, self._blocked_in)) from None

    @contextlib.contextmanager
    def _alarm(self, timeout: float) -> Iterator[None]:
        """Interrupt code that blocks longer than ``timeout``. A timer that the process had before is restored."""
        handler = signal.signal(signal.SIGALRM, self._interrupt)
        left, interval = signal.setitimer(signal.ITIMER_REAL, timeout, timeout)
        begun = time.clock_gettime(time.CLOCK_MONOTONIC)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            # 0 would disable it.
            left = max(left - (time.clock_gettime(time.CLOCK_MONOTONIC) - begun), 1e-6) if left else 0.0
            signal.setitimer(signal.ITIMER_REAL, left, interval)

    def _interrupt(self, signum: int, frame: Optional[FrameType]) -> None:
        self._blocked_in = describe_frame(list(frames_below(frame))[::-1])
        self._interruptions += 1
        if self._interruptions > _MAX_INTERRUPTIONS:  # pragma: no cover
            # Every exception would be caught.
            text = 'The test cannot continue: its code blocks, and catches every interruption, in %s\n'
            os.write(2, (text % self._blocked_in).encode())
            os._exit(1)
        raise _Interrupted(self._blocked_in)

    def _call_in_thread(self, coro: Coroutine[Any, Any, T], timeout: float) -> T:
        future: 'concurrent.futures.Future[T]' = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(coro, future), daemon=True)
        self._thread.start()
        done, _ = concurrent.futures.wait({future}, timeout)
        if not done:
            raise self._timeout_error(timeout)
        self._thread.join()
        return future.result()

    def _run(self, coro: Coroutine[Any, Any, T], future: 'concurrent.futures.Future[T]') -> None:
        try:
            future.set_result(self.loop.run_until_complete(coro))
        except BaseException as exc:
            future.set_exception(exc)

    def _timeout_error(self, timeout: float) -> WaitTimeout:
        assert self._thread is not None
        frames = list(frames_below(sys._current_frames()[self._thread.ident or 0]))
        return WaitTimeout('Waited %g seconds; the event loop was in %s' % (timeout, describe_frame(frames[::-1])))

    def stop(self) -> None:
        """Cancel the tasks on the loop and close it, unless it is blocked."""
        if not self.loop.is_closed() and not self.loop.is_running():
            with contextlib.suppress(WaitTimeout):
                self.call(_cancel_tasks(), 2 * _STOP_TIMEOUT)
            self.loop.close()


def _is_interruptible() -> bool:
    """Return whether this thread can run an event loop, and interrupt code that blocks it."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and hasattr(signal, 'setitimer') and asyncio._get_running_loop() is None


async def _cancel_tasks() -> None:
    """Cancel all other tasks of the event loop, and wait for them."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await wait(tasks, _STOP_TIMEOUT)
