"""What a connection and a message cost in instructions, which no load of the machine changes.

``python -m tests.benchmarks.counted``, or ``make counts``, prints the table of the Python that runs it. ``--check``
also compares the ratios to bare ASGI with those in ``counts.json``, and ``--write`` puts the figures there.

Each figure is the difference of two runs under valgrind: one does a little of everything, the other does the same and
then a lot of one thing, so that starting, importing and filling caches cancel out. Counts are the same from run to run,
and differ between builds of one Python: ``counts.json`` has the figures by build. On a build that it does not know, the
commit that last changed the file is counted too, with the same packages.
"""

import argparse
import asyncio
import contextlib
import gc
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from tests.benchmarks.contenders import BARE, OURS, STARLETTE, TITLES, load
from tests.benchmarks.contenders.payloads import ORDER
from tests.benchmarks.scripted import ECHO_DUE, TEXT, VALUE, PreparedScript, Script, make_scope

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIGURES = pathlib.Path(__file__).with_name('counts.json')
#: A ratio may be so much higher than the noted one: seeds and environments move it by 0.3 % at most.
TOLERANCE = 0.02
#: How often each thing is done before the count, so that caches are full and the interpreter has specialised, and how
#: often the one thing is done that is counted.
WARM_UP, TIMES = 100, 400
#: Address randomisation off: addresses decide the order of sets and the layout of dicts.
COMMAND = ['setarch', platform.machine(), '-R', 'valgrind', '--tool=cachegrind', '--cache-sim=no']
INSTALL = 'apt-get install valgrind util-linux'


class Job(NamedTuple):
    """One row of the table.

    :param title: names it.
    :param build: makes the application, given the module of a contender.
    :param path: of the connections.
    :param payload: each message.
    :param is_message: whether messages of one connection are counted, and not connections.
    :param query: the query string of the connections.
    """

    title: str
    build: Callable[[Any], Any]
    path: str
    payload: str = TEXT
    is_message: bool = False
    query: str = ''


JOBS = {
    'connection': Job('Connection', lambda module: module.build(1), '/chat0/lobby'),
    'message': Job('Message', lambda module: module.conversations(), '/each/lobby', is_message=True),
    'json': Job('JSON message', lambda module: module.conversations(), '/json/lobby', json.dumps(VALUE), True),
    'typed': Job('Typed message', lambda module: module.typed(), '/order-dict/lobby', json.dumps(ORDER), True),
    'guarded': Job(
        'Connection, hooks and components', lambda module: module.guarded(), '/chat0/lobby', query='limit=50'
    ),
}
CONTENDERS = (OURS, STARLETTE, BARE)
#: The job of the shorter run.
NOTHING = 'nothing'
Figures = Dict[str, Dict[str, int]]


# In the process that is counted


def make_scripts(job: Job, times: int) -> List[Script]:
    """Return the clients that do what a job counts so many times."""
    if job.is_message:
        return [PreparedScript(make_scope(job.path), job.payload.encode(), times + 1, times)]
    scopes = [make_scope(job.path, job.query, proxied=bool(job.query)) for _ in range(times)]
    return [PreparedScript(scope, TEXT.encode(), ECHO_DUE) for scope in scopes]


async def converse(app: Any, scripts: List[Script]) -> None:
    """Serve clients one after the other."""
    for script in scripts:
        await app(script.scope, script.receive, script.send)
        assert script.sent == script.due, (script.sent, script.due)


async def work(contender: str, counted: str) -> None:
    """Warm up, then do one job, or none, many times: what a process that is counted does."""
    # Time stands still: a timer that is due depends on how fast the machine is.
    asyncio.get_running_loop().time = lambda: 0.0  # type: ignore[method-assign]
    module = load(contender)
    jobs = {key: job for key, job in JOBS.items() if takes_part(contender, key)}
    apps = {key: job.build(module) for key, job in jobs.items()}
    scripts = {key: make_scripts(job, TIMES) for key, job in jobs.items()}
    for key, job in jobs.items():
        await converse(apps[key], make_scripts(job, WARM_UP))
    gc.collect()
    gc.freeze()
    if counted != NOTHING:
        await converse(apps[counted], scripts[counted])
    # What the interpreter does at its end is not counted.
    os._exit(0)


def takes_part(contender: str, key: str) -> bool:
    """Tell whether a contender can do a job: bare ASGI knows no types."""
    return not (contender == BARE and key == 'typed')


# Counting


def run(contender: str, key: str, root: pathlib.Path, *under: str) -> None:
    """Do a job in a process of its own, with the package at ``root``, under another program."""
    done = subprocess.run(
        [*under, sys.executable, '-W', 'ignore', '-m', 'tests.benchmarks.counted', '--work', contender, key],
        env={'PATH': os.environ['PATH'], 'PYTHONHASHSEED': '0', 'PYTHONPATH': str(root)},
        capture_output=True,
        text=True,
        cwd=root,
    )
    if done.returncode:
        raise SystemExit('%s of %s could not be counted:\n%s' % (key, contender, done.stderr))


def count(contender: str, key: str, root: pathlib.Path) -> int:
    """Return the instructions of a process that does a job."""
    with tempfile.TemporaryDirectory() as directory:
        found = pathlib.Path(directory, 'found')
        run(contender, key, root, *COMMAND, '--cachegrind-out-file=%s' % found)
        summary = re.search(r'^summary: (\d+)', found.read_text(), re.MULTILINE)
    assert summary is not None
    return int(summary[1])


def count_all(contenders: Sequence[str], root: pathlib.Path = ROOT) -> Figures:
    """Return the instructions of one connection or message, by contender and job."""
    for contender in contenders:
        # Once uncounted, so that all modules are compiled.
        run(contender, NOTHING, root)
    wanted = [(name, key) for name in contenders for key in [NOTHING, *JOBS] if key == NOTHING or takes_part(name, key)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        totals = dict(zip(wanted, pool.map(lambda pair: count(*pair, root), wanted)))
    figures: Figures = {name: {} for name in contenders}
    for (name, key), total in totals.items():
        if key != NOTHING:
            figures[name][key] = (total - totals[name, NOTHING]) // TIMES
    return figures


# The noted figures


def build_name() -> str:
    """Return the name of this build of Python: its version, how it was configured, and its C library."""
    configured = hashlib.sha256((sysconfig.get_config_var('CONFIG_ARGS') or '').encode()).hexdigest()[:12]
    libc = '-'.join(filter(None, platform.libc_ver()))
    return ' '.join([platform.python_implementation(), platform.python_version(), platform.machine(), libc, configured])


def noted() -> Dict[str, Figures]:
    """Return the figures of the builds that are known."""
    found: Dict[str, Figures] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    return found


def write(figures: Figures) -> None:
    """Note the figures of this build."""
    FIGURES.write_text(json.dumps({**noted(), build_name(): figures}, indent=2, sort_keys=True) + '\n')


def git(*words: str) -> str:
    """Return what git says."""
    return subprocess.run(['git', *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def noting_commit() -> Iterator[pathlib.Path]:
    """Supply a checkout of the commit that last changed the noted figures."""
    commit = git('log', '-1', '--format=%H', '--', str(FIGURES))
    if not commit:
        raise SystemExit('No commit has noted figures, or the clone is shallow: git fetch --unshallow.')
    with tempfile.TemporaryDirectory() as directory:
        git('worktree', 'add', '--detach', directory, commit)
        try:
            yield pathlib.Path(directory)
        finally:
            git('worktree', 'remove', '--force', directory)


def reference(figures: Figures) -> Figures:
    """Return the figures to compare with: the noted ones, or those of the commit that has noted them."""
    known = noted().get(build_name())
    if known is not None:
        return known
    print('No figures are noted for this build (%s): the commit that last noted some is counted.' % build_name())
    with noting_commit() as root:
        return {**count_all([OURS], root), BARE: figures[BARE]}


def to_bare(figures: Figures, key: str) -> Optional[float]:
    """Return the ratio of ours to bare ASGI; a typed message is set beside a bare one of JSON."""
    bare = figures.get(BARE, {}).get('json' if key == 'typed' else key)
    ours = figures.get(OURS, {}).get(key)
    return ours / bare if bare and ours else None


def grown(figures: Figures, before: Figures) -> List[str]:
    """Return a sentence for each ratio that has grown by more than is allowed."""
    sentences = []
    for key, job in JOBS.items():
        now, then = to_bare(figures, key), to_bare(before, key)
        if now is not None and then is not None and now > then * (1 + TOLERANCE):
            sentences.append(
                '%s: %.3f times bare ASGI, where %.3f is noted. Make it cheaper, or note it by "make counts WRITE=1".'
                % (job.title, now, then)
            )
    return sentences


def table(figures: Figures) -> str:
    """Return the table of one build."""
    titles = [*(TITLES[name] for name in figures), 'to bare']
    lines = [build_name(), '%-34s' % 'Instructions' + ''.join('%14s' % title for title in titles)]
    for key, job in JOBS.items():
        cells = ['{:,}'.format(figures[name][key]) if key in figures[name] else 'n/a' for name in figures]
        ratio = to_bare(figures, key)
        shown = '' if ratio is None else '%.3f' % ratio
        lines.append('%-34s' % job.title + ''.join('%14s' % cell for cell in [*cells, shown]))
    return '\n'.join(lines)


def parse() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='fail where a ratio to bare ASGI has grown')
    parser.add_argument('--write', action='store_true', help='note the figures for this build of Python')
    parser.add_argument('--work', nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Count, print the table, and compare or note the figures."""
    args = parse()
    if args.work:
        return asyncio.run(work(*args.work))
    if not (shutil.which('valgrind') and shutil.which('setarch')):
        raise SystemExit('Instructions are counted by valgrind: %s.' % INSTALL)
    figures = count_all((OURS, BARE) if args.check else CONTENDERS)
    print(table(figures))
    if args.write:
        write(figures)
    if args.check and (sentences := grown(figures, reference(figures))):
        raise SystemExit('\n'.join(sentences))


if __name__ == '__main__':
    main()
