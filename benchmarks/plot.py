"""Pictures: how far each comparison is from its goal, and what grows with what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.case import Goal
from benchmarks.report import Row, Spread, rows
from benchmarks.rounds import Results

_ROW_INCHES = 0.32
_FAR = 10.0  # times the goal, or a share of it; what is farther away is drawn there


def write_goals(all_results: Sequence[Results], path: Path) -> None:
    """Write a picture of all comparisons that have a goal and were measured."""
    drawn = [
        row
        for results in all_results
        for row in rows(results)
        if row.comparison.goal is not None and row.compared is not None
    ]
    figure = Figure(figsize=(11, 1.5 + _ROW_INCHES * len(drawn)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for height, row in enumerate(reversed(drawn)):
        middle, low, high = _reached(row)
        colour = "tab:green" if row.is_met else "tab:red"
        axes.errorbar(
            middle, height, xerr=[[middle - low], [high - middle]], fmt="o", color=colour, capsize=3
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(0.8 / _FAR, 1.25 * _FAR)
    axes.set_yticks(range(len(drawn)), [_label(row) for row in reversed(drawn)], fontsize=8)
    axes.set_xlabel("share of the goal, up to ten times; from 1 on it is met")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, format="svg")


def _reached(row: Row) -> tuple[float, float, float]:
    """Return which shares of the goal the median and, from low to high, the quartiles reach."""
    goal, compared = row.comparison.goal, row.compared
    if goal is None or compared is None:
        raise ValueError("there is nothing to draw")
    shares = [_share(figure, goal) for figure in (compared.lower, compared.upper)]
    return _share(compared.median, goal), min(shares), max(shares)


def _share(figure: float, goal: Goal) -> float:
    if not goal.is_least and figure <= 0:
        return _FAR
    share = figure / goal.limit if goal.is_least else goal.limit / figure
    return min(max(share, 1 / _FAR), _FAR)


def _label(row: Row) -> str:
    one = row.comparison
    beside = f" / {one.beside}" if one.beside else ""
    return f"{row.results.case.name}, {one.measure}: {one.ours}{beside} {one.goal}"


def write_growth(all_results: Sequence[Results], path: Path) -> None:
    """Write a picture of the cases whose contestants have ever more of something."""
    drawn = [results for results in all_results if results.case.grows is not None]
    figure = Figure(figsize=(11, 1 + 3.5 * -(-len(drawn) // 2)), layout="constrained")
    FigureCanvasSVG(figure)
    for place, results in enumerate(drawn, 1):
        axes = figure.add_subplot(-(-len(drawn) // 2), 2, place)
        sizes = sorted(results.figures, key=int)
        for measure, unit in results.case.units.items():
            spreads = [Spread.of(results.figures[size][measure]) for size in sizes]
            middles = [one.median for one in spreads]
            below = [one.median - one.lower for one in spreads]
            above = [one.upper - one.median for one in spreads]
            axes.errorbar(
                [int(size) for size in sizes],
                middles,
                yerr=[below, above],
                marker="o",
                capsize=3,
                label=f"{measure}, {unit}",
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom / 2, top * 2)  # so that what hardly grows looks so
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.set_xlabel(f"{results.case.grows}, at scale 1")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, format="svg")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the plot of ratios; its goal is None where there is none."""

    label: str
    ratio: float
    goal: float | None


_WIDTH, _LEFT, _RIGHT, _TOP, _HEIGHT = 760, 300, 700, 40, 24
_RATIO_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
_LEGEND = "mq9 divided by the other: right of 1 mq9 is faster. A diamond is a goal."
_STYLE = """\
    .paper { fill: #fff; }
    text { font: 13px system-ui, sans-serif; fill: #222; }
    .tick { fill: #555; text-anchor: middle; }
    .label { text-anchor: end; }
    .before { text-anchor: end; }
    .line { stroke: #ddd; }
    .one { stroke: #222; stroke-width: 1.5; }
    .more { fill: #4051b5; }
    .less { fill: #c26a00; }
    .goal { fill: #fff; stroke: #222; stroke-width: 1.5; }"""


def ratios(bars: Sequence[Bar]) -> str:
    """Return an SVG of ratios on a logarithmic axis: bars that begin at one, goals as diamonds.

    It has a white background, so that it can be read on a dark page, too.
    """
    height = _TOP + _HEIGHT * len(bars) + 40
    bottom, middle = height - 40, (_LEFT + _RIGHT) / 2
    ticks = "".join(_tick(ratio, bottom) for ratio in _RATIO_TICKS)
    drawn = "".join(_bar(bar, _TOP + _HEIGHT * place) for place, bar in enumerate(bars))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" \
height="{height}" role="img" aria-label="Rates of mq9 divided by those of other programs">
  <style>
{_STYLE}
  </style>
  <rect class="paper" width="{_WIDTH}" height="{height}" rx="8"/>
{ticks}{drawn}\
  <text class="tick" x="{middle:g}" y="{bottom + 24}">{_LEGEND}</text>
</svg>
"""


def _tick(ratio: float, bottom: int) -> str:
    at, kind = _across(ratio), "one" if ratio == 1 else "line"
    return f"""\
  <line class="{kind}" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>
  <text class="tick" x="{at}" y="{_TOP - 10}">{ratio:g}</text>
"""


def _across(ratio: float) -> float:
    """Return where on the logarithmic axis a ratio lies; what is off the axis is at its end."""
    low, high = _RATIO_TICKS[0], _RATIO_TICKS[-1]
    share = math.log(min(max(ratio, low), high) / low) / math.log(high / low)
    return round(_LEFT + (_RIGHT - _LEFT) * share, 1)


def _bar(bar: Bar, top: int) -> str:
    one, at, text = _across(1), _across(bar.ratio), top + 16
    left, width = min(one, at), round(abs(at - one), 1)
    kind, side, beside = ("more", "after", at + 8) if at >= one else ("less", "before", at - 8)
    drawn = f"""\
  <text class="label" x="{_LEFT - 14}" y="{text}">{escape(bar.label)}</text>
  <rect class="{kind}" x="{left}" y="{top + 5}" width="{width}" height="{_HEIGHT - 10}"/>
  <text class="{side}" x="{beside:g}" y="{text}">{bar.ratio:.2f}</text>
"""
    if bar.goal is None:
        return drawn
    goal, middle = _across(bar.goal), top + _HEIGHT // 2
    corners = f"{goal},{middle - 6} {goal + 6:g},{middle} {goal},{middle + 6} {goal - 6:g},{middle}"
    return f'{drawn}  <polygon class="goal" points="{corners}"/>\n'
