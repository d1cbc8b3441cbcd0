"""The client: one method per verb of the protocol, on whichever broker the URL means."""
