"""The command ``mq9 worker``, loaded when it is used, so that ``mq9 --help`` lists it without."""

from typing import TYPE_CHECKING

from mq9.lazy import lazy_names

if TYPE_CHECKING:
    from langchain_mq9.cli.command import app

__all__ = ["SUMMARY", "app"]

SUMMARY = "Run a LangGraph graph for each message that comes to an agent."

if not TYPE_CHECKING:  # which would let every name pass
    __getattr__, __dir__ = lazy_names(__name__, {"command": ("app",)})
