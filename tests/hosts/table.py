"""Writes what was measured of hosts into a page, between lines that mark it: `table.py PAGE`."""

import datetime
import json
import sys
from pathlib import Path

from tests.hosts.conftest import MEASURED
from tests.hosts.frameworks import FRAMEWORKS
from tests.hosts.programs import PROGRAMS
from tests.mcpserver.steps import STEPS

BEGIN, END = "<!-- hosts: written by make hosts -->", "<!-- hosts: end -->"
BEGIN_MAIL, END_MAIL = "<!-- mail: written by make hosts -->", "<!-- mail: end -->"
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


_MAIL_HEAD = """\
| | runs unasked | in a turn | at its end | idle | new session |
|---|---|---|---|---|---|
"""
_STATES = ("middle", "end", "idle", "closed")


def mail_table(measured, day):
    """Return what a host runs without its user, and when it is told of mail, as a page says it."""
    rows = []
    for one in PROGRAMS:
        found = measured.get(one.name, {})
        cells = [one.title, _unasked(found.get("unasked"))]
        told = found.get("told")
        cells += [("no hooks" if told is None else _told(told.get(at))) for at in _STATES]
        rows.append(f"| {' | '.join(cells)} |")
    return f"{_MAIL_HEAD}{chr(10).join(rows)}\n\nMeasured on {day}.\n"


def _unasked(measured):
    if measured is None:
        return "not run"
    refused = measured["refused"]
    if not refused:
        return "all"
    if len(refused) == _TOOLS:
        return "none"
    if len(refused) > _TOOLS / 2:
        return f"{_TOOLS - len(refused)} of {_TOOLS}"
    return f"all but {', '.join(f'`{tool}`' for tool in refused)}"


def _told(measured):
    if measured is None:
        return "not run"
    if measured["role"] is None:
        return "sleeps"
    if measured["seconds"] is None:
        return measured["role"]
    return f"{measured['role']}, {measured['seconds']:.1f} s"


def main(page):
    """Write the tables into a page that has places for them; what was not run stays."""
    if not MEASURED.exists():
        sys.exit("nothing was measured")
    measured = json.loads(MEASURED.read_text("utf-8"))
    day = datetime.datetime.now(datetime.UTC).date()
    text = page.read_text("utf-8")
    if any("stdio" in one or "http" in one for one in measured.values()):
        text = _written(text, BEGIN, table(measured, day), END, page)
    if any("told" in one or "unasked" in one for one in measured.values()):
        text = _written(text, BEGIN_MAIL, mail_table(measured, day), END_MAIL, page)
    page.write_text(text, "utf-8")


def _written(text, begin, content, end, page):
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        sys.exit(f"{page}: there is no place between {begin} and {end}")
    return f"{before}{begin}\n{content}{end}{after}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
