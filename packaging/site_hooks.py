"""What the documentation site takes from the programs themselves, when ``make docs`` builds it.

A page that holds ``<!-- program: NAME -->`` gets every command and option of that program there.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from typer import Context
from typer.main import get_command

from mcp_server.cli import app as mq9_mcp
from mq9.cli.app import app as mq9

_PROGRAMS = {"mq9": mq9, "mq9-mcp": mq9_mcp}
_PLACE = re.compile(r"^<!-- program: (\S+) -->$", re.MULTILINE)
_SAME_AS = {("mq9", "mcp"): "mq9-mcp"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the options of programs in their places."""
    return _PLACE.sub(lambda found: program(found[1]), markdown)


def program(name: str) -> str:
    """Return what a program says of itself and its commands, in Markdown."""
    return "\n\n".join(_parts(name))


def _parts(name: str) -> Iterator[str]:
    group = get_command(_PROGRAMS[name])
    context = Context(group, info_name=name)
    yield from _described(group, context, leave_out=set())
    for command in group.list_commands(context):
        yield f"### {name} {command}"
        if same := _SAME_AS.get((name, command)):
            yield f"The same as [`{same}`](#{same}), with the same options."
        else:
            one = group.get_command(context, command)
            inner = Context(one, info_name=command, parent=context)
            yield from _described(one, inner, {"--help", "--url", "--json", "--timeout"})


def _described(command: Any, context: Context, leave_out: set[str]) -> Iterator[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{' '.join(usage.split())}\n```"
    yield _prose(command.help)
    rows = [
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if not leave_out.intersection(parameter.opts)
    ]
    if rows:
        table = (f"| `{row[0]}` | {_prose(row[1])} |" for row in rows)
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *table])


def _prose(text: str) -> str:
    """Return what is meant for a terminal so that Markdown and HTML leave its characters alone."""
    escaped = html.escape(text, quote=False)
    return re.sub(r"([|\[\]*_])", r"\\\1", escaped)
