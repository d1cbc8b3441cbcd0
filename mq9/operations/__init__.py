"""The operations that a language model can call, as LangChain tools and as MCP tools.

An ``Operation`` has a name, a description, a class of arguments, a class of results and a function.
``perform`` runs one for a ``Caller``. It raises ``OperationError``, whose text gives the model the
next step. A name is imported when it is used, since pydantic takes long to load.
"""

from mq9.lazy import lazy_names

_NAMES = {
    "caller": ("Caller",),
    "catalog": ("ALL", "MCP_OPERATIONS", "OPERATIONS"),
    "execution": ("OperationError", "perform"),
    "identity": ("Identity",),
    "operation": ("Operation",),
}
__all__ = [name for names in _NAMES.values() for name in names]
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
