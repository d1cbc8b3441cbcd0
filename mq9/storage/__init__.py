"""Storage: a database file opened, migrated, watched, written by one thread and read by several."""
