"""The bundle that hosts install with a click.

Its server type is `uv`: the host brings uv, which makes an environment of what the bundle's
`pyproject.toml` lists. That takes the network, and is not done here; uv is told to use the
environment of the tests instead, which has the same packages.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from mq9.version import VERSION
from tests.mcpserver.programs import mcpb, needs_node

ROOT = Path(__file__).parents[2]
UV = ROOT / ".tools/uv/bin/uv"
# Of other extras, and of the plugin for tests: loaded only where they are asked for.
OPTIONAL = {
    *("numpy", "opentelemetry", "prometheus_client", "pydantic_settings", "pytest", "uvicorn"),
    *("uvloop", "wordllama", "jinja2", "sse_starlette", "nats", "nkeys"),
}
# They come with what is listed.
ALONG = {
    *("annotated_types", "anyio", "click", "cryptography", "mcp_types", "pydantic_core"),
    "typing_extensions",
}

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


def build(folder):
    """Build the bundle, as `make mcpb` does."""
    done = subprocess.run(
        [sys.executable, ROOT / "packaging/build_mcpb.py", folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return build(tmp_path_factory.mktemp("bundle") / "dist")


@pytest.fixture(scope="module")
def unpacked(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    return folder


def manifest(unpacked):
    return json.loads((unpacked / "manifest.json").read_text())


def test_it_holds_the_sources_and_nothing_else_and_is_always_the_same(bundle, tmp_path):
    command = [shutil.which("git"), "ls-files", "mq9", "mcp_server"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
    assert bundle.name == f"mq9-mcp-{VERSION}.mcpb"
    others = ["LICENSE", "manifest.json", "pyproject.toml", "server.py"]
    assert sorted(names) == sorted([*listed.split(), *others])
    assert build(tmp_path).read_bytes() == bundle.read_bytes()


def test_what_is_listed_is_what_the_sources_import(unpacked):
    project = tomllib.loads((unpacked / "pyproject.toml").read_text())["project"]
    listed = {re.split(r"[\[<>=]", one)[0].lower() for one in project["dependencies"]}
    imported = set()
    for path in unpacked.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
    others = imported - sys.stdlib_module_names - {"mq9", "mcp_server"} - OPTIONAL - ALONG
    homes = packages_distributions()
    assert others
    assert not {
        name for name in others if not listed & {one.lower() for one in homes.get(name, [])}
    }
    assert project["version"] == VERSION


@needs_node
def test_the_official_program_takes_it(bundle, unpacked, tmp_path):
    done = mcpb(tmp_path, "validate", unpacked / "manifest.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Manifest schema validation passes!" in done.stdout
    done = mcpb(tmp_path, "unpack", bundle, tmp_path / "theirs")
    assert done.returncode == 0, done.stderr

    def held(folder):
        return {one.relative_to(folder): one.read_bytes() for one in folder.rglob("*.*")}

    assert held(tmp_path / "theirs") == held(unpacked)

    wrong = manifest(unpacked) | {"server": {"type": "uv"}}
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    assert mcpb(tmp_path, "validate", tmp_path / "wrong.json").returncode != 0


def started(unpacked, given):
    config = manifest(unpacked)["server"]["mcp_config"]
    defaults = {name: one["default"] for name, one in manifest(unpacked)["user_config"].items()}
    known = {"__dirname": str(unpacked)}
    known |= {f"user_config.{name}": value for name, value in {**defaults, **given}.items()}

    def put_in(text):
        return re.sub(r"\$\{([^}]+)\}", lambda found: known[found[1]], text)

    environment = {name: put_in(value) for name, value in config["env"].items()}
    return config["command"], [put_in(one) for one in config["args"]], environment


@pytest.mark.parametrize(
    "by",
    [
        pytest.param(
            "uv",
            marks=pytest.mark.skipif(not UV.exists(), reason="make tools has not installed uv"),
        ),
        "python",
    ],
)
@pytest.mark.parametrize("given", [{}, {"agent": "Desk"}])
async def test_what_the_manifest_names_starts_and_lists_the_tools(unpacked, tmp_path, by, given):
    url = f"sqlite:///{tmp_path}/mail.db"
    command, arguments, environment = started(unpacked, {"server": url, **given})
    assert command == "uv"
    *_, by_default = started(unpacked, {})
    assert by_default == {"MQ9_SERVER": ""}  # which counts as none: the file of the user
    if by == "python":
        # What uv does once it has an environment.
        assert arguments[:3] == ["run", "--directory", str(unpacked)]
        command, arguments = sys.executable, [str(unpacked / arguments[3]), *arguments[4:]]
    else:
        command = str(UV)
        environment |= {
            "UV_NO_SYNC": "1",
            "UV_OFFLINE": "1",
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
        }
    server = StdioServerParameters(
        command=command,
        args=arguments,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.defpath, **environment},
    )
    async with Client(server) as client:
        offered = {
            one.name: one.description.partition("\n")[0]
            for one in (await client.list_tools()).tools
        }
        told = (await client.call_tool("mq9_whoami", {})).structured_content
    assert {one["name"]: one["description"] for one in manifest(unpacked)["tools"]} == offered
    assert told["mail_address"] == given.get("agent", "claude-desktop").lower().replace("-", ".")
    assert (tmp_path / "mail.db").exists()
