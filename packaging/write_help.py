"""Writes the help of the programs into the page of the command line, between its marked lines."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer import Context
from typer.main import get_command

from mcp_server.cli import app as mq9_mcp
from mq9.cli.app import app as mq9
from mq9.cli.help import GROUPS

PAGE = Path(__file__).parents[1] / "docs/reference/cli.md"
_PROGRAMS = {"mq9": mq9, "mq9-mcp": mq9_mcp}
_PLACE = re.compile(r"(<!-- program: (\S+) -->\n).*?(<!-- program: end -->)", re.DOTALL)
_SAME_AS = {("mq9", "mcp"): "mq9-mcp"}
_OF_ALL = {"--help", "--url", "--json", "--timeout"}  # options that the page explains once


def page() -> str:
    """Return the page with the help of each program in its place."""
    text = PAGE.read_text("utf-8")
    return _PLACE.sub(lambda found: f"{found[1]}\n{_program(found[2])}\n\n{found[3]}", text)


def _program(name: str) -> str:
    return "\n\n".join(_parts(name))


def _parts(name: str) -> Iterator[str]:
    group = get_command(_PROGRAMS[name])
    context = Context(group, info_name=name)
    yield from _described(group, context, leave_out=set())
    grouped = [command for commands in GROUPS.values() for command in commands]
    found = group.list_commands(context)
    for command in sorted(found, key=lambda one: grouped.index(one) if one in grouped else -1):
        yield f"### {name} {command}"
        if same := _SAME_AS.get((name, command)):
            yield f"The same as [`{same}`](#{same}), with the same options."
        else:
            one = group.get_command(context, command)
            inner = Context(one, info_name=command, parent=context)
            yield from _described(one, inner, _OF_ALL)


def _described(command: Any, context: Context, leave_out: set[str]) -> Iterator[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{' '.join(usage.split())}\n```"
    yield from map(_prose, command.help.split("\n\n"))
    rows = [
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if not leave_out.intersection(parameter.opts)
    ]
    if rows:
        table = (f"| {_code(row[0])} | {_prose(row[1])} |" for row in rows)
        yield "\n".join(["| argument or option | meaning |", "|---|---|", *table])
    if command.epilog:
        examples = command.epilog.removeprefix("\b\n").splitlines()
        yield "\n".join(["```text", *(line.strip() for line in examples[1:]), "```"])


def _code(text: str) -> str:
    """Return code for the cell of a table, in which a bar would end the cell."""
    if "|" not in text:
        return f"`{text}`"
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def _prose(text: str) -> str:
    """Return text for a terminal with the characters escaped that Markdown and HTML interpret."""
    escaped = html.escape(" ".join(text.replace("\b", "").split()), quote=False)
    return re.sub(r"([|\[\]*_])", r"\\\1", escaped)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
