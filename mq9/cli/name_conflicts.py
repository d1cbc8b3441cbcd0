"""Other packages and modules with our names, which a program here may import instead of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, distributions
from pathlib import Path

import mq9
from mq9.cli.diagnostics import Check, ok, problem, warning
from mq9.version import VERSION

NAMES = ("mq9", "langchain_mq9", "mcp_server")
_OURS = "langchain-mq9"
# A line of top_level.txt, or of RECORD: a file in a package, a module of one file.
_TOP_LEVEL = re.compile(rf"^({'|'.join(NAMES)})(?:$|/|\.[^/\n]*,)", re.MULTILINE)


def check_names(path: Sequence[str], here: Path) -> list[Check]:
    """Look for other modules and packages of our names, and for other versions of ours.

    Args:
        path: Where Python looks for modules, in that order; an empty entry is ``here``.
        here: The directory that Python looks in first, for a program or ``-m`` started there.
    """
    places = list(dict.fromkeys(str(Path(here, entry).resolve()) for entry in ("", *path)))
    root = Path(mq9.__file__).resolve().parents[1]
    installers = _installers()
    found = []
    for name in NAMES:
        found += _check_modules(name, places, root)
        others = {one.lower().replace("_", "-") for one in installers[name]} - {_OURS}
        found += [_distribution(name, other) for other in sorted(others)]
    found += _other_versions(places)
    return found or [ok("names", f"nothing else is called {', '.join(NAMES)}")]


def _installers() -> dict[str, set[str]]:
    """Return the names of the distributions that install each of our modules.

    `importlib.metadata.packages_distributions` says so of every module there is, and takes a
    third of a second.
    """
    found: dict[str, set[str]] = {name: set() for name in NAMES}
    for distribution in distributions():
        modules = distribution.read_text("top_level.txt") or distribution.read_text("RECORD") or ""
        for name in set(_TOP_LEVEL.findall(modules)):
            found[name].add(distribution.name)
    return found


def _check_modules(name: str, places: Sequence[str], root: Path) -> list[Check]:
    """Report the modules of one name before and behind ours on the path."""
    found = []
    seen_ours = False
    for place in places:
        if Path(place) == root and (root / name).is_dir():
            seen_ours = True
            continue
        # A directory without __init__.py yields to any package, so it is none here.
        spec = PathFinder.find_spec(name, [place])
        if spec is None or spec.origin is None:
            continue
        if seen_ours:
            found.append(_shadowed(name, spec.origin))
        elif (root / name).is_dir():
            found.append(_shadows(name, spec.origin))
        else:
            found.append(_taken(name, spec.origin))
    return found


def _shadows(name: str, where: str) -> Check:
    return problem(
        "names",
        f"{where} is imported as {name} instead of ours",
        "rename or remove it, or start programs elsewhere",
    )


def _shadowed(name: str, where: str) -> Check:
    return warning(
        "names",
        f"{where} is called {name}, too; ours comes first here, not everywhere",
        "rename or remove it",
    )


def _taken(name: str, where: str) -> Check:
    return warning(
        "names",
        f"{where} is what `python -m {name}` starts here, and is not ours",
        "call our programs by their own names",
    )


def _distribution(name: str, other: str) -> Check:
    return problem(
        "names",
        f"the package {other} installs a module {name}, too: each overwrites the other's files",
        f"pip uninstall {other}, then, in the clone, pip install --force-reinstall .",
    )


def _other_versions(places: Sequence[str]) -> list[Check]:
    """Report what is installed as our package in another version than the one that runs."""
    installed = distributions(name=_OURS, path=list(places))
    return [_version(one) for one in installed if one.version != VERSION]


def _version(installed: Distribution) -> Check:
    release, where = f"{_OURS} {installed.version}", installed.locate_file("")
    # Others published releases of that name for an earlier protocol.
    if installed.version.startswith(("0.2.", "0.3.")):
        return problem(
            "names",
            f"{release} in {where} is an older package of that name, without mq9",
            f"pip uninstall {_OURS}, until none is left; then, in the clone, pip install .",
        )
    return warning(
        "names",
        f"{release} is installed in {where}, and this is {VERSION}",
        "in the clone, pip install .",
    )
