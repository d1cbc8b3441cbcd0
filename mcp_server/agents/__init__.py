"""The agents that call: their names, connections and leases."""
