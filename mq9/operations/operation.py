"""An operation: what a model can do, declared once for LangChain and MCP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mq9.errors import Forbidden
from mq9.operations.arguments import Arguments
from mq9.operations.caller import Caller
from mq9.operations.result import Result

A = TypeVar("A", bound=Arguments)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Operation(Generic[A, R]):
    """One thing that a model can do.

    Attributes:
        name: Its name; a door may put a prefix before it.
        title: Its name for people.
        description: What it does and when to use it, for the model; see ``ToolNames``.
        arguments: The model of its arguments.
        result: The model of its result.
        call: Does it.
        read_only: Whether it changes nothing.
        destructive: Whether it may remove something.
        idempotent: Whether repeating it changes nothing more.
        open_world: Whether it tells something to others, who may be anybody.
    """

    name: str
    title: str
    description: str
    arguments: type[A]
    result: type[R]
    call: Callable[[Caller, A], Awaitable[R]]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False

    def check_allowed(self, caller: Caller) -> None:
        """See whether a caller may perform this.

        Raises:
            Forbidden: It may not.
        """
        if (caller.read_only and not self.read_only) or self.name not in caller.tools:
            raise Forbidden("this is switched off here")
