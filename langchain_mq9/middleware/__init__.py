"""Middleware for ``langchain.agents.create_agent``: unread mail, and limits of what is sent.

It needs LangChain itself, which the extra ``agents`` installs.
"""

try:
    import langchain.agents.middleware  # noqa: F401  # tells what is missing before anything else
except ModuleNotFoundError as error:
    if error.name != "langchain":
        raise
    raise ModuleNotFoundError(
        "langchain_mq9.middleware needs langchain, which the extra `agents` of this package "
        "installs; in a clone of it: pip install '.[agents]'",
        name="langchain",
    ) from error

from langchain_mq9.middleware.inbox import InboxMiddleware
from langchain_mq9.middleware.send_limits import SendLimitExceeded, SendLimitMiddleware

__all__ = ["InboxMiddleware", "SendLimitExceeded", "SendLimitMiddleware"]
