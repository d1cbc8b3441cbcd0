"""How a request reaches a broker: one way in for each kind of URL, all alike to the client."""
