"""docs/reference/cli.md names every command and option."""

import re
from pathlib import Path

from typer.main import get_command

from mq9.cli.app import app

ELSEWHERE = {"serve", "mcp"}  # they have pages of their own
PAGE = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text("utf-8")


def commands(program, before=""):
    """Yield the commands of a program, and those of the groups among them, with their names."""
    for name in program.list_commands(None):
        command = program.get_command(None, name)
        if hasattr(command, "list_commands") and name not in ELSEWHERE:
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


def test_the_page_names_every_command_and_option():
    for name, command in commands(get_command(app)):
        [row] = re.findall(rf"^\| `{name}\b.*$", PAGE.split("## Exit codes")[0], re.MULTILINE)
        if name in ELSEWHERE:
            continue
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    place = PAGE if option in {"--url", "--json", "--timeout"} else row
                    assert option in place, (name, option)
