"""HTTP on a port: connections bounded in number and silence."""
