"""Writes what was measured of hosts into a page, between two lines: `table.py PAGE`."""

import datetime
import json
import sys
from pathlib import Path

from tests.hosts.conftest import MEASURED
from tests.hosts.frameworks import FRAMEWORKS
from tests.hosts.programs import PROGRAMS
from tests.mcpserver.steps import STEPS

BEGIN, END = "<!-- hosts: written by make hosts -->", "<!-- hosts: end -->"
_TOOLS = len({tool for tool, _ in STEPS})
_ALL = (*PROGRAMS, *FRAMEWORKS)
_HEAD = """\
| | version | stdio: tools | calls | after | HTTP: tools | calls | after | mail with |
|---|---|---|---|---|---|---|---|---|
"""


def table(measured, day):
    """Return what was measured, as a page says it."""
    titles = {one.name: one.title for one in _ALL}
    rows = ["| " + " | ".join(_row(one, measured.get(one.name, {}), titles)) + " |" for one in _ALL]
    return f"{_HEAD}{chr(10).join(rows)}\n\nMeasured on {day}.\n"


def _row(one, measured, titles):
    mail = measured.get("mail")
    return [
        one.title,
        one.version or "",
        *_way(measured.get("stdio")),
        *_way(measured.get("http")),
        titles[mail["with"]] if mail else "",
    ]


def _way(measured):
    if measured is None:
        return ["not run", "", ""]
    return [
        f"{measured['offered']} of {_TOOLS}",
        f"{measured['answered']} of {len(STEPS)}",
        f"{measured['seconds']:.1f} s",
    ]


def main(page):
    """Write the table into a page that has its place."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{page}: there is no place between {BEGIN} and {END}")
    if not MEASURED.exists():
        sys.exit("nothing was measured")
    measured = json.loads(MEASURED.read_text("utf-8"))
    day = datetime.datetime.now(datetime.UTC).date()
    page.write_text(f"{before}{BEGIN}\n{table(measured, day)}{END}{after}", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
