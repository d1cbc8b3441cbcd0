"""What a case is: its contestants, what is measured of them, and the goals it is compared by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

Figures = Mapping[str, float]  # what one round measured of one contestant, by measure
Contestant = Callable[[], Awaitable[Figures]]


class NotInstalled(Exception):
    """A peer is missing; the text names what is."""


Contestants = Mapping[str, Contestant | NotInstalled]


class By(StrEnum):
    """What of two figures is compared with a goal."""

    RATIO = "ratio"  # ours divided by the other's
    DIFFERENCE = "difference"  # ours less the other's
    VALUE = "value"  # ours alone


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound; what lies on it meets it."""

    limit: float
    is_least: bool

    def __str__(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.limit:g}"

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure is within the bound."""
        return figure >= self.limit if self.is_least else figure <= self.limit


def at_least(limit: float) -> Goal:
    """Return the goal to reach a figure."""
    return Goal(limit, is_least=True)


def at_most(limit: float) -> Goal:
    """Return the goal not to exceed a figure."""
    return Goal(limit, is_least=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of one contestant, beside that of another one.

    Attributes:
        measure: What is compared.
        ours: The contestant it is about.
        beside: The other one, where there is one.
        goal: What to reach; None where the figures are for information.
        by: What is computed of the two figures.
        beside_measure: What is taken of the other one, where it is not the same measure.
    """

    measure: str
    ours: str
    beside: str | None = None
    goal: Goal | None = None
    by: By = By.RATIO
    beside_measure: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """How a run is made.

    Attributes:
        rounds: How many rounds are counted.
        scale: What all sizes are multiplied by.
        files: Where large files are kept from one run to the next.
        scratch: Where a run may write; it is removed afterwards.
    """

    rounds: int
    scale: float
    files: Path
    scratch: Path

    def size(self, full: int, least: int = 1) -> int:
        """Return a size at this scale, from that at scale 1."""
        return max(least, round(full * self.scale))

    def directory(self, name: str) -> Path:
        """Make a directory that nothing else of this run uses."""
        for number in range(1_000):
            made = self.scratch / f"{name}.{number}"
            if not made.exists():
                made.mkdir(parents=True)
                return made
        raise FileExistsError(f"{self.scratch / name}: there are a thousand of them")


@dataclass(frozen=True, slots=True)
class Case:
    """Something that is measured.

    Attributes:
        name: How it is picked on the command line.
        title: What is measured, with its sizes at scale 1.
        units: The unit of each measure.
        comparisons: What the table shows.
        open: Starts what is needed, and returns the contestants. What it enters into the stack is
            closed after the last round.
        has_rounds: Whether a repetition could come to anything else.
        grows: What the contestants, whose names are numbers then, have ever more of.
    """

    name: str
    title: str
    units: Mapping[str, str]
    comparisons: Sequence[Comparison]
    open: Callable[[Setting, AsyncExitStack], Awaitable[Contestants]]
    has_rounds: bool = True
    grows: str | None = None


async def enter_peer(
    stack: AsyncExitStack, peer: AbstractAsyncContextManager[T]
) -> T | NotInstalled:
    """Enter a peer, or return what says that it is missing."""
    try:
        return await stack.enter_async_context(peer)
    except NotInstalled as missing:
        return missing
