"""Run the simulation again, and print all that happens: `python -m cluster.simulation SEED`."""

import sys

from .world import STEPS, simulate

simulate(int(sys.argv[1]), STEPS, print)
