"""The server: a broker behind a NATS port, with metrics and health over HTTP."""
