"""What groups cost beside their peers: Litestar's channels, channels_redis, redis-py, and a bare loop.

All contenders of a figure are measured in one run, a sample of each in turn, in random order.
"""

import asyncio
import contextlib
from typing import Callable, List, NamedTuple, Optional

from tests.benchmarks.groups import fanout, publishing, resting, sockets, stalled
from tests.benchmarks.groups.redis_process import redis_server, redis_title
from tests.benchmarks.results import Row


class Size(NamedTuple):
    """How much is measured, by part."""

    fanout: fanout.Size
    publishing: publishing.Size
    sockets: sockets.Size
    stalled: stalled.Size
    resting: resting.Size


FULL = Size(fanout.FULL, publishing.FULL, sockets.FULL, stalled.FULL, resting.FULL)
QUICK = Size(fanout.QUICK, publishing.QUICK, sockets.QUICK, stalled.QUICK, resting.QUICK)
PARTS = ('fanout', 'publishing', 'sockets', 'stalled', 'resting')


def run_part(name: str, size: Size, url: Optional[str], tell: Callable[[str], None]) -> List[Row]:
    """Return the rows of one part, measured."""
    if name == 'fanout':
        return asyncio.run(fanout.run(size.fanout, url, tell))
    if name == 'publishing':
        return asyncio.run(publishing.run(size.publishing, url, tell)) if url else []
    if name == 'sockets':
        return sockets.run(size.sockets, url, tell)
    if name == 'stalled':
        return stalled.run(size.stalled, tell)
    return resting.run(size.resting, url, tell)


class Outcome(NamedTuple):
    """What was found."""

    rows: List[Row]
    #: What Redis it was, if there was one.
    redis: Optional[str]
    size: Size


def run(quick: bool, tell: Callable[[str], None], parts: Optional[List[str]] = None) -> Outcome:
    """Return the rows of the section, measured; those that need Redis only where there is one."""
    size = QUICK if quick else FULL
    rows: List[Row] = []
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis_server())
        for name in parts or PARTS:
            rows += run_part(name, size, url, tell)
        return Outcome(rows, redis_title(url) if url else None, size)
