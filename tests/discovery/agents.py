"""Agents that are registered and found, and embeddings that the tests made up."""

TOPICS = {"soup": 0, "stew": 0, "rain": 1, "sunny": 1, "tax": 2, "invoice": 2}


class Topics:
    """Embeds by the topics that a text's words are of, and counts what it embedded."""

    model = "topics"

    def __init__(self, size=3):
        self.size = size
        self.embedded = []
        self.error = None

    def embed_documents(self, texts):
        if self.error is not None:
            raise self.error
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def embed_query(self, text):
        if self.error is not None:
            raise self.error
        return self._vector(text)

    def _vector(self, text):
        vector = [0.01] * self.size
        for word in text.lower().split():
            if word in TOPICS:
                vector[TOPICS[word]] += 1.0
        return vector


async def register(client, **agents):
    for name, payload in agents.items():
        await client.agent_register({"name": name, "payload": payload})


async def found(client, question, **options):
    return [agent.match.name for agent in await client.agent_discover(semantic=question, **options)]
