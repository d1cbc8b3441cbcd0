"""Discovery: agents found by words or meaning, from an index derived from the registry."""
