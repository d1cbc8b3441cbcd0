"""Which embeddings are taken, and the model that is installed."""

import logging

import pytest
from python_programs import run_python

from mq9 import InvalidRequest, Mq9Client
from mq9.discovery.embeddings import WordLlamaEmbeddings, checked, model_of

from .agents import Topics, found, register


@pytest.fixture
def topics():
    return Topics()


@pytest.mark.parametrize("wrong", [7, "text", object(), Topics, lambda texts: texts])
def test_what_is_no_embeddings_is_refused_at_once(wrong):
    with pytest.raises(InvalidRequest, match=r"embeddings: .* has no embed_documents and embed"):
        Mq9Client("memory://x", embeddings=wrong)


def test_embeddings_without_what_compares_them_are_refused_at_once(topics, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidRequest, match="embeddings: vectors are compared by numpy, which"):
        Mq9Client("memory://x", embeddings=topics)


async def test_a_client_may_bring_its_own(topics):
    async with Mq9Client("memory://own.embeddings", embeddings=topics) as client:
        await register(client, cook="soup")
        assert await found(client, "stew") == ["cook"]
    assert "soup" in topics.embedded


@pytest.mark.usefixtures("model")
async def test_the_model_that_is_installed_finds_by_meaning():
    async with Mq9Client("memory://by.meaning") as client:
        await register(
            client,
            gardener="Looks after flowers, shrubs and lawns",
            lawyer="Reads contracts and warns of unfair clauses",
            chef="Plans menus and cooks dinner",
        )
        for question, name in (
            ("my roses are dying", "gardener"),
            ("is this rental agreement legal?", "lawyer"),
            ("we are hungry tonight", "chef"),
        ):
            [agent] = await client.agent_discover(semantic=question, limit=1)
            assert (agent.match.name, agent.match.mode) == (name, "semantic")


def test_every_word_of_a_text_is_embedded():
    embeddings = WordLlamaEmbeddings()
    assert embeddings.embed_query("").shape == (256,)
    with_stop_words, without = embeddings.embed_documents(["who is it for", "is"])
    assert with_stop_words.tolist() != without.tolist()


@pytest.mark.parametrize("wrong", [-1, 1.5, "0.2", None, True])
def test_embeddings_with_a_floor_that_is_none_are_refused_at_once(wrong):
    embeddings = Topics()
    embeddings.min_score = wrong
    with pytest.raises(InvalidRequest, match="embeddings: min_score: "):
        Mq9Client("memory://x", embeddings=embeddings)


@pytest.mark.programs
def test_to_load_the_model_configures_no_logging():
    code = (
        "import logging; from mq9.discovery.embeddings import WordLlamaEmbeddings;"
        "WordLlamaEmbeddings().embed_query('x'); root = logging.getLogger();"
        "print(root.level, root.handlers)"
    )
    done = run_python("-c", code)
    assert done.stdout == f"{logging.WARNING} []\n", done.stderr


def test_a_toolkit_may_bring_its_own(topics):
    from langchain_mq9 import Mq9Toolkit

    with Mq9Toolkit("memory://toolkits.embeddings", embeddings=topics) as toolkit:
        tools = {tool.name: tool for tool in toolkit.get_tools()}
        tools["agent_register"].invoke({"name": "cook", "capabilities": "soup"})
        said = tools["agent_discover"].invoke({"query": "stew"})
    assert '"untrusted_name":"cook"' in said
    assert '"ranked_by":"semantic"' in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.to.be:found", "embeddings: 'nowhere.to.be:found': No module named 'nowhere'"),
        ("mq9.discovery.embeddings:nothing", "embeddings: 'mq9.discovery.embeddings:nothing': "),
        ("mq9:Mq9Client", "embeddings: Mq9Client has no embed_documents and embed_query"),
        ("json:loads", "embeddings: function has no embed_documents and embed_query"),
    ],
)
def test_a_server_refuses_embeddings_that_are_none(name, said):
    from mq9.server.settings import ServerSettings

    with pytest.raises(InvalidRequest) as refused:
        ServerSettings(embeddings=name).embedder()
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize("name", ["model", "model_name", "model_id", "deployment", "repo_id"])
def test_models_of_other_names_are_other_models(topics, name):
    class Named(Topics):
        model = None

    one, two = Named(), Named()
    assert model_of(one) == model_of(two)
    setattr(one, name, "small")
    setattr(two, name, "large")
    assert model_of(one) != model_of(two)


def test_a_server_over_there_has_embeddings_of_its_own(topics):
    with pytest.raises(InvalidRequest, match="embeddings: Topics is for a broker inside this"):
        Mq9Client("nats://127.0.0.1:4222", embeddings=topics)


def test_a_server_takes_embeddings_by_name():
    from mq9.server.settings import ServerSettings

    named = ServerSettings(embeddings="mq9.discovery.embeddings:WordLlamaEmbeddings").embedder()
    assert isinstance(named, WordLlamaEmbeddings)
    assert isinstance(ServerSettings().embedder(), WordLlamaEmbeddings)


def test_whatever_langchain_embeds_with_is_embeddings():
    from langchain_core.embeddings import DeterministicFakeEmbedding

    embeddings = DeterministicFakeEmbedding(size=8)
    assert checked("embeddings", embeddings) is embeddings
    assert model_of(embeddings).endswith("DeterministicFakeEmbedding")
