"""An operation: what a model can do, declared once for LangChain and MCP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import signature
from typing import Generic, TypeVar

from mq9.errors import Forbidden
from mq9.operations.arguments import Arguments
from mq9.operations.caller import Caller
from mq9.operations.result import Result

A = TypeVar("A", bound=Arguments)
R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a user is asked before an operation is performed.

    Attributes:
        question: The question, to be answered by yes or no.
        declined: The answer to the model when the user says no.
        unanswered: The answer to the model when the user cannot be asked or does not answer; None
            to perform the operation then.
    """

    question: str
    declined: str
    unanswered: str | None


@dataclass(frozen=True, slots=True)
class Operation(Generic[A, R]):
    """One thing that a model can do.

    Attributes:
        name: Its name: words of letters a-z joined by underscores. A prefix may be put before it.
        title: Its name for people.
        description: What it does and when to use it, for the model; a template, see ``ToolNames``.
        arguments: The class of its arguments.
        result: The class of its result.
        function: Performs it.
        read_only: Whether it changes nothing.
        destructive: Whether it may remove something.
        idempotent: Whether repeating it changes nothing more.
        open_world: Whether it reaches others, who may be anybody.
        confirmation: Returns what the user is to be asked first, where users can be asked; None to
            ask nothing.
        leases: Whether it leases messages, or asks which its caller has fetched. All calls of a
            caller's that do so belong on one event loop.
    """

    name: str
    title: str
    description: str
    arguments: type[A]
    result: type[R]
    function: Callable[[Caller, A], Awaitable[R]]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False
    confirmation: Callable[[Caller, A], Awaitable[Confirmation]] | None = None
    leases: bool = False

    def check_allowed(self, caller: Caller) -> None:
        """Check that a caller may perform this.

        Raises:
            Forbidden: It may not.
        """
        if (caller.read_only and not self.read_only) or self.name not in caller.tools:
            raise Forbidden("this is switched off here")


def operation(
    *,
    title: str,
    description: str,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
    confirmation: Callable[[Caller, A], Awaitable[Confirmation]] | None = None,
    leases: bool = False,
) -> Callable[[Callable[[Caller, A], Awaitable[R]]], Operation[A, R]]:
    """Declare an operation on the function that performs it.

    The function's name is that of the operation. The annotations of its second parameter and of its
    return value are the classes of the arguments and of the result. For the rest see ``Operation``.
    """

    def declare(function: Callable[[Caller, A], Awaitable[R]]) -> Operation[A, R]:
        signed = signature(function, eval_str=True)
        _caller, arguments = signed.parameters.values()
        return Operation(
            name=function.__name__,
            title=title,
            description=description,
            arguments=arguments.annotation,
            result=signed.return_annotation,
            function=function,
            read_only=read_only,
            destructive=destructive,
            idempotent=idempotent,
            open_world=open_world,
            confirmation=confirmation,
            leases=leases,
        )

    return declare
