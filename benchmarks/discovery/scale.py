"""Discovery among many agents, and what it does to those who send meanwhile.

Registers so many agents (100 000 by default) with words drawn by how common words are, and times
text and semantic discovery, an exact scan of a matrix of the same size, and SENDs: alone, and while
four clients keep asking.
"""

import asyncio
import random
import resource
import statistics
import sys
import tempfile
import time

import numpy as np

from mq9 import Mq9Client

AGENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
QUESTIONS = 1_000
SENDS = 10_000
COMMON = [
    *("translate", "review", "contract", "invoice", "code"),
    *("report", "plan", "help", "search", "data"),
]


def words(source, count):
    """Draw words: a few common ones, and others the rarer the higher their number."""
    drawn = [f"w{int(source.paretovariate(0.7)) % 20_000}" for _ in range(count)]
    return " ".join([*drawn, *source.choices(COMMON, k=max(1, count // 8))])


def shown(taken):
    p99 = statistics.quantiles(taken, n=100)[98]
    return f"median {statistics.median(taken) * 1000:6.2f} ms, p99 {p99 * 1000:6.2f} ms"


async def timed(count, call):
    taken = []
    for number in range(count):
        start = time.perf_counter()
        await call(number)
        taken.append(time.perf_counter() - start)
    return taken


async def main():
    source = random.Random(5)  # noqa: S311  # repeatable
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/mail.db"
        async with Mq9Client(url) as client:
            cards = [
                {"name": f"agent {number}", "payload": words(source, 25)}
                for number in range(AGENTS)
            ]
            start = time.perf_counter()
            for at in range(0, AGENTS, 200):
                await asyncio.gather(*map(client.agent_register, cards[at : at + 200]))
            print(f"{AGENTS} agents registered in {time.perf_counter() - start:.0f} s")
            start = time.perf_counter()
            while (await client.agent_discover(semantic="translate"))[0].match.mode != "semantic":
                pass  # until all have vectors, the words decide
            print(f"first answer by meaning after {time.perf_counter() - start:.1f} s")
            questions = [words(source, 4) for _ in range(QUESTIONS)]
            for mode in ("text", "semantic"):
                taken = await timed(
                    QUESTIONS, lambda n, mode=mode: client.agent_discover(**{mode: questions[n]})
                )
                print(f"{mode:<9} {shown(taken)}")
            matrix = source_matrix()
            taken = []
            for row in range(QUESTIONS):
                start = time.perf_counter()
                np.argpartition(-(matrix @ matrix[row]), 100)
                taken.append(time.perf_counter() - start)
            print(f"scan      {shown(taken)}")

            inbox = await client.mailbox_create(name="inbox")

            def send(_number):
                return client.send(inbox, "x" * 200, key="k")

            print(f"SEND      {shown(await timed(SENDS, send))}, alone")
            for mode in ("text", "semantic"):
                stop = asyncio.Event()

                async def storm(mode=mode, stop=stop):
                    async with Mq9Client(url) as asker:
                        while not stop.is_set():
                            await asker.agent_discover(**{mode: source.choice(questions)})

                storms = [asyncio.create_task(storm()) for _ in range(4)]
                taken = await timed(SENDS, send)
                stop.set()
                await asyncio.gather(*storms)
                print(f"SEND      {shown(taken)}, in a storm of {mode}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"at most {peak // 1024} MB of memory, two such matrices included")


def source_matrix():
    matrix = np.random.default_rng(5).standard_normal((AGENTS, 256), np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


if __name__ == "__main__":
    asyncio.run(main())
