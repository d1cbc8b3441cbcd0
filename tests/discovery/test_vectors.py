"""The best of many vectors, as an exhaustive search finds them."""

import numpy as np
import pytest

from mq9.discovery.semantic_index import Vectors, best, mean, raise_scores, unit


def drawn(count, seed=1, size=8):
    return unit(np.random.default_rng(seed).standard_normal((count, size), np.float32))


def test_vectors_are_added_and_dropped_while_somebody_looks():
    vectors, drawn_ones = Vectors(), drawn(300)
    assert (vectors.count, vectors.size) == (0, 0)
    for start in range(0, 300, 7):
        rows = range(start, min(start + 7, 300))
        vectors.add(list(rows), [drawn_ones[row] for row in rows])
    before, _ = vectors.compare(drawn_ones[0])
    vectors.keep([*range(0, 300, 3), 1_000])
    assert list(before) == list(range(300))
    rows, scores = vectors.compare(drawn_ones[0])
    assert list(rows) == list(range(0, 300, 3))
    assert np.allclose(scores, drawn_ones[::3] @ drawn_ones[0], atol=1e-6)
    vectors.add([300], [drawn_ones[0]])
    assert best(*vectors.compare(drawn_ones[0]), 2) == (
        (0, pytest.approx(1)),
        (300, pytest.approx(1)),
    )
    vectors.keep([])
    assert vectors.count == 0


def test_a_vector_of_another_dimension_is_refused_and_changes_nothing():
    vectors = Vectors()
    vectors.add([1, 2], list(drawn(2)))
    with pytest.raises(ValueError, match="7 numbers in a vector, and 8 before"):
        vectors.add([3], list(drawn(1, size=7)))
    with pytest.raises(ValueError, match="7 numbers in a vector, and 8 in others"):
        vectors.compare(drawn(1, size=7)[0])
    assert vectors.count == 2


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 129, 1_000, 20_000])
@pytest.mark.parametrize("most", [1, 3, 100, 5_000])
@pytest.mark.parametrize("distinct", [True, False])
def test_the_best_are_the_best(count, most, distinct):
    source = np.random.default_rng(count)
    scores = source.standard_normal(count).astype(np.float32)
    if not distinct:
        scores = np.round(scores, 1)
    rows = np.arange(count) * 3 + 5
    found = best(rows, scores, most)
    assert len(found) == min(most, count)
    assert [score for _, score in found] == sorted(scores.tolist(), reverse=True)[:most]
    assert list(found) == sorted(found, key=lambda one: (-one[1], one[0]))
    if distinct:
        order = np.argsort(-scores)[:most]
        assert [row for row, _ in found] == rows[order].tolist()


def test_scores_of_chosen_rows_are_raised():
    rows, scores = np.array([2, 4, 8]), np.zeros(3, np.float32)
    raise_scores(rows, scores, (1, 8, 3, 9, 2), 0.5)
    assert scores.tolist() == [0.5, 0, 0.5]
    raise_scores(rows, scores, (), 0.5)
    assert scores.tolist() == [0.5, 0, 0.5]
    raise_scores(rows[:0], scores[:0], (1,), 0.5)


def test_the_mean_of_vectors_counts_each_alike_and_has_length_1():
    east, north = np.eye(2, dtype=np.float32)
    assert mean([east, east, north]).tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])
    assert mean([east]).tolist() == [1, 0]
    assert mean([east, -east]).tolist() == [0, 0]
    assert mean([]) is None
