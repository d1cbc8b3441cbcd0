"""How well agents are found: recall and rank on questions whose answers are known.

Prints recall@1, recall@5 and the mean reciprocal rank of discovery by words, by vectors alone, and
by meaning as the broker answers it, which is both; for plain questions with and without a word of
the answer, for keywords, and for questions not in English.
"""

import asyncio
import json
from pathlib import Path

import numpy as np

from mq9 import Mq9Client
from mq9.embeddings import default_embeddings
from mq9.engine import search

HERE = Path(__file__).parent
KINDS = {
    "plain, no word shared": lambda query: query["kind"] == "plain" and not query["shares_words"],
    "plain, words shared": lambda query: query["kind"] == "plain" and query["shares_words"],
    "keywords": lambda query: query["kind"] == "keyword",
    "not in English": lambda query: query["kind"] == "foreign",
    "all": lambda _query: True,
}


def load(name):
    return json.loads((HERE / f"{name}.json").read_text("utf-8"))


async def rank(client, mode, query):
    """The place of the first right answer, from 1; None when it is not among the first 100."""
    found = await client.agent_discover(**{mode: query["query"]}, limit=100)
    assert not found or found[0].match.mode == mode  # noqa: S101  # else it is no measurement
    boxes = [agent.match.mailbox for agent in found]
    return next((n for n, box in enumerate(boxes, 1) if box in query["answers"]), None)


def ranks_by_vectors(agents, queries):
    """The same by nothing but the vectors, compared here."""
    embeddings = default_embeddings()
    texts = [search.meaning(agent["name"], agent) for agent in agents]
    matrix = np.asarray(embeddings.embed_documents(texts))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    for query in queries:
        order = np.argsort(-(matrix @ embeddings.embed_query(query["query"])))
        boxes = [agents[number]["mailbox"] for number in order[:100]]
        yield next((n for n, box in enumerate(boxes, 1) if box in query["answers"]), None)


async def main():
    agents, queries = load("agents"), load("queries")
    async with Mq9Client("memory://discovery") as client:
        for agent in agents:
            await client.agent_register(agent)
        ranks = {
            "text": [await rank(client, "text", query) for query in queries],
            "vectors": list(ranks_by_vectors(agents, queries)),
            "semantic": [await rank(client, "semantic", query) for query in queries],
        }
    print(" " * 24 + "".join(f"{name:^24}" for name in ranks).rstrip())
    print(" " * 24 + ("   r@1    r@5    MRR    " * len(ranks)).rstrip())
    for name, belongs in KINDS.items():
        line = ""
        for places in ranks.values():
            found = [at for at, query in zip(places, queries, strict=True) if belongs(query)]
            hits = [at for at in found if at is not None]
            of = len(found)
            first, five = (sum(at <= most for at in hits) / of for most in (1, 5))
            line += f"  {first:5.2f}  {five:5.2f}  {sum(1 / at for at in hits) / of:5.2f}   "
        print(f"{name:<24}{line}".rstrip())


if __name__ == "__main__":
    asyncio.run(main())
