"""The plot in the documentation: what apistar-ws costs beside Starlette, and where the others are."""

import pathlib
from typing import Any, Dict, Sequence

from tests.benchmarks.contenders import BARE, OURS, STARLETTE, TITLES
from tests.benchmarks.results import Row, show_ratio

PLOT = 'performance.svg'
AHEAD, BEHIND = '#0f766e', '#c2410c'
#: How the others are marked.
MARKS: Dict[str, Dict[str, str]] = {
    'fastapi': {'marker': 's', 'color': '#4338ca'},
    'litestar': {'marker': 'D', 'color': '#a16207'},
    'flama': {'marker': '^', 'color': '#be185d'},
    BARE: {'marker': '|', 'color': '#6b7280'},
}


def draw_plot(rows: Sequence[Row], path: pathlib.Path) -> bool:
    """Write the plot of the first section, and tell whether that was possible."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        return False
    shown = [row for row in rows if row.section == rows[0].section and row.ratio(OURS, STARLETTE) is not None]
    # The same data make the same file.
    with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': PLOT, 'font.size': 9}):
        figure = Figure(figsize=(9, 0.38 * len(shown) + 1.4), layout='constrained')
        axes = figure.subplots()
        draw_ours(axes, shown)
        for contender, style in MARKS.items():
            draw_marks(axes, shown, contender, style)
        axes.set_xscale('log')
        axes.xaxis.set_major_formatter('{x:g}')
        axes.axvline(1, color='black', linewidth=1)
        axes.set_yticks(range(len(shown)), [row.title for row in shown])
        axes.invert_yaxis()
        axes.set_xlabel('Cost as a ratio to Starlette, logarithmic: bars to the left of 1 are ahead of it')
        axes.grid(axis='x', linewidth=0.3)
        figure.legend(loc='outside upper center', ncols=5, frameon=False)
        figure.savefig(path, metadata={'Date': None})
    return True


def draw_ours(axes: Any, rows: Sequence[Row]) -> None:
    """Draw a bar for each row, from Starlette to apistar-ws, and write the ratio at the margin."""
    ratios = [row.ratio(OURS, STARLETTE) or 1 for row in rows]
    colors = [AHEAD if ratio <= 1 else BEHIND for ratio in ratios]
    axes.barh(range(len(rows)), [ratio - 1 for ratio in ratios], 0.6, left=1, color=colors, label=TITLES[OURS])
    for number, ratio in enumerate(ratios):
        place = {'xycoords': axes.get_yaxis_transform(), 'va': 'center'}
        axes.annotate(show_ratio(ratio), (1.01, number), color=colors[number], fontweight='bold', **place)


def draw_marks(axes: Any, rows: Sequence[Row], contender: str, style: Dict[str, str]) -> None:
    """Mark where another contender is."""
    found = [(row.ratio(contender, STARLETTE), number) for number, row in enumerate(rows)]
    places = [(ratio, number) for ratio, number in found if ratio is not None]
    if places:
        axes.scatter(*zip(*places), s=22, label=TITLES[contender], zorder=3, **style)
