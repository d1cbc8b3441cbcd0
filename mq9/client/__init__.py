"""The client: one method per verb of the protocol. The URL selects the broker."""
