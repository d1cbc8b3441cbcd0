"""Subjects and patterns, against a rule written another way."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mq9.wire.subjects import is_pattern, is_subject, matches

tokens = st.sampled_from(["a", "b", "c", "*", ">", "", "ab"])
texts = st.lists(tokens, min_size=1, max_size=5).map(".".join)


def expression(pattern):
    """A regular expression that covers what a pattern does."""
    kinds = {"*": r"[^.]+", ">": r"[^.]+(?:\.[^.]+)*"}
    return re.compile(r"\.".join(kinds.get(one, re.escape(one)) for one in pattern.split(".")))


@given(texts, texts)
@example("a.>", "a")
@example(">", "a.b.c")
@example("a.*", "a.b.c")
def test_a_pattern_covers_what_its_wildcards_stand_for(pattern, subject):
    if is_pattern(pattern) and is_subject(subject):
        assert matches(pattern, subject) == bool(expression(pattern).fullmatch(subject))


@pytest.mark.parametrize("text", ["a", "a.b", "$mq9.AI.x", "a*", "a>b", "*a.b"])
def test_a_subject_has_tokens_and_no_wildcards(text):
    assert is_subject(text)
    assert is_pattern(text)


@pytest.mark.parametrize("text", ["*", "a.*", ">", "a.>", "*.*.b.>"])
def test_a_pattern_may_have_wildcards_as_tokens(text):
    assert is_pattern(text)
    assert not is_subject(text)


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b"])
def test_what_is_neither_is_refused(text):
    assert not is_pattern(text)
    assert not is_subject(text)
