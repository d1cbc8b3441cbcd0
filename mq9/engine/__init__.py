"""The state of a broker: mailboxes, messages, leases and agents in one SQLite database.

The engine is a state machine. ``machine.apply(db, entry)`` changes it, and
``machine.read(db, call, now)`` looks at it; both are plain functions that never wait, never
read a clock and use no randomness, so that the same calls at the same instants give the same state
everywhere. ``machine`` says which function carries out which request. What it raises is an
``Mq9Error``; no cursor and no row id gets out.
"""
