"""Transports of requests to a broker: one for each kind of URL, with one interface."""
