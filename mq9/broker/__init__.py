"""The embedded broker: a service that answers requests of the protocol from an engine."""
