"""What other packages add to ``mq9``, found by entry points.

An entry point has the name of the command or option that it serves, which is also that of the extra
that installs what it needs.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

from mq9.cli import MissingExtra, needing
from mq9.errors import InvalidRequest

COMMANDS = "mq9.commands"  # each is a typer.Typer, in a module that says in SUMMARY what it does
ROUTES = "mq9.http_routes"  # each is an ``mq9.cli.serve.MakeRoutes``


def names(group: str) -> set[str]:
    """Return the names of a group's entry points."""
    return set(entry_points(group=group).names)


def load(group: str, name: str) -> Any:
    """Load what an entry point names."""
    entry = _find(group, name)
    with needing(name, f"{name}: it"):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            missing = error.name or ""
            is_of_it = "." in missing and entry.module.startswith(missing)
            if isinstance(error, ModuleNotFoundError) and not is_of_it:
                raise  # it is of an extra
            raise InvalidRequest(
                f"{name}: the installed package names {entry.value}, which is not there; install "
                "this package anew"
            ) from error


def summary(name: str) -> str:
    """Return what a command does, or what its package lacks, in a sentence, without loading it."""
    entry = _find(COMMANDS, name)
    try:
        with needing(name, f"{name}: it"):
            return str(getattr(_alone(entry.module), "SUMMARY", ""))
    except MissingExtra as error:
        return f"{error}."


def _alone(name: str) -> ModuleType:
    """Return a module, loaded without the packages that it is in, which may need much more."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    package, *rest = name.split(".")
    found = find_spec(package)
    for part in rest:
        package = f"{package}.{part}"
        within = None if found is None else found.submodule_search_locations
        found = None if within is None else PathFinder.find_spec(package, within)
    if found is None or found.loader is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _find(group: str, name: str) -> EntryPoint:
    found = list(entry_points(group=group, name=name))
    if len(found) != 1:
        values = " and ".join(sorted(one.value for one in found)) or "none"
        raise InvalidRequest(
            f"{name}: one installed package has to have an entry point of that name in the group "
            f"{group}, and there is {values}; install this package anew"
        )
    return found[0]
