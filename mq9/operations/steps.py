"""A step of a program that asks questions, and is taken again when the program was killed in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What tells a step from all others, the same when it is taken again.

    Attributes:
        secret: What its questions are known by, which nobody can guess: 32 characters.
        mail_address: Where they are answered, which nobody can guess either.
    """

    secret: str
    mail_address: str
