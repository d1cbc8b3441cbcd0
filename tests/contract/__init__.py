"""One suite of behaviours, run on every way to reach a broker."""
