"""The eight operations as a language model sees them, defined once for every door.

An ``Operation`` has a name, a description, an argument model, a result model and a function.
``perform`` runs one for a ``Caller``; what it raises is an ``OperationError`` whose text tells the
model what to do next.
"""

from mq9.operations.caller import Caller, Identity
from mq9.operations.catalog import ON_ONESELF, OPERATIONS
from mq9.operations.operation import Operation, OperationError, perform

__all__ = [
    "ON_ONESELF",
    "OPERATIONS",
    "Caller",
    "Identity",
    "Operation",
    "OperationError",
    "perform",
]
