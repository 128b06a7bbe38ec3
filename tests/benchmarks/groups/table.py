"""The goals of the groups, and their tables for the terminal and the page."""

from typing import Dict, Iterable, List, NamedTuple, Sequence

from tests.benchmarks.contenders import OURS
from tests.benchmarks.results import Row, Verdict, show_ratio

SECTION = 'Groups'
LOOP = 'loop'
ASGI_LOOP = 'asgi loop'
GATHER = 'gather'
MEMORY = 'litestar memory'
PUBSUB = 'litestar pubsub'
STREAM = 'litestar stream'
CHANNELS = 'channels_redis'
REDIS_PY = 'redis-py'
ONE_GROUP = 'one group'
ALL_READ = 'all read'
TITLES = {
    OURS: 'apistar-ws',
    LOOP: 'a bare loop',
    ASGI_LOOP: 'a loop over bare ASGI',
    GATHER: 'gather',
    MEMORY: 'Litestar in memory',
    PUBSUB: 'Litestar pub/sub',
    STREAM: 'Litestar stream',
    CHANNELS: 'channels_redis',
    REDIS_PY: 'redis-py',
    ONE_GROUP: '1 group',
    ALL_READ: 'where all read',
}


NO_REDIS = 'Nothing is measured over Redis: neither redis-server nor valkey-server is on the path.'


class Goal(NamedTuple):
    """A ratio that apistar-ws shall not exceed, or of a rate, that it shall reach."""

    key: str
    reference: str
    limit: float

    def verdict(self, row: Row) -> Verdict:
        """Return what came out."""
        ratio = row.ratio(OURS, self.reference)
        word = 'at least' if row.more_is_better else 'at most'
        limit = '%s %g x %s' % (word, self.limit, TITLES[self.reference])
        if ratio is None:
            return Verdict(row.title, limit, 'n/a', None)
        return Verdict(
            row.title, limit, show_ratio(ratio), ratio >= self.limit if row.more_is_better else ratio <= self.limit
        )


class Most(NamedTuple):
    """A figure of apistar-ws that shall not be above a limit, whatever the others need."""

    key: str
    limit: float

    def verdict(self, row: Row) -> Verdict:
        """Return what came out."""
        figure = row.figure(OURS)
        limit = 'at most %g %s' % (self.limit, row.unit)
        if figure is None:
            return Verdict(row.title, limit, 'n/a', None)
        return Verdict(row.title, limit, '%.2f' % figure, figure <= self.limit)


#: Flat: so much more may a message take where there are a thousand groups.
FLAT = 1.25
#: "No CPU", in percent of a core.
IDLE_CORE = 0.5
GOALS = (
    Goal('local one', MEMORY, 0.45),
    Goal('local burst', MEMORY, 0.40),
    Goal('local one', LOOP, 11),
    Goal('local burst', LOOP, 3.5),
    Goal('remote one', PUBSUB, 0.55),
    Goal('remote burst', PUBSUB, 0.55),
    Goal('sockets one', LOOP, 1.1),
    Goal('sockets burst', LOOP, 0.9),
    Goal('workers core', PUBSUB, 0.75),
    Goal('workers time', PUBSUB, 0.75),
    Goal('trip 1', REDIS_PY, 2),
    Goal('trip 100', REDIS_PY, 2),
    Goal('trip 1000', REDIS_PY, 2),
    Goal('trip flat', ONE_GROUP, FLAT),
    Goal('publish', REDIS_PY, 3),
    Goal('publish history', REDIS_PY, 1.5),
    Goal('members', REDIS_PY, 2),
    Goal('stalled', ALL_READ, 2),
    Most('idle commands', 1),
    Most('idle core', IDLE_CORE),
)


def verdicts(rows: Iterable[Row]) -> List[Verdict]:
    """Return what came out of each goal whose row there is."""
    found: Dict[str, Row] = {row.key: row for row in rows}
    return [goal.verdict(found[goal.key]) for goal in GOALS if goal.key in found]


def show(row: Row, contender: str) -> str:
    """Return a figure as the tables show it."""
    figure = row.figure(contender)
    if figure is None:
        return 'n/a'
    if figure >= 1000:
        return '{:,.0f} {}'.format(figure, row.unit)
    return '%.*f %s' % (2 if figure < 10 else 1, figure, row.unit)


def beside(row: Row, contender: str) -> str:
    """Return the figure of a peer, and ours as a ratio to it."""
    ratio = row.ratio(OURS, contender)
    shown = '%s: %s' % (TITLES[contender], show(row, contender))
    return shown if ratio is None else '%s, %s ×' % (shown, show_ratio(ratio))


def peers(row: Row) -> List[str]:
    """Return what the others need, those first who need least."""
    names = sorted((name for name in row.samples if name != OURS), key=row.figure, reverse=row.more_is_better)
    return [beside(row, name) for name in names]


def absences(rows: Iterable[Row]) -> List[str]:
    """Return why a contender is not in a row."""
    return [
        '%s, %s: n/a, since %s.' % (TITLES.get(contender, contender), row.title, reason.rstrip('.'))
        for row in rows
        for contender, reason in row.missing.items()
    ]


def text(rows: Sequence[Row], has_redis: bool) -> str:
    """Return the tables for the terminal."""
    lines = [SECTION]
    for row in rows:
        lines += ['  %-84s %s' % (row.title, show(row, OURS)), *['      ' + line for line in peers(row)]]
    lines += ['', 'Goals of the groups']
    lines += ['  %-84s %-36s %7s  %s' % (*verdict[:3], verdict.word) for verdict in verdicts(rows)]
    missing = ([] if has_redis else [NO_REDIS]) + absences(rows)
    return '\n'.join(lines + (['', *missing] if missing else []))
