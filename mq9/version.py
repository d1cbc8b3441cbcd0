"""The version of this package: what pyproject.toml and server.json say, too."""

VERSION = "0.4.0"
