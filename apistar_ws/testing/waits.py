"""Waits with a time limit, which also work if a test has stopped the clock, as with freezegun."""

import asyncio
import threading
import time
import types
from typing import Any, Set

#: Added to the text of a timeout if the clock is patched.
CLOCK_ADVICE = 'The clock is patched, as by freezegun: timeouts and sleeps of the application go by time.monotonic.'


def is_clock_patched() -> bool:
    """Return whether ``time.monotonic``, the clock of the event loop, was replaced and may stand still."""
    return not isinstance(time.monotonic, types.BuiltinFunctionType)


async def wait(tasks: 'Set[asyncio.Task[Any]]', timeout: float, return_when: str = asyncio.ALL_COMPLETED) -> Set[Any]:
    """Wait for tasks and return those that are done.

    :param timeout: the time limit in real seconds.
    """
    if not is_clock_patched():
        return (await asyncio.wait(tasks, timeout=timeout, return_when=return_when))[0]
    loop = asyncio.get_running_loop()
    expired: 'asyncio.Future[None]' = loop.create_future()
    timer = threading.Timer(timeout, loop.call_soon_threadsafe, [expired.cancel])
    timer.start()
    ended: 'asyncio.Future[Any]' = asyncio.ensure_future(asyncio.wait(tasks, return_when=return_when))
    try:
        await asyncio.wait({ended, expired}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
        timer.cancel()
        timer.join()
    return {task for task in tasks if task.done()}
