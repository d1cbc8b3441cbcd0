"""Where this installation's ``mq9-mcp`` is, and whether it is what a host starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp_server.hosts.launch import Launch
from mcp_server.hosts.machine import Machine
from mq9 import InvalidRequest

PROGRAM = "mq9-mcp"
MODULE = ("-m", "mcp_server")


def find_command(machine: Machine, python: str = sys.executable) -> Path:
    """Return the absolute path of ``mq9-mcp``: the one beside the running Python, else on PATH.

    Args:
        machine: Where it is to run.
        python: The running Python. In a virtual environment it is a link, which is not followed:
            the environment's programs lie beside the link.

    Raises:
        InvalidRequest: It is in neither place, or only where it will not stay.
    """
    name = f"{PROGRAM}.exe" if machine.platform == "win32" else PROGRAM
    on_path = machine.environment.get("PATH", "").split(os.pathsep)
    for folder in (Path(python).parent, *map(Path, on_path)):
        command = folder / name
        # A relative directory would be another one for the host.
        if folder.is_absolute() and command.is_file() and os.access(command, os.X_OK):
            if "archive-v0" in command.parts:  # of an environment that uvx has made
                raise InvalidRequest(
                    f"command: {command} is in the cache of uv, which is cleared at times; "
                    "install the package where it stays, as with uv tool install"
                )
            return command
    raise InvalidRequest(
        f"command: there is no {name} beside {python} or on PATH; in the clone, "
        "pip install '.[mcp]'"
    )


def is_ours(launch: Launch) -> bool:
    """Tell whether something called ``mq9-mcp`` is to be run, be it this one or another."""
    program = file_name(launch.command)
    return is_module(launch) or PROGRAM in {
        program,
        *(launch.arguments if program == "uvx" else ()),
    }


def is_module(launch: Launch) -> bool:
    """Tell whether a Python is to run the server as a module."""
    return launch.arguments[:2] == MODULE and file_name(launch.command).startswith("python")


def file_name(command: str) -> str:
    """Return the last part of a path, of any system, without ``.exe``."""
    return command.replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
