"""How long `mq9-mcp` takes from its start to the answer of `tools/list`, over stdio.

Beside it, in turn, how long it takes to import the MCP SDK, which serves all further requests: what
`python -c "import mcp"` takes, and what `python -c pass` takes of that. The median of each is
printed, and the first as a share of the second.

    python benchmarks/scripts/mcp_start.py [rounds]
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("mq9-mcp")
REQUESTS = [
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "0"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list"},
]


def to_the_tools(environment):
    """Start the program as a host does, and ask for its tools; seconds until they are there."""
    begin = time.perf_counter()
    with subprocess.Popen(  # noqa: S603  # a command of ours
        [PROGRAM, "--agent", "benchmark"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        for request in REQUESTS:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **request}).encode() + b"\n")
            process.stdin.flush()
            if "id" in request:
                answer = json.loads(process.stdout.readline())
        seconds = time.perf_counter() - begin
        process.stdin.close()
        process.stdout.read()
    if not answer["result"]["tools"]:
        sys.exit("there are no tools")
    return seconds


def to_run(statement):
    """Run a statement in a Python of its own; seconds until it has ended."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603  # see above
    return time.perf_counter() - begin


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as home:
        environment = {"HOME": home, "XDG_DATA_HOME": home, "PATH": os.defpath}
        tools, sdk, nothing = [], [], []
        for number in range(rounds + 1):  # the first of each is not counted: it fills caches
            for times, seconds in (
                (tools, to_the_tools(environment)),
                (sdk, to_run("import mcp")),
                (nothing, to_run("pass")),
            ):
                times.extend([seconds] if number else [])
    for name, times in (
        ("mq9-mcp, to the answer of tools/list", tools),
        ('python -c "import mcp"', sdk),
        ('python -c "pass"', nothing),
    ):
        print(f"{statistics.median(times):6.3f} s  {min(times):6.3f} at best  {name}")
    share = statistics.median(tools) / statistics.median(sdk)
    print(f"{share:.2f} of importing the SDK, {rounds} rounds")


if __name__ == "__main__":
    main()
