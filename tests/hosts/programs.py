"""Hosts as programs: how each is set up for a model on loopback, and run without a user.

What a host is told of the model, and not to report on its user or to update itself, stands in its
own files or variables. The entry of the MCP server does not: `mq9-mcp install` writes that.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.running import run, run_steps
from tests.hosts.terminal import in_terminal
from tests.mcpserver.programs import MQ9_MCP

_TOOLS = Path(__file__).parents[2] / ".tools"
_MODULES = _TOOLS / "hosts/node_modules"
_COMMANDS = _MODULES / ".bin"
_NODE = _TOOLS / "mcp/node_modules/.bin"
KEY = "scripted"  # what each host is given for an API key


@dataclass(frozen=True)
class Program:
    """A host."""

    name: str
    title: str
    package: str
    command: str
    words: tuple[str, ...]
    variables: Callable[[str], dict[str, str]]
    files: Callable[[str], dict[str, str]]
    http_file: str
    http_entry: Callable[[str], dict]
    declines: bool = False
    starts_servers_late: bool = False  # without a window, after the hooks of the first prompt
    # Without a word of what it may do unasked; None where no word of that is among them.
    asking_words: tuple[str, ...] | None = None
    # In a terminal, and what its own files then say, so that it asks its user nothing at first.
    terminal_words: tuple[str, ...] | None = None
    terminal_begins: str = ""  # a text that it draws then, without blanks
    terminal_files: Callable[[Path], dict[str, dict]] = lambda _home: {}

    @property
    def version(self):
        """The version that is installed; None when npm could not install it."""
        described = _MODULES / self.package / "package.json"
        return json.loads(described.read_text())["version"] if described.exists() else None

    def need(self):
        """Skip the test where the host is not installed."""
        if not (_TOOLS / "hosts/.ready").exists():
            pytest.skip("make hosts installs the hosts, where there is npm")
        if self.version is None:
            pytest.skip(f"npm could not install {self.package}; remove .tools/hosts to try again")


class Home:
    """The home of a user, with nothing in it but what the tests have put there."""

    def __init__(self, directory, model):
        self.directory = directory
        self.model = model
        self.work = directory / "work"
        self.work.mkdir()

    def set_up(self, program):
        """Write a host's own files."""
        for name, content in program.files(self.model.url).items():
            _write(self.directory / name, content)

    def install(self, program, *options):
        """Let `mq9-mcp install` tell a host of the server."""
        command = [MQ9_MCP, "install", program.name, "--yes", *options]
        run(command, model=self.model, **self._options(program))

    def add_http(self, program, url):
        """Tell a host of a server over HTTP, as its own manual does."""
        file = self.directory / program.http_file
        entry = program.http_entry(url)
        text = file.read_text() if file.exists() else ""
        if file.suffix == ".toml":
            [(table, values)] = entry.items()
            lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
            text += "\n".join(["", f"[{table}.mq9]", *lines, ""])
        else:
            [(member, value)] = entry.items()
            text = json.dumps({**json.loads(text or "{}"), member: {"mq9": value}})
        _write(file, text)

    def run(self, program, steps, **options):
        """Let a host do what the model says; what the model saw."""
        command = [_COMMANDS / program.command, *program.words]
        return run_steps(self.model, steps, command, **options, **self._options(program))

    def in_terminal(self, program):
        """Run a host as a person does, in a terminal."""
        for name, content in program.terminal_files(self.directory).items():
            file = self.directory / name
            before = json.loads(file.read_text()) if file.exists() else {}
            _write(file, json.dumps({**before, **content}))
        command = [_COMMANDS / program.command, *program.terminal_words]
        return in_terminal(command, model=self.model, **self._options(program))

    def execute(self, program, command, **variables):
        """Run a command with what a host is given, and further variables; what it printed."""
        options = self._options(program)
        options["variables"] = options["variables"] | variables
        return run(command, model=self.model, **options)

    def _options(self, program):
        return {
            "home": self.directory,
            "directory": self.work,
            "path": (_COMMANDS, _NODE),
            "variables": program.variables(self.model.url),
        }


def _write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _codex_files(url):
    return {
        ".codex/config.toml": f"""\
model = "scripted"
model_provider = "scripted"
check_for_update_on_startup = false

[analytics]
enabled = false

[features]
apps = false
plugins = false
remote_plugin = false

[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "SCRIPTED_KEY"
"""
    }


def _gemini_files(_url):
    settings = {
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "telemetry": {"enabled": False},
    }
    return {".gemini/settings.json": json.dumps(settings)}


def _qwen_files(_url):
    settings = {
        "general": {"enableAutoUpdate": False},
        "privacy": {"usageStatisticsEnabled": False},
        "security": {"auth": {"selectedType": "openai"}},
        "telemetry": {"enabled": False},
        "tools": {"toolSearch": {"enabled": False}},  # else no tool is in the first prompt
    }
    return {".qwen/settings.json": json.dumps(settings)}


def _opencode_files(url):
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "scripted",
        "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
        "models": {"scripted": {"name": "scripted", "tool_call": True}},
    }
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "model": "scripted/scripted",
        "small_model": "scripted/scripted",
        "enabled_providers": ["scripted"],
        "provider": {"scripted": provider},
    }
    return {".config/opencode/opencode.json": json.dumps(settings)}


def _cline_files(url):
    provider = {
        "provider": "openai-compatible",
        "apiKey": KEY,
        "model": "scripted",
        "baseUrl": f"{url}/v1",
    }
    providers = {
        "version": 1,
        "lastUsedProvider": "openai-compatible",
        "modes": {},
        "providers": {
            "openai-compatible": {
                "settings": provider,
                "updatedAt": "2026-01-01T00:00:00.000Z",
                "tokenSource": "manual",
            }
        },
    }
    settings = {"telemetryOptOut": True, "autoUpdateEnabled": False}
    return {
        ".cline/data/settings/providers.json": json.dumps(providers),
        ".cline/data/settings/global-settings.json": json.dumps(settings),
    }


def _no_files(_url):
    return {}


CODEX = Program(
    name="codex",
    title="Codex CLI",
    package="@openai/codex",
    command="codex",
    words=(
        *("exec", "--skip-git-repo-check"),
        *("--config", 'mcp_servers.mq9.default_tools_approval_mode="approve"'),
    ),
    variables=lambda _url: {"SCRIPTED_KEY": KEY},
    files=_codex_files,
    http_file=".codex/config.toml",
    http_entry=lambda url: {"mcp_servers": {"url": url}},
    declines=True,
    asking_words=("exec", "--skip-git-repo-check"),
    terminal_words=(),
    terminal_begins="Trustallandcontinue",
)

PROGRAMS = (
    CODEX,
    Program(
        name="gemini",
        title="Gemini CLI",
        package="@google/gemini-cli",
        command="gemini",
        words=(
            *("--model", "gemini-2.5-pro", "--approval-mode", "yolo", "--skip-trust"),
            "--prompt",
        ),
        variables=lambda url: {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": url},
        files=_gemini_files,
        http_file=".gemini/settings.json",
        http_entry=lambda url: {"mcpServers": {"httpUrl": url}},
        asking_words=("--model", "gemini-2.5-pro", "--skip-trust", "--prompt"),
        terminal_words=("--model", "gemini-2.5-pro"),
        terminal_begins="1MCPserver>Typeyourmessage",
        terminal_files=lambda home: {
            ".gemini/trustedFolders.json": {str(home / "work"): "TRUST_FOLDER"}
        },
    ),
    Program(
        name="qwen",
        title="Qwen Code",
        package="@qwen-code/qwen-code",
        command="qwen",
        words=("--approval-mode", "yolo", "--model", "scripted", "--prompt"),
        variables=lambda url: {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{url}/v1"},
        files=_qwen_files,
        http_file=".qwen/settings.json",
        http_entry=lambda url: {"mcpServers": {"httpUrl": url}},
        starts_servers_late=True,
        asking_words=("--model", "scripted", "--prompt"),
    ),
    Program(
        name="opencode",
        title="opencode",
        package="opencode-ai",
        command="opencode",
        words=("run", "--pure", "--auto"),
        variables=lambda url: {
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "npm_config_registry": f"{url}/npm/",
        },
        files=_opencode_files,
        http_file=".config/opencode/opencode.json",
        http_entry=lambda url: {"mcp": {"type": "remote", "url": url, "enabled": True}},
        asking_words=("run", "--pure"),
    ),
    Program(
        name="cline-cli",
        title="Cline CLI",
        package="cline",
        command="cline",
        words=("--provider", "openai-compatible", "--model", "scripted"),
        # Its other backend is a process that stays.
        variables=lambda _url: {
            "CLINE_NO_AUTO_UPDATE": "1",
            "CLINE_SESSION_BACKEND_MODE": "local",
            "E2E_TEST": "true",
        },
        files=_cline_files,
        http_file=".cline/data/settings/cline_mcp_settings.json",
        http_entry=lambda url: {"mcpServers": {"type": "streamableHttp", "url": url}},
    ),
    Program(
        name="copilot",
        title="Copilot CLI",
        package="@github/copilot",
        command="copilot",
        words=(
            *("--allow-all-tools", "--no-auto-update", "--disable-builtin-mcps"),
            *("--disable-client-telemetry", "--prompt"),
        ),
        variables=lambda url: {
            "COPILOT_MODEL": "scripted",
            "COPILOT_OFFLINE": "true",
            "COPILOT_PROVIDER_API_KEY": KEY,
            "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
        },
        files=_no_files,
        http_file=".copilot/mcp-config.json",
        http_entry=lambda url: {"mcpServers": {"type": "http", "url": url, "tools": ["*"]}},
        declines=True,
        asking_words=(
            *("--no-auto-update", "--disable-builtin-mcps", "--disable-client-telemetry"),
            "--prompt",
        ),
        terminal_words=(
            *("--allow-all-tools", "--no-auto-update", "--disable-builtin-mcps"),
            "--disable-client-telemetry",
        ),
        terminal_files=lambda home: {
            ".copilot/config.json": {"trusted_folders": [str(home / "work")]}
        },
    ),
    Program(
        name="claude-code",
        title="Claude Code",
        package="@anthropic-ai/claude-code",
        command="claude",
        words=("--model", "sonnet", "--allowedTools", "mcp__mq9", "--print"),
        variables=lambda url: {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        },
        files=_no_files,
        http_file=".claude.json",
        http_entry=lambda url: {"mcpServers": {"type": "http", "url": url}},
        asking_words=("--model", "sonnet", "--print"),
        terminal_words=("--model", "sonnet", "--permission-mode", "default"),
        terminal_files=lambda home: {
            ".claude.json": {
                "hasCompletedOnboarding": True,
                "theme": "dark",
                "customApiKeyResponses": {"approved": [KEY], "rejected": []},
                "projects": {str(home / "work"): {"hasTrustDialogAccepted": True}},
            }
        },
    ),
)
