"""The tool classes, such as ``SendMessageTool``: one for each operation in the catalogue.

Type checkers and editors read ``tools.pyi``, which ``make generated`` writes.
"""

from __future__ import annotations

from langchain_mq9.tool import Mq9Tool, tool_class
from mq9.operations.catalog import OPERATIONS

TOOLS: tuple[type[Mq9Tool], ...] = tuple(tool_class(one, __name__) for one in OPERATIONS)

globals().update((kind.__name__, kind) for kind in TOOLS)
__all__ = sorted(kind.__name__ for kind in TOOLS)  # noqa: PLE0605  # type checkers read the stub
