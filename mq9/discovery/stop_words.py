"""Words that say nothing of what is asked for."""

from __future__ import annotations

STOP_WORDS = frozenset(
    """
    a about after again all also am an and any anybody anyone anything are as at be because been
    before being but by can could did do does doing for from get gets give given got had has
    have having he her here him his how i if in into is it its just like let made make makes
    many may me might more most much must my need needs no not now of off on one or other our
    out over please shall she should so some somebody someone something such take than that the
    their them then there these they this those through to too under up us very want wanted
    wants was we were what when where which while who whom whose why will with would you your
    """.split()  # noqa: SIM905  # a hundred pairs of quotes would hide the words
)


def without(words: list[str]) -> list[str]:
    """Return the words that say something; all of them if none does."""
    return [word for word in words if word.lower() not in STOP_WORDS] or words
