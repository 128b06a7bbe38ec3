"""The table in the terminal, and the page and the plot in the documentation."""

import itertools
import pathlib
import shlex
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from tests.benchmarks.contenders import BARE, OURS, STARLETTE, TITLES
from tests.benchmarks.environment import Environment
from tests.benchmarks.groups import Outcome, table
from tests.benchmarks.plot import PLOT, draw_plot
from tests.benchmarks.profiled import Share
from tests.benchmarks.results import Row, missed, show_ratio, verdicts
from tests.benchmarks.scripted import BROWSER_HEADERS

DOCS = pathlib.Path(__file__).resolve().parents[2] / 'docs'
PAGE = 'performance.rst'
TITLE_WIDTH = 58
COLUMN_WIDTH = 11


class Rounds(NamedTuple):
    """How many rounds each part has had."""

    in_process: int
    idle: int
    end_to_end: int
    memory: int


class Run(NamedTuple):
    """Everything that one run of the benchmark found."""

    rows: List[Row]
    environment: Environment
    rounds: Rounds
    #: How busy the client was at most, as a share of one processor.
    client_busy: float
    #: The options of the server.
    server_options: Dict[str, Any]
    groups: Outcome
    #: Where the time of the rows goes that miss a goal.
    profiles: Dict[str, List[Share]]


# What both have


def show_figure(row: Row, contender: str) -> str:
    """Return a figure as the tables show it."""
    figure = row.figure(contender)
    if figure is None:
        return 'n/a'
    return '{:,.0f}'.format(figure) if figure >= 1000 else '%.*f' % (2 if figure < 10 else 1, figure)


def absences(rows: Iterable[Row]) -> List[str]:
    """Return why a contender is not in a row, or in several rows for the same reason."""
    titles: Dict[Tuple[str, str], List[str]] = {}
    for row in rows:
        for contender, reason in row.missing.items():
            titles.setdefault((contender, reason), []).append(row.title)
    return [
        '%s, %s: n/a, since %s.' % (TITLES.get(contender, contender), '; '.join(names), reason.rstrip('.'))
        for (contender, reason), names in titles.items()
    ]


def defeat(row: Row, peer: str) -> str:
    """Return how far apistar-ws is behind ``peer``."""
    figures = '%s against %s %s' % (show_figure(row, OURS), show_figure(row, peer), row.unit)
    ratio, noise = row.ratio(OURS, peer), row.noise()
    if ratio is None:
        return '%s (%s)' % (TITLES[peer], figures)
    within = ', within the noise' if noise is not None and abs(ratio - 1) <= noise else ''
    return '%s (%s, ratio %s%s)' % (TITLES[peer], figures, show_ratio(ratio), within)


def defeats(rows: Iterable[Row]) -> List[str]:
    """Return the rows in which frameworks are ahead of apistar-ws."""
    found = []
    for row in rows:
        peers = [peer for peer in TITLES if peer not in (OURS, BARE) and row.is_behind(peer)]
        if peers:
            found.append('%s: %s.' % (row.title, '; '.join(defeat(row, peer) for peer in peers)))
    return found


# The table in the terminal


def text_line(title: str, cells: Iterable[str]) -> str:
    """Return a line of the table."""
    return title.ljust(TITLE_WIDTH) + ''.join(cell.rjust(COLUMN_WIDTH) for cell in cells)


def text_ratios(row: Row, reference: str) -> str:
    """Return the line with the ratios to ``reference``."""
    cells = [show_ratio(row.ratio(contender, reference)) for contender in TITLES]
    return text_line('    x %s' % TITLES[reference], cells)


def text_table(rows: Sequence[Row]) -> str:
    """Return the table."""
    lines = [text_line('', TITLES.values())]
    for section, members in itertools.groupby(rows, lambda row: row.section):
        lines += ['', section]
        for row in members:
            cells = [show_figure(row, contender) for contender in TITLES]
            lines += [text_line('%s, %s' % (row.title, row.unit), cells)]
            lines += [text_ratios(row, reference) for reference in (STARLETTE, BARE) if row.has_ratios]
    return '\n'.join(lines)


def text(rows: Sequence[Row]) -> str:
    """Return what is printed: the table, the goals, and what is to be known of both."""
    lines = [text_table(rows), '', 'Goals']
    lines += ['  %-57s %-40s %7s  %s' % (*verdict[:3], verdict.word) for verdict in verdicts(list(rows))]
    lines += ['', 'Where we lose', *['  ' + line for line in defeats(rows)]]
    missing = absences(rows)
    return '\n'.join(lines + (['', *missing] if missing else []))


def groups_text(outcome: Outcome) -> str:
    """Return what is printed of the groups."""
    return table.text(outcome.rows, outcome.redis is not None)


#: What stands between a row and its goal; shown where a goal of the row is missed.
REASONS = {
    'talk': (
        'Each of the two calls is a coroutine of its own around that of the server, which alone is about 1.35 x bare. '
        'The rest is what a default route switches on: the size limit, the guard against a second receiver, the '
        'counters that the watch reads, and the note of who is sending, by which a client that does not read is kept '
        'from stopping others.'
    ),
    'each': 'To that, the iteration adds one more coroutine for each message.',
    'memory': (
        'The channel, the frames between the server and the handler, and the entry in the watch stay for as long as '
        'the connection. In Python objects it is 5.6 KB against 4.8 of the bare application (tracemalloc): the channel '
        'with its path parameters is 408 bytes, the frame of the lifecycle 368, that of ``receive`` 192.'
    ),
    'seen': (
        'The largest parts are the lifecycle itself and the look at every header, for bytes that do not decode and for '
        'the origin.'
    ),
    'guarded': 'API Star makes the hooks anew for each connection, and each value passes through the injector.',
    'order': (
        "The constructor of the answer is API Star's, and interpreted; with a dict as the answer there is none. "
        'Starlette has pydantic, which reads, checks and writes in Rust.'
    ),
    'connect': 'What a connection costs in process, and the noise of two processes on two processors.',
    'echo': 'What a message costs in process, and the noise of two processes on two processors.',
}


def reasons(run: Run) -> List[str]:
    """Return, for each row with a missed goal, why it is missed, and where its time goes."""
    found = []
    for row in missed(run.rows):
        reason = next((REASONS[key] for key in REASONS if key in row.key), '')
        reason = 'As above.' if any(reason and reason in line for line in found) else reason
        shares = ', '.join('%s %.0f %%' % share for share in run.profiles.get(row.key, ()))
        found.append('%s: %s' % (row.title, reason + (' Profile: %s.' % shares if shares else '')))
    return found


# The page


def heading(title: str, underline: str = '-') -> str:
    """Return a heading of the page."""
    return '%s\n%s\n' % (title, underline * len(title))


def bullets(items: Iterable[str]) -> str:
    """Return a list of the page."""
    return ''.join('* %s\n' % item for item in items)


def rst_table(header: Sequence[str], rows: Iterable[Sequence[str]], title_columns: int = 0) -> str:
    """Return a table of the page; a cell of several lines keeps them."""
    options = ['   :header-rows: 1\n'] + (['   :stub-columns: %d\n' % title_columns] if title_columns else [])
    return '.. list-table::\n%s\n%s' % (''.join(options), ''.join(rst_table_row(cells) for cells in [header, *rows]))


def rst_table_row(cells: Sequence[str]) -> str:
    """Return a row of a table."""
    shown = [' | '.join([''] + cell.split('\n')).lstrip() if '\n' in cell else cell for cell in cells]
    shown = [cell.replace(' | ', '\n       | ') for cell in shown]
    lines = ['   %s - %s' % ('*' if index == 0 else ' ', cell) for index, cell in enumerate(shown)]
    return ''.join(line.rstrip() + '\n' for line in lines)


def figure_cell(row: Row, contender: str) -> str:
    """Return a cell of the page's table: the figure and its ratios, where the row has them."""
    if row.figure(contender) is None:
        return 'n/a'
    if not row.has_ratios:
        return '%s %s' % (show_figure(row, contender), row.unit)
    ratios = [show_ratio(row.ratio(contender, reference)) for reference in (STARLETTE, BARE)]
    return '%s %s\n%s × Starlette\n%s × bare' % (show_figure(row, contender), row.unit, *ratios)


def rst_results(rows: Sequence[Row]) -> str:
    """Return the page's table."""
    cells = [[row.title, *[figure_cell(row, contender) for contender in TITLES]] for row in rows]
    return rst_table(['', *TITLES.values()], cells, title_columns=1)


def rst_short(rows: Sequence[Row]) -> str:
    """Return the short table: apistar-ws as a ratio to each of the others, so that less is better in every row."""
    peers = [contender for contender in TITLES if contender != OURS]
    cells = [[row.title, *[short_ratio(row, peer) for peer in peers]] for row in rows if row.has_ratios]
    return rst_table(['', *[TITLES[peer] for peer in peers]], cells, title_columns=1)


def short_ratio(row: Row, peer: str) -> str:
    """Return what apistar-ws takes where ``peer`` takes 1."""
    ratio = row.ratio(OURS, peer)
    shown = show_ratio(1 / ratio if ratio and row.more_is_better else ratio)
    return '**%s**' % shown if ratio and float(shown) < 1 else shown


def rst_environment(environment: Environment) -> str:
    """Return the page's list of what was measured with."""
    return bullets(
        [
            'Date: %s' % environment.date,
            'Processor: %s, %d cores' % (environment.processor, environment.cores),
            'System: %s, load average before the run: %s' % (environment.system, environment.load),
            'Python: %s' % environment.python,
            'Packages: %s' % ', '.join('%s %s' % pair for pair in environment.versions),
        ]
    )


def rst_goals(rows: Sequence[Row]) -> str:
    """Return the page's table of goals."""
    cells = [[verdict.goal, verdict.limit, verdict.measured, verdict.word] for verdict in verdicts(list(rows))]
    return rst_table(['Figure', 'Goal', 'Measured', ''], cells)


def command_line(options: Dict[str, Any]) -> str:
    """Return the options of the server as its command line has them."""
    words = []
    for name, value in options.items():
        flag = name.replace('_', '-')
        words.append('--%s%s' % ('no-' if value is False else '', flag))
        words += [] if isinstance(value, bool) else [str(value)]
    return shlex.join(words)


def rst_noise(rows: Iterable[Row]) -> str:
    """Return a list of the noise of each row that tells it."""
    noises = [(row.title, row.noise()) for row in rows]
    return bullets('%s: %.1f %%' % (title, 100 * noise) for title, noise in noises if noise is not None)


def rst_group_results(rows: Sequence[Row]) -> str:
    """Return the table of the groups."""
    cells = [[row.title, table.show(row, OURS), '\n'.join(table.peers(row)) or '–'] for row in rows]
    return rst_table(['', 'apistar-ws', 'Others, and apistar-ws as a ratio to each'], cells, title_columns=1)


def rst_group_goals(rows: Sequence[Row]) -> str:
    """Return the table of the goals of the groups."""
    cells = [[verdict.goal, verdict.limit, verdict.measured, verdict.word] for verdict in table.verdicts(rows)]
    return rst_table(['Figure', 'Goal', 'Measured', ''], cells)


def rst_groups(outcome: Outcome) -> str:
    """Return the section of the groups."""
    size = outcome.size
    filled = GROUPS_TEXT.format(
        title=heading('Groups'),
        redis=outcome.redis or 'which there was none of',
        results=rst_group_results(outcome.rows),
        absences=bullets(([] if outcome.redis else [table.NO_REDIS]) + table.absences(outcome.rows)),
        goals=rst_group_goals(outcome.rows),
        fanout_rounds=size.fanout.rounds,
        publishing_rounds=size.publishing.rounds,
        socket_rounds=size.sockets.rounds,
        worker_rounds=size.sockets.worker_rounds,
        stalled_rounds=size.stalled.rounds,
        messages=size.stalled.messages,
        bytes=size.stalled.bytes,
        milliseconds='%g' % (1000 * size.stalled.interval),
        idle_seconds='%g' % size.resting.seconds,
    )
    return filled.replace('\n\n\n', '\n\n')


GROUPS_TEXT = """{title}
One message to all members of a group, beside what else does that: Litestar's channels, channels_redis, redis-py with
nothing around it, and a loop over the members. Figures are medians over rounds, and the ratios medians of the ratios
of each round, in which every contender has a turn, in random order; below 1 they are in favour of apistar-ws, of
rates above 1. Redis is one of the benchmark's own, {redis}, on the same machine. Only apistar-ws "with history" keeps
messages and proves that none is missing; Litestar's stream keeps them, pub/sub and channels_redis do not.

{results}
{absences}
{goals}
To all members, with fake sends ({fanout_rounds} rounds)
    Processor time of the process, until every member's ``send``, which only counts, has been called. A burst is sent
    without waiting in between. *A bare loop* is ``for send in sends: await send(text)``.

From send to member; published; ``members()`` ({publishing_rounds} rounds)
    Real time. From the call of ``send`` to the call of the member, in one process and through Redis, one message
    after the other, to a random one of the groups; redis-py publishes to one channel, to which it listens. Published:
    each of those at once awaits its own before the next, and nobody listens. ``members()`` is beside an HGETALL of
    the same JSON, decoded.

Sockets ({socket_rounds} rounds; of the workers {worker_rounds})
    uvicorn in processes of their own, and a client in another one that holds all connections. *A bare loop* and
    *gather* are over ``ws.send`` of apistar-ws; the other loop is over the ``send`` of an ASGI application with no
    framework at all. Processor time of the servers, with all they do for it, for each member and message. *Until all
    have it* is real time, with servers, Redis and client on the processors that there are.

One does not read ({stalled_rounds} rounds)
    A message of {bytes} bytes every {milliseconds} ms, {messages} in all, from when it was due, with small send
    buffers, beside the same where all read. What had not come a second after the end counts as if it came then: of a
    loop that stands still, that is nearly all of it.

Idle, {idle_seconds} seconds
    Commands are counted by Redis's MONITOR; those inside of scripts are not sent by anybody. Memory is what Python has
    allocated (tracemalloc), with the function that is a member here, and without a WebSocket.
"""


PAGE_TEXT = """{title}
.. Written by "make bench", from tests/benchmarks/report.py: changes made here are lost.

apistar-ws beside its peers, every framework as its own documentation would have it, all of them doing the same
work. Nothing is turned off for the benchmark: the lifecycle, the limits, the check of the origin and the disconnect
handling of a default route are in all figures of apistar-ws.

What apistar-ws takes, in processor time, real time or memory, where another takes 1. Below 1, in bold, it takes less:

{short}
{plot}
{environment}
{results_title}
A figure is a median over rounds. A round measures every contender once, in random order, so that all of them see
the same noise. The ratios below a figure compare it with Starlette and with a bare ASGI application: they are
medians of the ratios of each round. Figures of idle connections are near 0 and have no ratios. Times, shares and
memory are better when they are lower, rates when they are higher.

{results}
{absences}
{goals_title}
{goals}
"Within the noise" means: no further behind the bare application than a second server of the same bare application
is, in a typical round, away from the first. In this run it was that far away:

{noise}
{reasons_title}
{reasons}
On Python 3.11, measured apart (``python -m tests.benchmarks in-process``; nine rounds on 2026-11-27), more is missed:

* a message takes 0.84 and 0.86 of Starlette, and with messages made beforehand 0.77 and 0.80; 2.97 to 3.83 of the bare
  application. Litestar is ahead there in ``async for`` (2.20 against 2.65 µs);
* a connection on a seen path takes 0.86 of Starlette, one with three components and two hooks 1.19;
* a typed message takes 1.51 with a dict out and 2.55 with an instance out; JSON 0.60, which is met.

{defeats_title}
{defeats}
A bare ASGI application does nothing that was not asked for here. It shows what is left to save.

{groups}
{how_title}
In process ({in_process_rounds} rounds)
    One process, one event loop, processor time. ``receive`` and ``send`` are scripted: they make messages as a
    server does, and do not keep the application waiting. The scope of a connection is made anew, as uvicorn makes
    it, with the {headers} headers of a browser. Before the first round every contender has to accept, echo and close
    with 1000, and to know its path parameter; every later connection is counted. The cyclic garbage collector is on;
    what the applications consist of is kept out of its sight.

    *Connection*: route, inject, accept, one message, close. Many routes are drawn evenly. *Path seen before*: the
    same paths again and again. *New path each time*: no path comes twice, and more of them came before than any
    contender remembers.

    *Three components and two hooks*: a user and a locale from headers, a limit from the query string; clients
    that are bots and hosts that are not ours are refused, which is checked before. apistar-ws takes
    API Star's components and event hooks, Starlette functions and ASGI middlewares, FastAPI and Litestar
    dependencies and ASGI middlewares, which cost them less than dependencies and guards do. Flama takes components
    and its own middlewares; it has no event hooks for requests.

    *Message*: a connection with 2,000 of them, its own cost included. Bare ASGI has one way to loop, in both rows.
    *Made beforehand*: the client hands out one message again and again; in the other rows it makes each anew, as a
    server does, and that is in the figures of all. *JSON*: a small object, decoded and encoded by what each framework
    has as its default; with orjson in the handler where it has no setting for it. Litestar has msgspec in both rows.

    *Typed message*: an order of five fields, one of them a type of its own, is checked, and answered with a receipt of
    three, which is checked too. Starlette and FastAPI take pydantic's own JSON, and make a model in either row;
    Litestar takes msgspec. *Other types* and *other components and hooks* were written before any of it was made
    faster, to see whether that is of use elsewhere: one of two types, with a date, lists and defaults; a guard that
    waits, a counter that counts down at the end, and a value that is made of another.

In process, idle ({idle_rounds} rounds)
    10,000 open connections with scripted clients that do nothing, of one contender alone on a new event loop, which
    have had two seconds to settle. *Share of a core*: the processor time of three seconds. *Longest stall*: how late
    a timer of 1 ms was at worst in the three seconds after, as far as the process used the processor meanwhile; the
    rest is the machine's. The garbage collector is off. *In receive* and *in sleep* is what the handlers do; *with
    limits* means ``idle_timeout=3600, send_timeout=20``, which apistar-ws alone has as settings. Another framework
    counts as ahead where all its rounds are below all those of apistar-ws.

End to end ({end_to_end_rounds} rounds of the rates, {memory_rounds} of the memory)
    Every contender in its own server process, without compression, on the loopback:
    ``uvicorn {options}``.
    The client is another process, with frames made by hand; it was busy {busy} % of the time at most.

    *Memory*: what 2,500 idle connections add to the resident memory of a new server that has as many already, so
    that one process holds 5,000. Their handlers wait for a message, or sleep; whoever looks at idle connections has
    had the time to.

    The C library is told to keep freed memory. Otherwise it gives memory back and fetches it again with every read
    where the heap happens to end, which halves the rate of a small process such as the bare one.

    This part is there to show what a user feels. With two processors the client and the server share them
    with the system, so expect noise.

{repeat_title}
.. code-block:: console

   $ make bench

It installs the peers into ``.venv``, takes about half an hour, prints the table, and writes this page and its
plot. The sources are in ``tests/benchmarks/``. ``python -m tests.benchmarks --quick`` is a smoke run, which
writes nothing; ``python -m tests.benchmarks groups`` measures the groups alone, and prints their section.
"""


def page(run: Run, has_plot: bool) -> str:
    """Return the page of the documentation."""
    image = '.. image:: %s\n   :alt: Cost in process as a ratio to Starlette: bars to the left are ahead of it\n' % PLOT
    filled = PAGE_TEXT.format(
        title=heading('Performance', '='),
        environment=rst_environment(run.environment),
        results_title=heading('Results'),
        short=rst_short(run.rows),
        results=rst_results(run.rows),
        absences=bullets(absences(run.rows)),
        plot=image if has_plot else '',
        goals_title=heading('Goals'),
        goals=rst_goals(run.rows),
        noise=rst_noise(run.rows),
        reasons_title=heading('Why what is missed is missed'),
        reasons=bullets(reasons(run)) or 'Nothing is, in this run.\n',
        defeats_title=heading('Where we lose'),
        defeats=bullets(defeats(run.rows)) or 'To none of the frameworks, in this run.\n',
        groups=rst_groups(run.groups),
        how_title=heading('How it is measured'),
        in_process_rounds=run.rounds.in_process,
        idle_rounds=run.rounds.idle,
        headers=len(BROWSER_HEADERS),
        end_to_end_rounds=run.rounds.end_to_end,
        memory_rounds=run.rounds.memory,
        options=command_line(run.server_options),
        busy='%.0f' % (100 * run.client_busy),
        repeat_title=heading('How to repeat it'),
    )
    return filled.replace('\n\n\n', '\n\n')


def write(run: Run, docs: Optional[pathlib.Path] = None) -> List[pathlib.Path]:
    """Write the page and its plot, and return where they are."""
    docs = docs or DOCS
    docs.mkdir(exist_ok=True)
    has_plot = draw_plot(run.rows, docs / PLOT)
    (docs / PAGE).write_text(page(run, has_plot), encoding='utf-8')
    return [docs / name for name in ((PAGE, PLOT) if has_plot else (PAGE,))]
