"""Configuration files of hosts: reading, changing one entry, and writing them as a whole."""
