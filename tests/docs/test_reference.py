"""The pages of the reference name what there is, all of it and nothing else."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
from typer import Context
from typer.main import get_command

import langchain_mq9
import mcp_server
import mq9
import mq9.testing
from mcp_server.cli import app as mcp_app
from mq9 import errors
from mq9.cli.app import app as mq9_app
from mq9.engine.commands import Limits
from mq9.errors import Mq9Error
from mq9.storage.backend import MAX_STEPS

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
SETTINGS = (REFERENCE / "settings.md").read_text("utf-8")
HOSTS = (ROOT / "docs/how-to/mcp-hosts.md").read_text("utf-8")


def section(page, heading):
    """Return what stands under a heading, up to the next one of its level."""
    [text] = re.findall(rf"^{heading}$(.*?)(?=^#{{1,2}} |\Z)", page, re.MULTILINE | re.DOTALL)
    return text


def row_of(text, option):
    """Return the cells of the row that names an option in its first cell."""
    found = [row for row in text.splitlines() if re.match(rf"\| [^|]*`{option}[ `]", row)]
    assert len(found) == 1, option
    return [cell.strip() for cell in found[0].strip("|").split("|")]


class Option:
    """An option of a command, as the command explains it."""

    def __init__(self, parameter, context):
        text = parameter.get_help_record(context)[1]
        self.variable = self._found(r"env var: (\w+)", text)
        self.default = self._found(r"default: ([\w.]+(?:-\w+)*)[;\]]", text)
        name = parameter.opts[0].removeprefix("--")
        if parameter.secondary_opts and self.default == name:
            [self.name] = parameter.secondary_opts  # it is on, and only turned off
        else:
            self.name = f"--{name}"
        if parameter.secondary_opts:
            self.default = None

    @staticmethod
    def _found(pattern, text):
        found = re.search(pattern, text)
        return found and found[1]

    @property
    def defaults(self):
        """The ways in which a page may say the default."""
        if re.fullmatch(r"[\d.]+", self.default) and self.default.count(".") < 2:
            number = int(float(self.default))
            sizes = [f"{number // 1024**2} MiB", f"{number // 1024**3} GiB"]
            plain = [str(number), f"{number:,}".replace(",", " ")]
            return [*plain, *sizes] if number % 1024 == 0 else plain
        return [f"`{self.default}`"]

    def is_told_by(self, cell):
        """Tell whether the default stands in a cell of a table."""
        return self.default is None or any(
            re.search(rf"(^|\W){re.escape(one)}($|\W)", cell) for one in self.defaults
        )


def options(command):
    context = Context(command)
    return [
        Option(one, context)
        for one in command.params
        if one.opts[0].startswith("--") and "--help" not in one.opts
    ]


SERVE = options(get_command(mq9_app).get_command(None, "serve"))
MCP = options(get_command(mcp_app))
INSTALL = options(get_command(mcp_app).get_command(None, "install"))


@pytest.mark.parametrize("option", SERVE, ids=lambda option: option.name)
def test_every_option_of_the_server_is_there_with_its_default(option):
    row = row_of(section(SETTINGS, "## mq9 serve"), option.name)
    assert option.is_told_by(row[1]), row
    name = option.name.removeprefix("--no-").removeprefix("--")
    assert option.variable == f"MQ9_{name.replace('-', '_').upper()}"


@pytest.mark.parametrize("option", MCP, ids=lambda option: option.name)
def test_every_option_of_the_mcp_server_is_there_with_variable_and_default(option):
    row = row_of(section(SETTINGS, "## mq9-mcp"), option.name)
    assert row[1] == (f"`{option.variable}`" if option.variable else "")
    assert option.is_told_by(row[2]), row


def test_every_option_of_the_installation_is_there():
    text = section(HOSTS, "## Options of install")
    named = re.findall(r"^\| `(--[a-z-]+)", text, re.MULTILINE)
    assert sorted(named) == sorted(option.name for option in INSTALL)


def test_no_setting_is_there_that_does_not_exist():
    cells = re.findall(r"^\| ([^|]*)\|", SETTINGS, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(--[a-z-]+)`", cell)}
    assert named == {option.name for option in (*SERVE, *MCP)}


def test_every_variable_that_the_sources_name_is_there():
    read = {
        name
        for package in ("mq9", "langchain_mq9", "mcp_server")
        for source in (ROOT / package).rglob("*.py")
        for name in re.findall(r"\bMQ9_[A-Z_]+\b", source.read_text("utf-8"))
    }
    of_serve = {option.variable for option in SERVE}
    assert read - of_serve == set(re.findall(r"`(MQ9_[A-Z_]+)` \|", SETTINGS))


def kinds(root=Mq9Error):
    """Return an error class of the package and all below it."""
    below = [one for child in root.__subclasses__() for one in kinds(child)]
    return [one for one in (root, *below) if one.__module__ == errors.__name__]


def quoted(*classes):
    return ", ".join(f"`{one.__name__}`" for one in classes)


def test_every_error_is_there_with_its_bases_and_code():
    page = (REFERENCE / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w+`) \| ([^|]+) \| `(\w+)` \| \S", page, re.MULTILINE)
    expected = {(quoted(kind), quoted(*kind.__bases__), kind.code) for kind in kinds()}
    assert set(rows) == expected
    assert len(rows) == len(expected)
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    assert set(kinds()) == {one for one in classes if issubclass(one, Mq9Error)}


LIMITS = {
    "payload of a message": "max_payload",
    "registration or report of an agent": "max_registration",
    "messages in a mailbox": "max_messages",
    "bytes in a mailbox": "max_bytes",
    "mailboxes": "max_mailboxes",
    "registered agents": "max_agents",
    "consumer groups of a mailbox": "max_groups",
    "idempotency ids in a mailbox": "max_ids",
    "records of redeliveries to a group": "max_redelivered",
}


def test_every_limit_is_there_with_its_default():
    text = section((REFERENCE / "protocol.md").read_text("utf-8"), "## Limits")
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("| ")]
    shown = {cells[0].partition(":")[0].strip(): cells[1].strip() for cells in rows[2:]}
    assert {field.name for field in dataclasses.fields(Limits)} == set(LIMITS.values())
    defaults = {what: getattr(Limits(), name) for what, name in LIMITS.items()}
    defaults["steps that a read takes in the storage"] = MAX_STEPS
    for what, default in defaults.items():
        assert shown[what].startswith(spelled(default)), what


def spelled(number):
    """Return a limit as the page says it."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number % size == 0:
            return f"{number // size} {unit}"
    return f"{number:,}".replace(",", " ")


@pytest.mark.parametrize("package", [mq9, langchain_mq9, mq9.testing, mcp_server])
def test_the_pages_of_the_api_name_everything_that_is_public(package):
    pages = [*(REFERENCE / "python").glob("*.md"), REFERENCE / "errors.md"]
    words = {word for page in pages for word in re.findall(r"\w+", page.read_text("utf-8"))}
    # The classes of the tools are made of their operations, and the page says how they are called.
    assert set(package.__all__) - set(langchain_mq9.tools.__all__) <= words
