"""Forms of subjects and patterns, and their matching."""

from __future__ import annotations

ONE = "*"  # stands for any one token
REST = ">"  # stands for one or more tokens at the end


def is_subject(text: str) -> bool:
    """Tell whether clients can publish to a text: tokens between dots, none of them empty."""
    tokens = text.split(".")
    return all(tokens) and ONE not in tokens and REST not in tokens


def has_wildcards(pattern: str) -> bool:
    """Tell whether a pattern has wildcards."""
    tokens = pattern.split(".")
    return ONE in tokens or tokens[-1] == REST


def is_pattern(text: str) -> bool:
    """Tell whether clients can subscribe to a text: a subject, with or without wildcards."""
    tokens = text.split(".")
    return all(tokens) and REST not in tokens[:-1]


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a pattern matches a subject."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == REST:
        wanted = wanted[:-1]
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(wanted) == len(tokens) and all(
        want in (ONE, token) for want, token in zip(wanted, tokens, strict=True)
    )
