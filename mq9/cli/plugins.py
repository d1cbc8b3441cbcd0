"""What other packages add to ``mq9``, found by entry points.

An entry point has the name of the command or option that it serves, which is also that of the extra
that installs what it needs.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from mq9.cli.extras import needing
from mq9.errors import InvalidRequest

COMMANDS = "mq9.commands"  # each is a typer.Typer
ROUTES = "mq9.http_routes"  # each is an ``mq9.cli.http_routes.MakeRoutes``


def names(group: str) -> set[str]:
    """Return the names of a group's entry points."""
    return set(entry_points(group=group).names)


def load(group: str, name: str) -> Any:
    """Load what an entry point names.

    Raises:
        InvalidRequest: No package has such an entry point, or several have.
        MissingExtra: It needs a module that is not installed.
    """
    found = list(entry_points(group=group, name=name))
    if len(found) != 1:
        values = " and ".join(sorted(one.value for one in found)) or "none"
        raise InvalidRequest(
            f"{name}: one installed package has to have an entry point of that name in the group "
            f"{group}, and there is {values}; install this package anew"
        )
    with needing(name, f"{name}: it"):
        return found[0].load()
