"""A cluster in one thread, in time that passes only where everybody waits for it."""
