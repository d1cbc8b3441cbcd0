"""What the doctor found: good, worth a look, or to be mended."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What it is.
        state: ``ok``, ``warning`` or ``problem``.
        text: How it is.
        advice: What to do about it; empty when it is well.
    """

    name: str
    state: str
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Finding:
    """Return that something is well."""
    return Finding(name, OK, text)


def warning(name: str, text: str, advice: str) -> Finding:
    """Return that something may go wrong."""
    return Finding(name, WARNING, text, advice)


def problem(name: str, text: str, advice: str) -> Finding:
    """Return that something does not work."""
    return Finding(name, PROBLEM, text, advice)
