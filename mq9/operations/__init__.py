"""The operations that a language model can call, of which LangChain tools and MCP tools are made.

An ``Operation`` has a name, a description, a class of arguments, a class of results and a function.
``perform`` runs one for a ``Caller``; what it raises is an ``OperationError`` whose text tells the
model what to do next. A name is imported when it is used, since pydantic takes long to load.
"""

from typing import TYPE_CHECKING

from mq9.lazy import lazy_names

if TYPE_CHECKING:
    from mq9.operations.caller import Caller
    from mq9.operations.catalog import ALL, MCP_OPERATIONS, OPERATIONS
    from mq9.operations.execution import OperationError, perform
    from mq9.operations.identity import Identity
    from mq9.operations.operation import Operation

__all__ = [
    "ALL",
    "MCP_OPERATIONS",
    "OPERATIONS",
    "Caller",
    "Identity",
    "Operation",
    "OperationError",
    "perform",
]

if not TYPE_CHECKING:  # which would let every name pass
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "caller": ("Caller",),
            "catalog": (
                "ALL",
                "MCP_OPERATIONS",
                "OPERATIONS",
            ),
            "execution": ("OperationError", "perform"),
            "identity": ("Identity",),
            "operation": ("Operation",),
        },
    )
