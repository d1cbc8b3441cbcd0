"""What may be started because a project's file says so: this installation's own program, alone.

Whoever wrote the project chose the command, its arguments and its environment, each of which can
run something else. A host asks its user first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mcp_server.hosts.program import MODULE, find_command, is_module
from mcp_server.options import FOR_STDIO, flag, takes_value
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.transport.open import VARIABLE

_VARIABLES = frozenset({VARIABLE, "MQ9_AGENT"})
_TAKES_VALUE = {flag(name): takes_value(name) for name in FOR_STDIO}


def own_launch(launch: Launch, machine: Machine, python: str = sys.executable) -> Launch:
    """Return what runs this installation's program as a project's entry would.

    Args:
        launch: What the entry says.
        machine: Where the project lies.
        python: The running Python.

    Returns:
        The program by its absolute path: a module would be looked for in the project first.

    Raises:
        InvalidRequest: It is another program, or the entry gives it what could run one.
    """
    own = find_command(machine, python)
    found = _find(launch.command, machine)
    arguments = launch.arguments
    if is_module(launch):
        # A link is another environment, and so is not followed.
        is_own = found is not None and os.path.abspath(found) == os.path.abspath(python)  # noqa: PTH100
        arguments = arguments[len(MODULE) :]
    else:
        is_own = found is not None and _is_same(found, own)
    if not is_own:
        raise InvalidRequest(f"a project names the program, and it is not {own}")
    for name in launch.environment:
        if name not in _VARIABLES:
            raise InvalidRequest(f"a project sets the variable {shown(name)}")
    _check(arguments)
    return Launch(str(own), arguments, launch.environment)


def _check(arguments: tuple[str, ...]) -> None:
    """Refuse commands, such as install, and what is not for standard input and output."""
    rest = iter(arguments)
    for one in rest:
        name, equals, _ = one.partition("=")
        has_value = _TAKES_VALUE.get(name)
        if has_value is None or (equals and not has_value):
            raise InvalidRequest(f"a project gives {shown(one)}, which no host needs")
        if has_value and not equals:
            next(rest, None)


def _find(command: str, machine: Machine) -> Path | None:
    if "/" in command or "\\" in command:
        return machine.project / command
    return machine.program(command.removesuffix(".exe"))


def _is_same(found: Path, own: Path) -> bool:
    try:
        return found.samefile(own)
    except (OSError, ValueError):
        return False
