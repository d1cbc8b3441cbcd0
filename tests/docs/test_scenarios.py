"""The scenarios come to what they are there to show, on every kind of broker."""

import ast
import re
import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured

PROGRAMS = Path(__file__).parents[2] / "examples/scenarios"

PATTERNS = [
    "capability routing",
    "sub-agent's result",
    "worker queue",
    "cloud to edge",
    "human approval",
    "request and reply",
]
OUTCOMES = {
    "alert": {
        "pager": ["Payments are slow", "Payments fail"],
        "auditor": ["Payments fail", "Payments are slow"],
    },
    "approval": {"paid": [90], "answer": "The invoice is paid."},
    "ask_offline": {
        "asked": "How far is the library?",
        "answered": "72 % done.",
        "topic": "the library",
        "text": "Ben says of the library: 72 % done.",
    },
    "capability_routing": {
        "Translate this Chinese letter": "translator does it",
        "Is this contract unfair?": "jurist does it",
        "Simulate a quantum circuit": "nobody can do that",
    },
    "edge_commands": {
        "done": [
            {"do": "stop the pump"},
            {"do": "restart"},
            {"do": "report"},
            {"do": "set interval", "seconds": 30},
        ],
        "left": 0,
    },
    "fan_out": [f"CHAPTER {number:02}" for number in range(1, 13)],
    "task_result": {
        "text": "It was a good year.",
        "words": 5,
        "summary": "5 words, beginning with 'It was a goo'",
    },
    "worker_status": {"ada": [{"load": 0.9}], "bob": [{"load": 0.3}]},
}


def program(name):
    return PROGRAMS / f"{name}.py"


@pytest.fixture(params=["memory", "file", "server"])
async def url(request, tmp_path, server):
    urls = {"memory": f"memory://{tmp_path.name}", "file": f"sqlite:///{tmp_path}/mq9.db"}
    return urls.get(request.param, server.url)


@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_scenario_comes_to_what_it_is_there_to_show(name, url):
    main = runpy.run_path(str(program(name)))["main"]
    assert await main(url) == OUTCOMES[name]


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_scenario_runs_by_itself_and_tells_what_happens(name, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [name])
    runpy.run_path(str(program(name)), run_name="__main__")
    assert capsys.readouterr().out


def test_every_scenario_and_pattern_has_a_program_that_fits_on_a_page():
    assert {path.stem for path in PROGRAMS.glob("*.py")} == set(OUTCOMES)
    sources = {name: program(name).read_text("utf-8") for name in OUTCOMES}
    shown = [ast.get_docstring(ast.parse(source)) for source in sources.values()]
    numbers = re.findall(r"^Scenario (\d)", "\n".join(shown), re.MULTILINE)
    assert sorted(numbers) == list("12345678")
    for pattern in PATTERNS:
        assert sum(pattern in " ".join(one.split()) for one in shown) == 1, pattern
    for name, source in sources.items():
        assert len(source.splitlines()) < 60, name
