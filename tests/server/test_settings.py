"""Where a setting of `mq9 serve` comes from, and what is said of one that cannot be used."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mq9 import InvalidRequest
from mq9.cli.app import app
from mq9.engine.commands import Limits
from mq9.server.limits import ServerLimits, SnapshotLimits
from mq9.server.settings import ServerSettings, option, variable

SECRET = "correct-horse"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in [one for one in os.environ if one.startswith("MQ9_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path):
    """Write a configuration file."""

    def write(text):
        path = tmp_path / "mq9.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def refusal(**values):
    with pytest.raises(InvalidRequest) as refused:
        ServerSettings(**values)
    return str(refused.value)


def test_an_option_goes_before_its_variable_and_that_before_the_file(config, monkeypatch):
    path = config("port = 1\nmax-bytes = 2\nmax-ids = 3\n")
    monkeypatch.setenv("MQ9_PORT", "11")
    monkeypatch.setenv("MQ9_MAX_BYTES", "12")

    settings = ServerSettings(config=path, port=21)

    assert (settings.port, settings.max_bytes, settings.max_ids) == (21, 12, 3)
    assert settings.max_agents == Limits().max_agents


def test_the_file_is_named_by_a_variable_too(config, monkeypatch):
    monkeypatch.setenv("MQ9_CONFIG", str(config('host = "localhost"\n')))
    assert ServerSettings().host == "localhost"


def test_what_the_file_switches_on_an_option_switches_off(config):
    assert ServerSettings(config=config("memory = true\n"), memory=False).memory is False


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("MQ9_PORT", "")
    assert ServerSettings().port == 4222


def test_names_are_lists_in_the_file_and_words_in_a_variable(config, monkeypatch):
    assert ServerSettings(config=config('mcp-allow-host = ["a", "b"]\n')).mcp_allow_host == (
        "a",
        "b",
    )
    monkeypatch.setenv("MQ9_ADMIN_ALLOW_HOST", "a b")
    assert ServerSettings().admin_allow_host == ("a", "b")


def test_every_limit_is_what_the_broker_and_the_server_take():
    settings = ServerSettings(max_bytes=7, max_pending=70_000)
    assert settings.limits == Limits(max_bytes=7)
    assert settings.server_limits == ServerLimits(max_pending=70_000)


def test_limits_of_a_log_are_for_gateways_and_bounded():
    gateway = {"cluster": "nats://127.0.0.1:1"}
    assert ServerSettings(**gateway).snapshot_limits == SnapshotLimits()
    chosen = {"snapshot_records": 1_000, "snapshot_bytes": 1 << 20, "snapshot_age": 60.0}
    assert ServerSettings(**gateway, **chosen).snapshot_limits == SnapshotLimits(**chosen)
    for name, least in chosen.items():
        said = f"{option(name)}: it is for gateways; give --cluster, too"
        assert refusal(**{name: least}) == said
        assert refusal(**gateway, **{name: least - 1}).startswith(f"{option(name)}: {least - 1}")


def test_what_cannot_be_used_is_named_with_the_place_where_it_stands(config, monkeypatch):
    said = "input should be less than or equal to 65535"
    assert refusal(port="70000") == f"port: '70000': {said}"
    path = config("port = 70000\n")
    assert refusal(config=path) == f"port in the configuration file: 70000: {said}"
    monkeypatch.setenv("MQ9_PORT", "70000")
    assert refusal(config=path) == f"MQ9_PORT: '70000': {said}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_bytes = 1\n", "has 'max_bytes', which is none of host, port, data"),
        ("[limits]\nmax-bytes = 1\n", "has 'limits', which is none of"),
        ('config = "other.toml"\n', "has 'config', which is none of"),
        ("port = \n", "is not TOML: "),
    ],
)
def test_a_file_that_is_not_understood_is_named(config, text, said):
    path = config(text)
    assert refusal(config=path).startswith(f"config: {path} {said}")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing = tmp_path / "missing.toml"
    assert refusal(config=missing) == f"config: {missing} cannot be read: No such file or directory"
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "is not TOML" in refusal(config=tmp_path / "binary")


def test_a_secret_is_never_shown(config):
    settings = ServerSettings(auth_token=SECRET)
    assert SECRET not in repr(settings) + str(settings)
    assert refusal(config=config('auth-token = ["correct-horse"]\n')) == (
        "auth-token in the configuration file: input should be a valid string"
    )


def test_help_names_every_setting_its_variable_and_its_default():
    helped = " ".join(CliRunner().invoke(app, ["serve", "--help"]).stdout.split())
    for name, field in ServerSettings.model_fields.items():
        assert f"--{option(name)} " in helped
        assert variable(name) in helped
        if isinstance(field.default, int | float | str) and not isinstance(field.default, bool):
            default = getattr(field.default, "value", field.default)
            assert f"env var: {variable(name)}; default: {default}" in helped
    assert "0 to 65535" in helped


def test_the_command_takes_what_stands_on_its_line():
    done = CliRunner().invoke(app, ["serve", "--memory", "--no-admin", "--port", "many"])
    assert done.exit_code == 2
    assert done.stderr == (
        "error: port: 'many': input should be a valid integer, unable to parse string as an "
        "integer\n"
    )


def test_the_page_of_settings_names_every_option():
    docs = Path(__file__).parents[2] / "docs"
    page = "".join(one.read_text("utf-8") for one in sorted(docs.rglob("*.md")))
    for name, field in ServerSettings.model_fields.items():
        if field.annotation is not bool:
            assert f"`--{option(name)}" in page, name


@pytest.mark.skipif(os.name != "posix", reason="files have other rights there")
@pytest.mark.parametrize(("line", "warns"), [('auth-token = "x"', True), ("port = 4222", False)])
def test_a_file_with_secrets_that_others_can_read_is_warned_of(tmp_path, caplog, line, warns):
    path = tmp_path / "mq9.toml"
    path.write_text(line)
    for mode, expected in ((0o644, warns), (0o600, False)):
        caplog.clear()
        path.chmod(mode)
        ServerSettings(config=path).warn_of_secrets()
        said = [one for one in caplog.messages if "holds secrets and others may read it" in one]
        assert bool(said) == expected
