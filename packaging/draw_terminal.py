"""Draw what commands print on a terminal, for the pages that show it.

The commands run in this process, on the broker of the desk's pictures, whose clock is moved by
hand. A picture therefore changes only if the output of its command does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from take_screenshots import fill
from typer.testing import CliRunner

from mq9.cli.app import app
from mq9.testing import FakeBroker

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/assets/terminal"
COMMANDS = {
    "inbox": ("inbox", "boss"),
    "why": ("why", "shop", "2"),
    "stuck": ("why", "shop.dead", "0"),
}
DEMO = ROOT / "examples/two_agents.py"
WIDTH = 80
# As rich draws it, without fonts from elsewhere: a page loads nothing from other servers.
PICTURE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
  <style>
    .{unique_id}-matrix {{
      font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font: bold 18px system-ui, sans-serif; }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
  </defs>
  {chrome}
  <g transform="translate({terminal_x}, {terminal_y})"
     clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
  </g>
</svg>
"""


def output(url: str, *arguments: str) -> str:
    """Return what a command prints on a terminal of 80 columns, in UTC."""
    variables = {"MQ9_SERVER": url, "COLUMNS": str(WIDTH), "NO_COLOR": None, "TZ": "UTC"}
    with ExitStack() as stack:
        stack.enter_context(patch("typer.testing._NamedTextIOWrapper.isatty", lambda _: True))
        stack.callback(time.tzset)
        stack.enter_context(patch.dict(os.environ, {"TZ": "UTC"}))
        time.tzset()
        done = CliRunner().invoke(app, [*arguments], env=variables)
    if done.exit_code:
        raise RuntimeError(f"mq9 {' '.join(arguments)}: {done.output}") from done.exception
    return done.stdout


def demo() -> str:
    """Return what `make demo` prints, up to its summary."""
    command = [sys.executable, DEMO]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # ours
    return done.stdout.partition("\nWhat you have seen")[0]


def drawn(name: str, command: str, printed: str) -> str:
    """Return the picture of a command and its output."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text.from_ansi(printed))
    return console.export_svg(title=command, theme=MONOKAI, code_format=PICTURE, unique_id=name)


def pictures() -> dict[str, str]:
    """Return each picture by its name."""
    with FakeBroker(autojump=False) as broker:
        asyncio.run(fill(broker))
        found = {
            name: drawn(name, f"mq9 {' '.join(arguments)}", output(broker.url, *arguments))
            for name, arguments in COMMANDS.items()
        }
    return {**found, "demo": drawn("demo", "make demo", demo())}


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        (OUT / f"{name}.svg").write_text(picture, "utf-8")
