"""The eight operations as a language model sees them, defined once for every door.

An ``Operation`` has a name, a description, an argument model, a result model and a function.
``perform`` runs one for a ``Caller``; what it raises is an ``OperationError`` whose text tells the
model what to do next. What is named here is loaded when it is used: the models take their time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mq9.operations.caller import Caller
    from mq9.operations.catalog import ALL, ON_ONESELF, OPERATIONS
    from mq9.operations.errors import OperationError
    from mq9.operations.execution import perform
    from mq9.operations.identity import Identity
    from mq9.operations.operation import Operation

__all__ = [
    "ALL",
    "ON_ONESELF",
    "OPERATIONS",
    "Caller",
    "Identity",
    "Operation",
    "OperationError",
    "perform",
]

_MODULES = {
    "ALL": "catalog",
    "ON_ONESELF": "catalog",
    "OPERATIONS": "catalog",
    "Caller": "caller",
    "Identity": "identity",
    "Operation": "operation",
    "OperationError": "errors",
    "perform": "execution",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
