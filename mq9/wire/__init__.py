"""The NATS client protocol as a server sees it: bytes to frames and back, without I/O."""
