"""What was measured: a sample per row, contender and round, and what follows from them."""

import statistics
from typing import Dict, List, NamedTuple, Optional

from tests.benchmarks.contenders import BARE, OURS, STARLETTE, TITLES

#: The second of two servers of the bare application, which shows how much noise there is.
BARE_AGAIN = 'bare again'


class Row:
    """One figure of all contenders.

    :param key: names it in code.
    :param title: names it in the table.
    :param unit: of the samples.
    :param section: where it stands in the table.
    :param more_is_better: whether it is a rate.
    :param has_ratios: whether the contenders' ratios mean anything, as they do not where figures are near 0.
    """

    def __init__(
        self, key: str, title: str, unit: str, section: str, more_is_better: bool = False, has_ratios: bool = True
    ) -> None:
        self.key = key
        self.title = title
        self.unit = unit
        self.section = section
        self.more_is_better = more_is_better
        self.has_ratios = has_ratios
        self.samples: Dict[str, List[float]] = {}
        #: Why a contender is not in this row.
        self.missing: Dict[str, str] = {}

    def add(self, contender: str, sample: float) -> None:
        """Note the sample of one more round."""
        self.samples.setdefault(contender, []).append(sample)

    def drop(self, contender: str, reason: str) -> None:
        """Take a contender out of this row."""
        self.samples.pop(contender, None)
        self.missing[contender] = reason

    def figure(self, contender: str) -> Optional[float]:
        """Return the median of a contender's rounds, or None if it is not in this row."""
        samples = self.samples.get(contender)
        return statistics.median(samples) if samples else None

    def ratios(self, contender: str, reference: str) -> List[float]:
        """Return the ratio of two contenders in each round; none in a row that has no ratios."""
        if not self.has_ratios:
            return []
        return [one / other for one, other in zip(self.samples.get(contender, ()), self.samples.get(reference, ()))]

    def ratio(self, contender: str, reference: str) -> Optional[float]:
        """Return the median of the ratios of two contenders, or None if one of them is not in this row."""
        ratios = self.ratios(contender, reference)
        return statistics.median(ratios) if ratios else None

    def noise(self) -> Optional[float]:
        """Return how far apart two servers of the bare application were in a typical round, as a share."""
        ratios = self.ratios(BARE_AGAIN, BARE)
        return statistics.median(abs(ratio - 1) for ratio in ratios) if ratios else None

    def is_behind(self, contender: str) -> bool:
        """Tell whether apistar-ws is behind ``contender`` in this row; without ratios, in any two of the rounds."""
        if not self.has_ratios:
            ours, others = self.samples.get(OURS), self.samples.get(contender)
            return bool(ours and others) and min(ours) > max(others)
        ratio = self.ratio(OURS, contender)
        return ratio is not None and (ratio < 1 if self.more_is_better else ratio > 1)


class Verdict(NamedTuple):
    """A goal, the limit for it, what was measured, and whether it is met."""

    goal: str
    limit: str
    measured: str
    met: Optional[bool]

    @property
    def word(self) -> str:
        """What the page says of it."""
        return 'not measured' if self.met is None else 'met' if self.met else 'missed'


class Goal(NamedTuple):
    """A ratio that apistar-ws shall not exceed; without a limit, it shall be ahead."""

    key: str
    reference: str
    limit: Optional[float]

    def verdict(self, row: Row) -> Verdict:
        """Return what came out."""
        ratio = row.ratio(OURS, self.reference)
        if self.limit is None:
            limit, met = 'ahead of %s' % TITLES[self.reference], ratio is not None and ratio < 1
        else:
            limit = 'at most %g x %s' % (self.limit, TITLES[self.reference])
            met = ratio is not None and ratio <= self.limit
        return Verdict(row.title, limit, show_ratio(ratio), None if ratio is None else met)


class NoiseGoal(NamedTuple):
    """A ratio to the bare application that shall not be told from noise, unless it is for the better."""

    key: str

    def verdict(self, row: Row) -> Verdict:
        """Return what came out."""
        ratio, noise = row.ratio(OURS, BARE), row.noise()
        if ratio is None or noise is None:
            return Verdict(row.title, 'bare ASGI, within the noise', 'n/a', None)
        worse = 1 - ratio if row.more_is_better else ratio - 1
        limit = 'bare ASGI, within the noise of %.1f %%' % (100 * noise)
        return Verdict(row.title, limit, show_ratio(ratio, 3), worse <= noise)


class LimitGoal(NamedTuple):
    """A figure of apistar-ws that shall not be above a limit, whatever the others need."""

    key: str
    limit: float

    def verdict(self, row: Row) -> Verdict:
        """Return what came out."""
        figure = row.figure(OURS)
        limit = 'at most %g %s' % (self.limit, row.unit)
        if figure is None:
            return Verdict(row.title, limit, 'n/a', None)
        return Verdict(row.title, limit, '%.2f %s' % (figure, row.unit), figure <= self.limit)


#: What idle connections may cost: percent of a core, and milliseconds that the event loop is held up.
IDLE_CORE = 0.5
IDLE_STALL = 3.0
GOALS = (
    Goal('seen 1', STARLETTE, 0.65),
    Goal('seen 1000', STARLETTE, 0.15),
    Goal('new 1', STARLETTE, 1.0),
    Goal('new 1000', STARLETTE, 0.3),
    Goal('guarded', STARLETTE, 1.0),
    Goal('guarded', 'fastapi', None),
    Goal('guarded', 'litestar', None),
    *[
        Goal(key, reference, limit)
        for key in ('talk', 'talk made', 'each', 'each made')
        for reference, limit in [(STARLETTE, 0.6), (BARE, 2.0)]
    ],
    Goal('json', STARLETTE, 0.7),
    Goal('json-orjson', 'litestar', 1.0),
    Goal('order-instance', STARLETTE, 1.8),
    Goal('order-dict', STARLETTE, 1.3),
    Goal('order-instance-orjson', STARLETTE, 1.3),
    Goal('order-dict-orjson', STARLETTE, 0.8),
    LimitGoal('idle talk core', IDLE_CORE),
    LimitGoal('idle talk stall', IDLE_STALL),
    LimitGoal('idle sleep core', IDLE_CORE),
    LimitGoal('idle sleep stall', IDLE_STALL),
    LimitGoal('idle limited core', IDLE_CORE),
    LimitGoal('idle limited stall', IDLE_STALL),
    NoiseGoal('echo'),
    NoiseGoal('connect'),
    Goal('memory', BARE, 1.03),
)


def verdicts(rows: List[Row]) -> List[Verdict]:
    """Return what came out of each goal whose row there is."""
    found = {row.key: row for row in rows}
    return [goal.verdict(found[goal.key]) for goal in GOALS if goal.key in found]


def missed(rows: List[Row]) -> List[Row]:
    """Return the rows that miss a goal."""
    found = {row.key: row for row in rows}
    keys = {goal.key for goal in GOALS if goal.key in found and goal.verdict(found[goal.key]).word == 'missed'}
    return [row for row in rows if row.key in keys]


def show_ratio(ratio: Optional[float], digits: int = 2) -> str:
    """Return a ratio as the table shows it."""
    return 'n/a' if ratio is None else '%.*f' % (digits, ratio)
