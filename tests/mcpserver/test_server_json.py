"""The description of the server for the MCP registry."""

import json
import tomllib
from pathlib import Path
from typing import Any

import typer.main

from mcp_server.cli import app
from mq9.version import VERSION

ROOT = Path(__file__).parents[2]
SERVER: dict[str, Any] = json.loads((ROOT / "server.json").read_text("utf-8"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
[PACKAGE] = SERVER["packages"]


def test_it_is_the_package_of_this_version():
    assert PACKAGE["identifier"] == PROJECT["name"]
    assert SERVER["version"] == PACKAGE["version"] == PROJECT["version"] == VERSION
    assert f"\n## {VERSION}\n" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_package_brings_the_program_that_would_be_run():
    # uvx runs the script that is called as the package is; --with adds the extra to the package.
    [extra] = PACKAGE["runtimeArguments"]
    assert (PACKAGE["runtimeHint"], extra["name"]) == ("uvx", "--with")
    assert extra["value"] == "langchain-mq9[mcp]"
    assert "mcp" in PROJECT["optional-dependencies"]
    assert PROJECT["scripts"]["langchain-mq9"] == PROJECT["scripts"]["mq9-mcp"]


def test_the_program_takes_what_it_would_be_given():
    options = typer.main.get_command(app).params
    spelled = {name for one in options for name in one.opts}
    variables = {one.envvar for one in options}
    assert {one["name"] for one in PACKAGE["packageArguments"]} <= spelled
    assert {one["name"] for one in PACKAGE["environmentVariables"]} <= variables
