"""Measure what a hook costs: `mq9-mcp hook` beside `python -c pass`, CPU and wall time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

ROUNDS = 30
PROGRAM = Path(sys.executable).with_name("mq9-mcp")
GREETING = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


def cost(command: Sequence[str | Path], environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the CPU and wall time of a run in milliseconds, and see that it prints nothing."""
    document = json.dumps({"session_id": "one", "tool_response": "x" * 10_000}).encode()
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(  # noqa: S603  # our own program
        command, input=document, stdout=subprocess.PIPE, env=environment, check=True
    )
    wall, after = time.perf_counter() - began, os.times()
    if done.stdout:
        raise SystemExit(f"it was to find nothing, and printed {done.stdout!r}")
    used = after.children_user + after.children_system
    return (used - before.children_user - before.children_system) * 1000, wall * 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "MQ9_SERVER": f"sqlite:///{home}/mq9.db"}
        server = subprocess.Popen(  # noqa: S603  # our own program
            [PROGRAM, "--agent", "desk"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with server:
            if server.stdin is None or server.stdout is None:
                raise SystemExit("the server has no pipes")
            request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": GREETING}
            server.stdin.write(json.dumps(request).encode() + b"\n")
            server.stdin.flush()
            server.stdout.readline()
            hook = [PROGRAM, "hook", "claude-code", "PostToolUse", "--agent", "desk"]
            start = [PROGRAM, "hook", "claude-code", "SessionStart", "--agent", "desk"]
            cost(start, environment)  # waits until the server is there
            commands = {
                "python -c pass": [sys.executable, "-c", "pass"],
                "mq9-mcp hook, nothing new": hook,
            }
            rounds = [
                {name: cost(one, environment) for name, one in commands.items()}
                for _ in range(ROUNDS)
            ]
            server.stdin.close()
    # The system counts CPU time in steps that are as long as a run, so only their sum tells.
    cpu = {name: sum(one[name][0] for one in rounds) / ROUNDS for name in commands}
    for name, used in cpu.items():
        ratio = used / cpu["python -c pass"]
        wall = median(one[name][1] for one in rounds)
        print(f"{name:28} CPU {used:5.1f} ms ({ratio:.1f} times pass)   wall {wall:5.0f} ms")


if __name__ == "__main__":
    main()
