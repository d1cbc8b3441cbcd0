"""Paths of conversations: what a sent message gets, and what stops a taken one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mq9.operations.paths import HIGHEST_MAX_HOPS, extended, reason_to_stop
from mq9.protocol import checks

NAMES = st.text(st.sampled_from("ab,é"), min_size=1, max_size=128)


class TestTheRules:
    def test_a_message_has_its_sender_as_the_last_of_its_path(self):
        assert extended([], "A") == ("A",)
        assert extended(("A", "B"), "C") == ("A", "B", "C")

    def test_a_comma_in_a_name_stands_there_as_a_semicolon(self):
        path = extended(["B", "C"], "Smith, John")
        assert path == ("B", "C", "Smith; John")
        assert reason_to_stop([*path, "D", "E"], "Smith, John") is not None

    @given(st.lists(NAMES.map(lambda name: name.replace(",", ";")), max_size=80), NAMES)
    def test_what_is_sent_and_why_it_is_stopped_are_always_taken_by_the_protocol(self, path, agent):
        sent = extended(path, agent)
        assert checks.path("path", sent) == sent
        assert extended(sent, agent)[-1] == sent[-1]
        for limit in (1, HIGHEST_MAX_HOPS):
            reason = reason_to_stop(sent, agent, max_hops=limit)
            assert reason is None or len(reason) <= 1_024

    @pytest.mark.parametrize(
        ("path", "agent"),
        [
            ("", "A"),
            ("B", "A"),
            ("A", "A"),  # a note to itself
            ("AB", "A"),  # an answer, or a question about the question
            ("ABAB", "A"),
            ("ABCB", "A"),  # B asked C before it answered
            ("ABA", "B"),  # asked again
            ("ABAC", "B"),  # asked by another, after it had answered
            ("ABCBDB", "A"),
            ("ABCA", "A"),  # let through before: it was an answer
        ],
    )
    def test_no_circle(self, path, agent):
        assert reason_to_stop(list(path), agent) is None

    @pytest.mark.parametrize(
        ("path", "agent", "shown"),
        [
            ("ABC", "A", "a circle: A, B, C, A"),
            ("XABC", "A", "a circle: X, A, B, C, A"),
            ("ABACD", "A", "a circle: A, B, A, C, D, A"),
            ("ABCD", "B", "a circle: A, B, C, D, B"),
        ],
    )
    def test_a_circle_is_shown_and_is_none_if_it_is_an_answer(self, path, agent, shown):
        assert reason_to_stop(list(path), agent) == shown
        assert reason_to_stop(list(path), agent, is_answer=True) is None

    def test_hops_are_limited_for_answers_too(self):
        assert reason_to_stop(list("ABA"), "B", max_hops=3) is None
        for is_answer in (False, True):
            assert (
                reason_to_stop(list("ABAB"), "A", max_hops=3, is_answer=is_answer)
                == "too many hops, 4 of at most 3: A, B, A, B"
            )

    def test_a_long_path_is_shown_by_its_ends(self):
        names = [str(number) for number in range(40)]
        reason = reason_to_stop(names, "A")
        assert reason is not None
        assert "40 of at most 32: 0, 1, 2, " in reason
        assert "9, …, 30" in reason
        assert reason.endswith("38, 39")
