"""The table of a run: computed, and written as JSON and as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.case import By, Comparison
from benchmarks.rounds import Results

_HEADINGS = ("case", "measure", "ours", "", "beside", "", "compared", "goal", "met")
_COMPARED = {By.RATIO: "{} times", By.DIFFERENCE: "{} {unit} more", By.VALUE: "{} {unit}"}


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, and the quartiles between which half of them lie."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Return that of at least one figure."""
        if len(figures) == 1:
            return cls(figures[0], figures[0], figures[0])
        lower, median, upper = statistics.quantiles(figures, n=4, method="inclusive")
        return cls(median, lower, upper)

    def __str__(self) -> str:
        if self.lower == self.upper:
            return _shown(self.median)
        return f"{_shown(self.median)} ({_shown(self.lower)} to {_shown(self.upper)})"


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


@dataclass(frozen=True, slots=True)
class Row:
    """A comparison, and what the rounds came to. What is None was not measured.

    Attributes:
        results: The case.
        comparison: What is compared.
        ours: The figures of the contestant it is about.
        beside: Those of the other one.
        compared: What each round came to; a round is compared with itself, since a machine that
            others use is slower in one round than in the next.
    """

    results: Results
    comparison: Comparison
    ours: Spread | None
    beside: Spread | None
    compared: Spread | None

    @property
    def is_met(self) -> bool | None:
        """Whether the median meets the goal; None where there is no goal or nothing to compare."""
        if self.comparison.goal is None or self.compared is None:
            return None
        return self.comparison.goal.is_met(self.compared.median)


def rows(results: Results) -> list[Row]:
    """Return the rows of a case."""
    return [_row(results, comparison) for comparison in results.case.comparisons]


def _row(results: Results, comparison: Comparison) -> Row:
    ours = _figures(results, comparison.ours, comparison.measure)
    other = _figures(results, comparison.beside, comparison.beside_measure or comparison.measure)
    compared: list[float] = []
    if comparison.by is By.VALUE:
        compared = ours
    elif comparison.by is By.RATIO:
        compared = [one / another for one, another in zip(ours, other, strict=False)]
    else:
        compared = [one - another for one, another in zip(ours, other, strict=False)]
    return Row(results, comparison, _spread(ours), _spread(other), _spread(compared))


def _figures(results: Results, contestant: str | None, measure: str) -> list[float]:
    if contestant is None:
        return []
    return results.figures.get(contestant, {}).get(measure, [])


def _spread(figures: Sequence[float]) -> Spread | None:
    return Spread.of(figures) if figures else None


def cells(row: Row) -> tuple[str, ...]:
    """Return what a row of the table says."""
    results, comparison = row.results, row.comparison
    units = results.case.units
    measure, other = comparison.measure, comparison.beside_measure or comparison.measure
    goal, met = "", ""
    if comparison.goal is not None:
        goal = str(comparison.goal)
        met = "-" if row.is_met is None else "yes" if row.is_met else "no"
    return (
        results.case.name,
        measure,
        comparison.ours,
        _cell(results, comparison.ours, row.ours, units[measure]),
        comparison.beside or "",
        _cell(results, comparison.beside, row.beside, units[other]),
        "-"
        if row.compared is None
        else _COMPARED[comparison.by].format(row.compared, unit=units[measure]),
        goal,
        met,
    )


def _cell(results: Results, contestant: str | None, spread: Spread | None, unit: str) -> str:
    if contestant is None:
        return ""
    if contestant in results.missing:
        return f"not installed: {results.missing[contestant]}"
    return "not measured" if spread is None else f"{spread} {unit}"


def as_lines(results: Results) -> str:
    """Return the rows of a case as text of any width."""
    lines = [f"\n{results.case.name}: {results.case.title}"]
    for row in rows(results):
        _, measure, ours, figure, beside, other, compared, goal, met = cells(row)
        line = f"  {measure}: {ours} {figure}"
        if beside:
            line += f"; beside {beside} {other}"
        if row.comparison.by is not By.VALUE:
            line += f"; {compared}"
        lines.append(line + (f"; goal {goal}, met: {met}" if goal else ""))
    return "\n".join(lines)


def as_markdown(all_results: Sequence[Results], about: Mapping[str, Any]) -> str:
    """Return the whole report as Markdown."""
    lines = ["# Benchmark", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    lines += [
        "The median of all rounds, and in brackets the quartiles. Figures are compared within",
        "each round, of which the median and the quartiles are shown.",
        "",
        *_markdown_row(_HEADINGS),
        *_markdown_row(("---",) * len(_HEADINGS)),
    ]
    for results in all_results:
        for row in rows(results):
            lines += _markdown_row(cells(row))
    lines += ["", *(f"- `{one.case.name}`: {one.case.title}" for one in all_results)]
    return "\n".join(lines) + "\n"


def _markdown_row(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |"]


def as_json(all_results: Sequence[Results], about: Mapping[str, Any]) -> str:
    """Return the whole report as JSON, with the figures of each round."""
    return json.dumps(
        {"about": about, "cases": [_case_as_json(one) for one in all_results]}, indent=1
    )


def _case_as_json(results: Results) -> dict[str, Any]:
    return {
        "name": results.case.name,
        "title": results.case.title,
        "units": dict(results.case.units),
        "figures": results.figures,
        "not_installed": results.missing,
        "comparisons": [
            {
                "measure": row.comparison.measure,
                "ours": row.comparison.ours,
                "beside": row.comparison.beside,
                "by": row.comparison.by,
                "compared": _spread_as_json(row.compared),
                "goal": None if row.comparison.goal is None else str(row.comparison.goal),
                "met": row.is_met,
            }
            for row in rows(results)
        ],
    }


def _spread_as_json(spread: Spread | None) -> dict[str, float] | None:
    if spread is None:
        return None
    return {"median": spread.median, "lower": spread.lower, "upper": spread.upper}


def write(all_results: Sequence[Results], about: Mapping[str, Any], directory: Path) -> None:
    """Write the report beside what earlier runs left, which it replaces."""
    (directory / "table.json").write_text(as_json(all_results, about), "utf-8")
    (directory / "table.md").write_text(as_markdown(all_results, about), "utf-8")
