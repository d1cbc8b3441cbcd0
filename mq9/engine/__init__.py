"""The state of a broker: mailboxes, messages, leases and agents in one SQLite database.

The engine is a state machine. ``machine.apply(db, entry)`` changes the state.
``machine.read(db, call, now)`` reads it. Both are plain functions that never wait, never read a
clock and use no randomness. So the same calls at the same instants give the same state everywhere.
The tables in ``machine`` map each request to its function. Errors are ``Mq9Error``; cursors and row
ids stay inside.
"""
