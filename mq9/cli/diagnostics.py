"""The result of one check of ``mq9 doctor``: ok, a warning, or a problem with advice."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked, and the result.

    Attributes:
        name: What was checked.
        state: ``ok``, ``warning`` or ``problem``.
        text: What was seen.
        advice: What to do about it; empty when nothing needs to be done.
    """

    name: str
    state: str
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Check:
    """Return that nothing is wrong."""
    return Check(name, OK, text)


def warning(name: str, text: str, advice: str) -> Check:
    """Return that something may go wrong."""
    return Check(name, WARNING, text, advice)


def problem(name: str, text: str, advice: str) -> Check:
    """Return that something does not work."""
    return Check(name, PROBLEM, text, advice)
