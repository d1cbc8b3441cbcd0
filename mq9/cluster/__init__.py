"""A broker whose state lives in a replicated log, and which any number of processes serve."""
