"""``python -m benchmarks``: run cases, print their table, and write it; see ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import plot, report, rounds, versions
from benchmarks.case import Case, Setting
from benchmarks.cases import CASES

_ROUNDS = 5


def _chosen(names: str) -> Sequence[Case]:
    """Return the cases of these names, apart by commas; all for none."""
    known = {case.name: case for case in CASES}
    wanted = [name for name in names.split(",") if name] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
    return [known[name] for name in wanted]


def _more_than_zero(kind):
    def read(text):
        value = kind(text)
        if value <= 0:
            raise ValueError(text)
        return value

    return read


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", type=_chosen, default="", help="names of cases, separated by commas"
    )
    parser.add_argument("--rounds", type=_more_than_zero(int), default=_ROUNDS)
    parser.add_argument(
        "--scale", type=_more_than_zero(float), default=1.0, help="what sizes are multiplied by"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    out = arguments.out.resolve()
    files = out / "files"
    files.mkdir(parents=True, exist_ok=True)
    about = versions.about(arguments.scale, arguments.rounds)
    done = []
    for case in arguments.only:
        with tempfile.TemporaryDirectory(prefix=f"{case.name}-", dir=out) as scratch:
            setting = Setting(arguments.rounds, arguments.scale, files, Path(scratch))
            done.append(await rounds.run(case, setting))
        print(report.as_lines(done[-1]), flush=True)
        report.write(done, about, out)  # what is done is kept, whatever becomes of the rest
    plot.write_goals(done, out / "goals.svg")
    plot.write_growth(done, out / "growth.svg")
    print(f"The table is in {out}: table.md, table.json, goals.svg, growth.svg.")


if __name__ == "__main__":
    # Whoever ends it by SIGTERM has its servers stopped, too, as asyncio does for SIGINT.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    asyncio.run(_run(_read_arguments()))
