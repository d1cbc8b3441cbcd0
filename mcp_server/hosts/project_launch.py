"""What may be started because a project's file says so: this installation's own program, alone.

Whoever wrote the project chose the command, its arguments and its environment, each of which can
run something else. A host asks its user first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp_server.hosts.install import PROGRAM, find_command
from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mq9 import InvalidRequest
from mq9.address import shown
from mq9.transport.open import VARIABLE

_MODULE = ("-m", "mcp_server")
_VARIABLES = frozenset({VARIABLE, "MQ9_AGENT"})
_FLAGS = frozenset({"--read-only"})
_WITH_VALUE = frozenset(
    {
        *("--agent", "--mail-address", "--server", "--tools", "--allow-send", "--allow-read"),
        *("--prefix", "--lease", "--max-chars", "--registration", "--log-level"),
    }
)


def is_module(launch: Launch) -> bool:
    """Tell whether a Python is to run the server as a module."""
    return launch.arguments[:2] == _MODULE and _name(launch.command).startswith("python")


def is_program(launch: Launch) -> bool:
    """Tell whether something called ``mq9-mcp`` is to be run, be it this or another."""
    program = _name(launch.command)
    return PROGRAM in {program, *(launch.arguments if program == "uvx" else ())}


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
        arguments = arguments[len(_MODULE) :]
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
        if name in _WITH_VALUE:
            if not equals:
                next(rest, None)
        elif one not in _FLAGS:
            raise InvalidRequest(f"a project gives {shown(one)}, which no host needs")


def _find(command: str, machine: Machine) -> Path | None:
    if "/" in command or "\\" in command:
        return machine.project / command
    return machine.program(command.removesuffix(".exe"))


def _is_same(found: Path, own: Path) -> bool:
    try:
        return found.samefile(own)
    except (OSError, ValueError):
        return False


def _name(command: str) -> str:
    # A path of another system than this one is split by hand.
    return command.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
