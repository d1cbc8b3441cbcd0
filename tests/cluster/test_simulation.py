"""Log, gateways and clients in simulated time, where everything goes wrong that may."""

import itertools
import logging

import pytest

from .simulation.world import STEPS, simulate


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3_600)
def test_whatever_goes_wrong_clients_are_told_what_is_so(scale, caplog):
    """What is compared stands in `simulation/history.py` and at the end of a run.

    A run that fails names its seed, and what prints all that happened in it.
    """
    caplog.set_level(logging.CRITICAL + 1, "mq9.broker")
    left = 50_000 if scale == 1 else 100_000 * scale
    for seed in itertools.count():
        try:
            left -= simulate(seed, STEPS)
        except BaseException as error:
            error.add_note(f"cd tests && ../.venv/bin/python -m cluster.simulation {seed}")
            raise
        if left <= 0:
            break


def test_the_same_seed_makes_the_same_run():
    runs = [[], []]
    for run in runs:
        simulate(3, 1_500, run.append)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 500


def test_several_records_of_a_gateway_are_on_their_way_at_once():
    lines = []
    for seed in range(6):
        simulate(seed, STEPS, lines.append)
    assert any(
        line.endswith(("2 records of a gateway at once", "3 records of a gateway at once"))
        for line in lines
    )
