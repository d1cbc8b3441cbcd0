"""docs/reference/cli.md names every command and option."""

import re
from pathlib import Path

from typer.main import get_command

from mq9.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text("utf-8")


def test_the_page_names_every_command_and_option():
    program = get_command(app)
    for name in program.list_commands(None):
        [row] = re.findall(rf"^\| `{name}\b.*$", PAGE.split("## Exit codes")[0], re.MULTILINE)
        if name in {"serve", "mcp"}:  # they have pages of their own
            continue
        for parameter in program.get_command(None, name).params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    place = PAGE if option in {"--url", "--json", "--timeout"} else row
                    assert option in place, (name, option)
