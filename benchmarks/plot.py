"""Pictures: how far each comparison is from its goal, and what grows with what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
