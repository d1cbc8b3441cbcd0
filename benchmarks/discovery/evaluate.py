"""How well agents are found: recall and rank on questions whose answers are known.

Prints recall@1, recall@5 and the mean reciprocal rank of discovery by words, by vectors alone, by
meaning as the broker answers it with `min_score=0`, which is both, and by meaning as it answers by
default, which leaves out weak matches. Then what each floor does, among all agents and among ten
that are drawn: recall, and how often nobody is found for what nobody does.

An agent's questions are all in one part: `tune`, with which the ranking and the floor were chosen,
or `held_out` (the default).

    python benchmarks/discovery/evaluate.py [tune|held_out]
"""

import asyncio
import json
import random
import sys
from pathlib import Path

import numpy as np

from mq9 import Mq9Client
from mq9.discovery import documents
from mq9.discovery.embeddings import default_embeddings
from mq9.discovery.semantic_index import mean, unit

HERE = Path(__file__).parent
PART = sys.argv[1] if len(sys.argv) > 1 else "held_out"
FLOORS = [0, *(n / 100 for n in range(8, 28, 2))]
FEW, DRAWS = 10, 100
KINDS = {
    "plain, no word shared": lambda query: query["kind"] == "plain" and not query["shares_words"],
    "plain, words shared": lambda query: query["kind"] == "plain" and query["shares_words"],
    "keywords": lambda query: query["kind"] == "keyword",
    "not in English": lambda query: query["kind"] == "foreign",
    "all": lambda _query: True,
}


def load(name):
    return json.loads((HERE / f"{name}.json").read_text("utf-8"))


def asked(queries):
    """The questions of the part: those that somebody answers, and those that nobody does."""
    parts = {}
    for query in queries:
        for box in query["answers"]:
            assert parts.setdefault(box, query["part"]) == query["part"], box  # noqa: S101
    chosen = [query for query in queries if query["part"] == PART]
    return [one for one in chosen if one["answers"]], [one for one in chosen if not one["answers"]]


async def find(client, query, mode, min_score):
    """The mailbox and score of all that are found, best first."""
    found = await client.agent_discover(**{mode: query["query"]}, min_score=min_score, limit=1_000)
    assert found.mode == mode  # noqa: S101  # else it is no measurement
    return [(agent.match.mailbox, agent.match.score) for agent in found]


def find_by_vectors(agents, queries):
    """The same by nothing but the vectors, compared here."""
    embeddings = default_embeddings()
    said = [documents.parts(agent["name"], agent) for agent in agents]
    matrix = np.asarray([mean(unit(embeddings.embed_documents(list(parts)))) for parts in said])
    for query in queries:
        scores = matrix @ unit(embeddings.embed_documents([query["query"]]))[0]
        order = np.argsort(-scores)
        yield [(agents[number]["mailbox"], scores[number]) for number in order]


def place(found, query):
    """The place of the first right answer, from 1; None when it is not there."""
    return next((n for n, (box, _) in enumerate(found, 1) if box in query["answers"]), None)


def recall(places, most):
    return sum(at is not None and at <= most for at in places) / len(places)


def print_table(columns, queries):
    print(" " * 24 + "".join(f"{name:^24}" for name in columns).rstrip())
    print(" " * 24 + ("   r@1    r@5    MRR    " * len(columns)).rstrip())
    for name, belongs in KINDS.items():
        line = ""
        for answers in columns.values():
            both = zip(answers, queries, strict=True)
            places = [place(found, query) for found, query in both if belongs(query)]
            rank = sum(1 / at for at in places if at is not None) / len(places)
            line += f"  {recall(places, 1):5.2f}  {recall(places, 5):5.2f}  {rank:5.2f}   "
        print(f"{name:<24}{line}".rstrip())


def drawn(source, found, query):
    """What is found where only the answers and a few others are registered."""
    others = [box for box, _ in found if box not in query["answers"]]
    kept = {*query["answers"], *source.sample(others, FEW - len(query["answers"]))}
    return [(box, score) for box, score in found if box in kept]


def print_floors(answers, of_nobody):
    """Print the figures for pairs of a question and what is found for it."""
    source = random.Random(1)  # noqa: S311  # repeatable
    few = [
        [(query, drawn(source, found, query)) for query, found in pairs for _ in range(DRAWS)]
        for pairs in (answers, of_nobody)
    ]
    print(f"{'':5}{'all agents':^24}{f'{FEW} of them':^24}".rstrip())
    print("floor" + "   r@1    r@5   nobody " * 2)
    for floor in FLOORS:
        line = f"{floor:5.2f}"
        for some, none in ((answers, of_nobody), few):
            places = [place(above(found, floor), query) for query, found in some]
            empty = sum(not above(found, floor) for _, found in none) / len(none)
            line += f"  {recall(places, 1):5.2f}  {recall(places, 5):5.2f}  {empty:5.2f}   "
        print(line.rstrip())


def above(found, floor):
    return [(box, score) for box, score in found if score >= floor] if floor else found


async def main():
    agents = load("agents")
    queries, nobody = asked(load("queries"))
    async with Mq9Client("memory://discovery") as client:
        for agent in agents:
            await client.agent_register(agent)
        columns = {
            "text": [await find(client, query, "text", 0) for query in queries],
            "vectors": list(find_by_vectors(agents, queries)),
            "semantic": [await find(client, query, "semantic", 0) for query in queries],
            "without the weak": [await find(client, query, "semantic", None) for query in queries],
        }
        of_nobody = [await find(client, query, "semantic", 0) for query in nobody]
    print(f"{len(agents)} agents, {len(queries)} questions of the part {PART}")
    print_table(columns, queries)
    print(f"\nthe same by floor, and {len(nobody)} questions about what no agent does")
    print_floors(
        list(zip(queries, columns["semantic"], strict=True)),
        list(zip(nobody, of_nobody, strict=True)),
    )


if __name__ == "__main__":
    asyncio.run(main())
