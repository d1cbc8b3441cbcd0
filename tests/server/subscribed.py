"""Subjects and patterns of subscriptions, as Hypothesis makes them up."""

from hypothesis import strategies as st


def subjects(tokens, most):
    """Subjects of up to so many tokens."""
    return st.lists(st.sampled_from(tokens), min_size=1, max_size=most).map(".".join)


def patterns(tokens, most):
    """Patterns of up to so many tokens, and one more where they end in a full wildcard."""
    return st.builds(
        lambda head, rest: ".".join([*head, ">"] if rest else head),
        st.lists(st.one_of(st.sampled_from(tokens), st.just("*")), min_size=1, max_size=most),
        st.booleans(),
    ) | st.just(">")
