"""The command ``mq9 worker``, loaded when it is used."""

from langchain_mq9.cli.command import app

__all__ = ["app"]
