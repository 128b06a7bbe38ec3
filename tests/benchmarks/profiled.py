"""Where the time of a row goes: apistar-ws alone, under the profiler of the standard library."""

import asyncio
import cProfile
import pathlib
import pstats
from collections import Counter
from typing import Any, Dict, Iterable, List, Tuple

from tests.benchmarks.contenders import OURS, load
from tests.benchmarks.in_process import QUICK, Job, make_jobs, measure
from tests.benchmarks.scripted import started

#: Places that are named.
SHOWN = 7
#: A place in the code, and its own share of the time, in percent.
Share = Tuple[str, float]


async def profile(job: Job) -> List[Share]:
    """Return the places that take most of the time of a job, each by itself."""
    profiler = cProfile.Profile()
    async with started(job.build(load(OURS))) as app:
        await measure(job, app, job.warm_up(QUICK), QUICK)
        for script in job.scripts(QUICK):
            profiler.enable()
            await app(script.scope, script.receive, script.send)
            profiler.disable()
    stats: Any = pstats.Stats(profiler)
    return shares(stats.stats)


def shares(stats: Dict[Tuple[str, int, str], Any]) -> List[Share]:
    """Return the largest shares, built-in functions together."""
    own: Counter[str] = Counter()
    for (path, _, function), (_, _, seconds, _, _) in stats.items():
        if 'Profiler' not in function:
            own[place(path, function)] += seconds
    total = sum(own.values())
    return [(name, 100 * seconds / total) for name, seconds in own.most_common(SHOWN)]


def place(path: str, function: str) -> str:
    """Return how the page names a function."""
    parts = pathlib.PurePath(path).with_suffix('').parts
    if path == '~':
        return 'built-in functions'
    if path.startswith('<'):
        return 'what is compiled for the type or the route'
    if 'benchmarks' in parts:
        return 'the handler and the client'
    for package in ('apistar_ws', 'apistar'):
        if package in parts:
            after = len(parts) - parts[::-1].index(package) - 1
            return '%s.%s' % ('.'.join(parts[after:]), function)
    return '%s.%s' % (parts[-1], function)


def profiles(keys: Iterable[str]) -> Dict[str, List[Share]]:
    """Return the shares of each of these rows that is measured in process."""
    wanted = set(keys)
    return {job.row.key: asyncio.run(profile(job)) for job in make_jobs() if job.row.key in wanted}
