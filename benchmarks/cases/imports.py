"""What importing us takes, in a Python of its own each time."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack

from benchmarks.case import By, Case, Comparison, Contestants, Setting, at_most

_TIME = "time of the import"
_STATEMENTS = (
    "import langchain_mq9",
    "import langchain_core.tools",  # which loads nothing of what is in it
    "from langchain_core.tools import BaseTool",
    "import mq9",
    "from mq9 import Mq9Client",
    "import asyncio, json",
)
_TOOLS, _LANGCHAIN, _BASE_TOOL, _MQ9, _CLIENT, _STANDARD = _STATEMENTS


async def _open(_setting: Setting, _stack: AsyncExitStack) -> Contestants:
    # What the first round compiles, the others find.
    environment = {
        key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"
    }

    def contestant(statement):
        program = (
            "import time; begin = time.perf_counter(); "
            f"{statement}; print(time.perf_counter() - begin)"
        )

        async def measure():
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env=environment
            )
            printed, _ = await process.communicate()
            return {_TIME: float(printed) * 1000}

        return measure

    return {statement: contestant(statement) for statement in _STATEMENTS}


CASE = Case(
    "imports",
    "importing us, in a new Python that has compiled it before",
    {_TIME: "ms"},
    [
        Comparison(_TIME, _TOOLS, _LANGCHAIN, at_most(1.2)),
        Comparison(_TIME, _TOOLS, _BASE_TOOL, at_most(1.2)),
        Comparison(_TIME, _MQ9, _STANDARD, at_most(30), By.DIFFERENCE),
        Comparison(_TIME, _CLIENT, _STANDARD, by=By.DIFFERENCE),
    ],
    _open,
)
