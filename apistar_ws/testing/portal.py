"""How a test that is not ``async`` runs the application: on an event loop that runs during the calls of the client.

It runs in the thread of the test, so that what belongs to a thread, a session or an in-memory database, is the test's
too; a handler that blocks is ended by a signal. Signals need the main thread of a POSIX system, and no event loop runs
inside of another: where that is not so, the loop runs in another thread, which is left behind if it blocks.
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

#: Seconds that what runs on the loop is given to end.
STOP_TIMEOUT = 2.0
#: Interruptions that what blocks may catch before the process ends, since a test without an end is worse.
MOST_INTERRUPTIONS = 3


class Blocked(BaseException):
    """Raised by a signal in the middle of what blocks the event loop; no handler is meant to catch it."""


class Portal:
    """An event loop for a test, and the way to run something on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        #: The thread that runs the loop, where that is not the test's own.
        self._thread: Optional[threading.Thread] = None
        self._blocked_in = ''
        self._interruptions = 0

    def call(self, coro: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run ``coro`` on the loop and return its result.

        :raises WaitTimeout: if it has none in time, because the loop is blocked.
        """
        if self.loop.is_running():
            coro.close()
            raise self._busy(timeout)
        return self._call_here(coro, timeout) if is_interruptible() else self._call_elsewhere(coro, timeout)

    def _busy(self, timeout: float) -> Exception:
        if self._thread is None or asyncio._get_running_loop() is self.loop:
            return RuntimeError(
                'The client was called inside of a handler that it runs: make another TestClient there, or '
                'await what the handler needs.'
            )
        return self._timed_out(timeout)

    def _call_here(self, coro: Coroutine[Any, Any, T], timeout: float) -> T:
        self._blocked_in = ''
        self._interruptions = 0
        try:
            with self._alarm(timeout):
                return self.loop.run_until_complete(coro)
        finally:
            if self._blocked_in:
                # Whatever became of the interruption: the handler may have caught it.
                raise WaitTimeout('Waited %g seconds; the event loop was in %s' % (timeout, self._blocked_in)) from None

    @contextlib.contextmanager
    def _alarm(self, timeout: float) -> Iterator[None]:
        """Interrupt what blocks for so many seconds, by the timer of the process, which is given back afterwards."""
        handler = signal.signal(signal.SIGALRM, self._interrupt)
        left, interval = signal.setitimer(signal.ITIMER_REAL, timeout, timeout)
        begun = time.clock_gettime(time.CLOCK_MONOTONIC)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            # 0 would switch it off.
            left = max(left - (time.clock_gettime(time.CLOCK_MONOTONIC) - begun), 1e-6) if left else 0.0
            signal.setitimer(signal.ITIMER_REAL, left, interval)

    def _interrupt(self, signum: int, frame: Optional[FrameType]) -> None:
        self._blocked_in = describe_frame(list(frames_below(frame))[::-1])
        self._interruptions += 1
        if self._interruptions > MOST_INTERRUPTIONS:  # pragma: no cover
            # Nothing that is raised gets out of there.
            os.write(
                2,
                (
                    'The test cannot go on: what it runs blocks, and catches what would end it, in %s\n'
                    % (self._blocked_in)
                ).encode(),
            )
            os._exit(1)
        raise Blocked(self._blocked_in)

    def _call_elsewhere(self, coro: Coroutine[Any, Any, T], timeout: float) -> T:
        future: 'concurrent.futures.Future[T]' = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(coro, future), daemon=True)
        self._thread.start()
        done, _ = concurrent.futures.wait({future}, timeout)
        if not done:
            raise self._timed_out(timeout)
        self._thread.join()
        return future.result()

    def _run(self, coro: Coroutine[Any, Any, T], future: 'concurrent.futures.Future[T]') -> None:
        try:
            future.set_result(self.loop.run_until_complete(coro))
        except BaseException as exc:
            future.set_exception(exc)

    def _timed_out(self, timeout: float) -> WaitTimeout:
        assert self._thread is not None
        frames = list(frames_below(sys._current_frames()[self._thread.ident or 0]))
        return WaitTimeout('Waited %g seconds; the event loop was in %s' % (timeout, describe_frame(frames[::-1])))

    def stop(self) -> None:
        """End the loop and what runs on it, unless it is blocked."""
        if not self.loop.is_closed() and not self.loop.is_running():
            with contextlib.suppress(WaitTimeout):
                self.call(end_tasks(), 2 * STOP_TIMEOUT)
            self.loop.close()


def is_interruptible() -> bool:
    """Return whether what blocks here can be interrupted, and whether an event loop can run here."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and hasattr(signal, 'setitimer') and asyncio._get_running_loop() is None


async def end_tasks() -> None:
    """Cancel what else runs on the event loop, and wait for it, but not for ever."""
    running = asyncio.all_tasks() - {asyncio.current_task()}
    for task in running:
        task.cancel()
    if running:
        await wait(running, STOP_TIMEOUT)
