"""Rounds of a case: in each of them every contestant has its turn."""

from __future__ import annotations

import asyncio
import gc
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from benchmarks.case import Case, Figures, NotInstalled, Setting

_OPENING_S = 1_800  # at the most, large files included
_ROUND_S = 300  # at the most, of one contestant


@dataclass(slots=True)
class Results:
    """What the rounds of a case came to.

    Attributes:
        case: The case.
        figures: By contestant and measure, one figure a round.
        missing: The contestants that are not installed, and what of them is missing.
    """

    case: Case
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, contestant: str, figures: Figures) -> None:
        """Add a round of a contestant."""
        series = self.figures.setdefault(contestant, defaultdict(list))
        for measure, figure in figures.items():
            series[measure].append(figure)


async def run(case: Case, setting: Setting) -> Results:
    """Run a case; one more round, whose figures are not counted, comes first.

    The contestant that begins is another one in each round, so that none of them always follows
    the same one.

    Raises:
        TimeoutError: Something took much longer than it ever should.
    """
    results = Results(case)
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_OPENING_S):
            contestants = await case.open(setting, stack)
        measured = {}
        for name, contestant in contestants.items():
            if isinstance(contestant, NotInstalled):
                results.missing[name] = str(contestant)
            else:
                measured[name] = contestant
        names = list(measured)
        counted = setting.rounds if case.has_rounds else 1
        for number in range(-1 if case.has_rounds else 0, counted):
            for turn in range(len(names)):
                name = names[(number + turn) % len(names)]
                gc.collect()  # what one contestant leaves behind is not charged to the next
                async with asyncio.timeout(_ROUND_S):
                    figures = await measured[name]()
                if number >= 0:
                    results.add(name, figures)
    return results
