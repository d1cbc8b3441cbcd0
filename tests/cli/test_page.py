"""docs/cli.md says what is true: its shell snippets run in order, and its tables are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from mq9.cli.app import app

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(sys.platform == "win32", reason="the snippets are for a shell")
def test_the_snippets_run_in_order_and_print_what_the_page_says(tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mq9"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mq9 "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "MQ9_SERVER": f"sqlite:///{tmp_path}/mail.db",
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
    }
    blocks = BLOCK.findall(PAGE)
    ran = 0
    for (language, source), following in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language != "sh":
            continue
        done = subprocess.run(
            ["/bin/sh", "-euc", source],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=100,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if following[0] == "text":
            assert done.stdout == following[1]
        ran += 1
    assert ran == 3


def test_the_page_names_every_command_and_option():
    program = get_command(app)
    for name in program.list_commands(None):
        [row] = re.findall(rf"^\| `{name}\b.*$", PAGE.split("## Which broker")[0], re.MULTILINE)
        if name == "serve":
            continue
        for parameter in program.get_command(None, name).params:
            for option in parameter.opts:
                if option.startswith("--") and option != "--help":
                    place = PAGE if option in {"--url", "--json", "--timeout"} else row
                    assert option in place, (name, option)
