"""The registry: agents register, report, are found, and go."""

import pytest

from mq9 import (
    AgentNotFound,
    Forbidden,
    InvalidRequest,
    LimitReached,
    MailboxExists,
    MailboxNotFound,
    Mq9Error,
)
from mq9.engine.commands import Limits

from .reading import START, bodies

CARD = {
    "name": "Weather Bot",
    "description": "Forecasts rain and sunshine",
    "url": "https://example.org/a2a",
    "version": "1.0.0",
    "capabilities": {"streaming": True},
    "skills": [
        {
            "id": "forecast",
            "name": "Forecast",
            "description": "Tomorrow's temperature anywhere",
            "tags": ["meteorology"],
            "examples": ["Will Oslo freeze tonight?"],
        }
    ],
    "mailbox": "weather.in",
}


async def _names(client, **options):
    return [agent["name"] for agent in await client.agent_discover(**options)]


async def test_a_missing_mailbox_is_the_slug_of_the_name(way, client):
    slugs = {"Claude-Desktop": "claude.desktop", "x": "x", "GPT 4 / über!": "gpt.4.ber"}
    slugs |= {"--a--": "a", "b" * 128: "b" * 128}
    for name, mailbox in slugs.items():
        registered = await way.ask("AGENT.REGISTER", {"name": name})
        assert registered == {"error": "", "mailbox": mailbox}

    found = await client.agent_discover()
    assert {agent["name"]: agent["mailbox"] for agent in found} == slugs


async def test_a_name_without_a_slug_needs_a_mailbox(client):
    with pytest.raises(InvalidRequest, match="name: '北京'"):
        await client.agent_register({"name": "北京"})
    await client.agent_register({"name": "北京", "mailbox": "beijing"})
    assert await _names(client) == ["北京"]


async def test_a_mailbox_alone_is_enough(client):
    await client.agent_register({"mailbox": "just.this", "payload": "an oracle"})

    [agent] = await client.agent_discover(text="oracle")
    assert agent == {"mailbox": "just.this", "payload": "an oracle"}
    assert agent.match.name == "just.this"


async def test_without_a_question_all_are_listed_by_name(client):
    for name in ("c", "a", "B", "b"):
        await client.agent_register({"name": name})

    assert await _names(client) == ["B", "a", "b", "c"]


async def test_the_better_match_stands_first(client):
    await client.agent_register({"name": "Generalist", "payload": "soup, chess, rain, and more"})
    await client.agent_register({"name": "Soup Master", "description": "soup of every kind"})

    found = await client.agent_discover(text="soup")

    assert [agent["name"] for agent in found] == ["Soup Master", "Generalist"]
    assert found[0].match.score > found[1].match.score


async def test_chinese_and_japanese_are_found(client):
    said = {"天气预报": "提供北京的天气和气温", "ほんやく": "日本語と英語の翻訳をします"}
    said |= {"料理人": "スープの作り方"}
    for number, (name, text) in enumerate(said.items()):
        await client.agent_register({"name": name, "mailbox": f"m{number}", "description": text})

    for name, questions in {
        "天气预报": ("天气", "天气预报", "北京天气怎么样"),
        "ほんやく": ("翻訳", "日本語の文章を翻訳"),
        "料理人": ("スープ",),
    }.items():
        for text in questions:
            assert (await _names(client, text=text))[0] == name


async def test_characters_of_a_query_syntax_are_only_characters(client):
    await client.agent_register(CARD)
    await client.agent_register({"name": "Cook"})
    rain = ["rain OR", "NOT rain", "rain -sun", "rain; DROP TABLE agents", "rain\0", "%rain_"]
    rain += ['"rain', "rain*", "NEAR(rain", "name:rain", "(rain", "rain^2", "rain'", "{rain}"]
    for text in ('"', "+rain", *rain):
        assert await _names(client, text=text) == ([] if text == '"' else ["Weather Bot"])
        assert len(await _names(client, semantic=text, min_score=0)) == 2


async def test_what_is_written_otherwise_is_found(client):
    await client.agent_register({"name": "other", "payload": "something else, 別のもの"})
    for question, said in (
        ("税", "税務相談"),
        ("談", "税務相談"),
        ("相談", "税務相談"),
        ("訳", "日本語の翻訳"),
        ("ホンヤク", "ﾎﾝﾔｸ"),  # full and half width
        ("ABC42", "\uff21\uff22\uff23\uff14\uff12"),
        ("U\u0308bersetzer", "\u00dcbersetzer"),  # decomposed and composed
        ("\u00dcbersetzer", "U\u0308bersetzer"),
        ("ubersetzer", "\u00dcbersetzer"),
        ("\u0130stanbul", "\u0130stanbul"),
        ("istanbul", "\u0130stanbul"),
        ("\u0130STANBUL", "istanbul"),
        ("transl", "Translation of contracts"),
        ("translatio", "Translation of contracts"),
        ("accountan", "Books for accountants"),
    ):
        await client.agent_register({"name": "one", "payload": said})
        assert await _names(client, text=question) == ["one"], question


async def test_what_a_payload_calls_like_a_field_of_a_card_is_its_own_affair(client):
    await client.agent_register({"name": "one", "payload": {"security": "audits firewalls"}})
    assert await _names(client, text="firewalls") == ["one"]


async def test_who_is_called_exactly_so_comes_first(client):
    for other in ("Cook Cook", "Cook 7 of 9 soup bread", "the the", "雪 雪国", "x"):
        await client.agent_register(
            {"name": other, "mailbox": "kitchen", "payload": "Cook, 7 of 9: soup or bread; 雪 the"}
        )
    for name in ("Cook", "!!!", "the", "Cook 7 of 9", "雪", "soup OR bread"):
        await client.agent_register({"name": name, "mailbox": "hall", "payload": "much else " * 99})

        found = await client.agent_discover(text=name)

        assert found[0].match.name == name
        assert [agent.match.name for agent in found].count(name) == 1
        scores = [agent.match.score for agent in found]
        assert scores == sorted(scores, reverse=True)
        await client.agent_unregister(name=name)


async def test_a_question_without_any_word_finds_nothing_and_an_empty_one_is_none(client):
    await client.agent_register(CARD)

    for text in ("?!", "---", "   "):
        found = await client.agent_discover(text=text)
        assert (found, found.mode, found.has_more) == ([], "text", False)
    assert await _names(client, text="", semantic="") == ["Weather Bot"]


@pytest.mark.usefixtures("model")
async def test_semantic_wins_over_text_and_the_mode_says_what_ranked(client):
    await client.agent_register(CARD)
    await client.agent_register({"name": "Cook", "payload": "soup"})

    [agent] = await client.agent_discover(semantic="rain", text="soup", limit=1)

    assert agent["name"] == "Weather Bot"
    assert agent.match.mode == "semantic"


TRADES = {
    "gardener": "Looks after flowers, shrubs and lawns",
    "lawyer": "Reads contracts and warns of unfair clauses",
    "chef": "Plans menus and cooks dinner",
}


@pytest.fixture
async def trades(client):
    """A gardener, a lawyer and a chef."""
    for name, payload in TRADES.items():
        await client.agent_register({"name": name, "payload": payload})


@pytest.mark.usefixtures("model")
async def test_nobody_is_found_by_meaning_for_what_nobody_does(client, trades):
    found = await client.agent_discover(semantic="simulate a quantum circuit with twelve qubits")

    assert (found, found.mode, found.has_more) == ([], "semantic", False)


async def test_a_weak_match_is_found_when_no_score_is_too_low_and_says_so(client, trades):
    found = await client.agent_discover(semantic="my roses are dying", min_score=0)

    assert [agent.match.weak for agent in found] == [False, True, True]
    assert found[0]["name"] == "gardener"
    assert await _names(client, semantic="my roses are dying") == ["gardener"]
    assert await _names(client, semantic="my roses are dying", min_score=1) == []


async def test_pages_of_what_is_not_weak_end_with_it(way, client):
    for number in range(5):
        await client.agent_register({"name": f"gardener {number}", "payload": "grows roses"})
        await client.agent_register({"name": f"lawyer {number}", "payload": "reads contracts"})

    async def page(number, **options):
        body = {"semantic": "roses", "limit": 3, "page": number, **options}
        reply = await way.ask("AGENT.DISCOVER", body)
        return len(reply["agents"]), reply["has_more"]

    assert [await page(number) for number in (1, 2, 3)] == [(3, True), (2, False), (0, False)]
    assert await page(4, min_score=0) == (1, False)


async def test_no_match_by_words_is_weak_unless_a_score_is_asked_for(client, trades):
    await client.agent_register({"name": "cooks", "payload": "dinner"})

    found = await client.agent_discover(text="cooks dinner unheard")
    assert {agent["name"]: agent.match.weak for agent in found} == {"cooks": False, "chef": False}
    assert await _names(client, text="cooks dinner", min_score=1) == ["cooks", "chef"]
    assert await _names(client, text="cooks", min_score=2) == ["cooks"]
    assert len(await _names(client, min_score=2)) == 4, "everybody is listed without scores"


async def test_limit_and_page_slice_one_ranked_list(way, client):
    for number in range(7):
        await client.agent_register({"name": f"agent {number}", "payload": "soup " * (number + 1)})
    whole = await _names(client, text="soup")
    assert len(whole) == 7

    pages = [await _names(client, text="soup", limit=3, page=page) for page in (1, 2, 3, 4)]

    assert pages == [whole[:3], whole[3:6], whole[6:], []]
    for page, more in ((1, True), (2, True), (3, False)):
        body = {"text": "soup", "limit": 3, "page": page}
        assert (await way.ask("AGENT.DISCOVER", body))["has_more"] is more
    assert (await way.ask("AGENT.DISCOVER", {"limit": 7}))["has_more"] is False


async def test_twenty_are_listed_unless_told_otherwise(client):
    for number in range(25):
        await client.agent_register({"name": f"a{number:02}"})

    assert len(await client.agent_discover()) == 20
    assert len(await client.agent_discover(limit=1_000)) == 25


async def test_a_report_keeps_the_status_and_the_time_last_seen(way, client):
    await client.agent_register(CARD)
    await way.clock.advance(42)

    await client.agent_report({"mailbox": "weather.in", "load": 0.5, "note": {"忙": [1, None]}})

    [agent] = await client.agent_discover()
    assert agent == CARD
    assert agent.match.status == {"load": 0.5, "note": {"忙": [1, None]}}
    assert agent.match.last_seen == START + 42
    await client.agent_report({"name": "Weather Bot", "status": "idle"})
    assert (await client.agent_discover())[0].match.status == {"status": "idle"}


async def test_unregistering_by_mailbox_or_name(client):
    for by in ({"mailbox": "weather.in"}, {"name": "Weather Bot"}, {"mailbox": "Weather Bot"}):
        await client.agent_register(CARD)
        await client.agent_unregister(**by)
        assert await client.agent_discover() == []
        assert await client.agent_discover(text="weather") == []


async def test_the_mailbox_is_looked_up_before_the_name(way, client):
    await client.agent_register({"name": "box.of.b", "mailbox": "box.of.a"})
    await client.agent_register({"name": "B", "mailbox": "box.of.b"})

    await client.agent_unregister("box.of.b")

    assert await _names(client) == ["box.of.b"]


async def test_an_unknown_agent_is_not_found(client):
    await client.agent_register(CARD)

    for call in (
        client.agent_unregister("nobody"),
        client.agent_unregister(name="Nobody"),
        client.agent_report({"name": "Nobody"}),
        client.agent_report({"mailbox": "nobody"}),
    ):
        with pytest.raises(AgentNotFound, match="agent not found"):
            await call
    assert await _names(client) == ["Weather Bot"]


async def test_a_ttl_ends_a_registration(way, client):
    await client.agent_register({"name": "A"}, ttl=60)
    await way.clock.advance(59.999)
    assert await _names(client) == ["A"]
    await way.clock.advance(0.001)

    assert await _names(client) == []
    assert await _names(client, text="A") == []
    with pytest.raises(AgentNotFound):
        await client.agent_report({"name": "A"})
    await client.agent_register({"name": "A"})
    await way.clock.advance(1_000_000)
    assert await _names(client) == ["A"]


async def test_registering_makes_the_mailbox(client):
    await client.agent_register(CARD)

    assert await client.send("weather.in", "x") == 0
    status = await client.mailbox_status("weather.in")
    assert (status.ttl, status.public, status.desc) == (0, False, "")
    with pytest.raises(MailboxExists):
        await client.mailbox_create(name="weather.in")
    await client.mailbox_drop("weather.in")
    assert await _names(client) == []


async def test_registering_leaves_a_mailbox_that_is_there_as_it_is(way, client):
    await client.mailbox_create(name="weather.in", ttl=60, desc="mine")
    await client.send("weather.in", "x")
    await way.clock.advance(30)
    await client.agent_register(CARD)

    status = await client.mailbox_status("weather.in")
    assert (status.stored, status.desc, status.expires_at) == (1, "mine", START + 60)
    await way.clock.advance(30)
    assert await _names(client) == []
    with pytest.raises(AgentNotFound):
        await client.agent_unregister("weather.in")
    await client.agent_register(CARD)
    assert (await client.mailbox_status("weather.in")).stored == 0


async def test_the_registering_agent_is_the_creator_of_the_mailbox(ada, bob):
    await ada.agent_register({"name": "ada", "mailbox": "study"})
    await bob.send("study", "x")

    assert bodies(await ada.fetch("study", group_name="g")) == ["x"]
    with pytest.raises(Forbidden):
        await bob.fetch("study", group_name="g")


async def test_a_refused_registration_makes_no_mailbox(way, ada, bob):
    await ada.agent_register({"name": "ada"})
    before = way.state()

    with pytest.raises(Forbidden):
        await bob.agent_register({"name": "ada", "mailbox": "elsewhere"})
    assert (await way.ask("AGENT.REGISTER", {"name": "x", "ttl": -1}))["code"] == "invalid_request"
    large = {"name": "x", "payload": "x" * 70_000}
    assert (await way.ask("AGENT.REGISTER", large))["code"] == "payload_too_large"
    assert way.state() == before


async def test_a_registration_counts_as_a_mailbox_and_as_an_agent(open_way):
    for limits in (Limits(max_mailboxes=1), Limits(max_agents=1)):
        client = await open_way(limits).client()
        await client.agent_register({"name": "one"})
        with pytest.raises(LimitReached):
            await client.agent_register({"name": "two"})
        with pytest.raises(MailboxNotFound):
            await client.mailbox_status("two")


async def test_the_mq9_form_of_a_mailbox_means_the_address(client, inbox):
    await client.agent_register({"name": "A", "mailbox": f"mq9://broker/{inbox}"})

    [agent] = await client.agent_discover()
    assert agent["mailbox"] == f"mq9://broker/{inbox}"
    assert agent.match.mailbox == inbox
    await client.agent_unregister(f"mq9://elsewhere/{inbox}")
    assert await client.agent_discover() == []


async def test_the_registration_is_kept_to_the_letter(way, client):
    raw = b'{ "name":"A" , "n": 1.50, "u": "\\u96ea", "payload": {"b":1,"a":2} }'
    assert (await way.ask("AGENT.REGISTER", raw))["error"] == ""

    [agent] = await client.agent_discover(text="雪")
    assert list(agent["payload"]) == ["b", "a"]
    assert agent["u"] == "雪"


async def _seen(client, name):
    [last_seen] = [
        agent.match.last_seen
        for agent in await client.agent_discover(limit=1_000)
        if agent.match.name == name
    ]
    return last_seen - START


SIGNS = {
    "REGISTER": lambda way, client: client.agent_register({"name": "Bot", "ttl": 60}),
    "REPORT": lambda way, client: client.agent_report({"name": "Bot"}),
    "SEND": lambda way, client: client.send("bot", "x", sender="Bot"),
    "FETCH": lambda way, client: client.fetch("bot", group_name="h", consumer="Bot/7"),
    "FETCH without a group": lambda way, client: client.fetch("bot", consumer="Bot"),
    "ACK": lambda way, client: client.ack("bot", "g", 0, consumer="Bot"),
    "NACK": lambda way, client: client.nack("bot", "g", 1, consumer="Bot"),
    "EXTEND": lambda way, client: client.extend("bot", "g", [1], consumer="Bot"),
}
REFUSED = {
    "SEND": lambda way, client: client.send("nowhere", "x", sender="Bot"),
    "FETCH": lambda way, client: client.fetch("nowhere", group_name="h", consumer="Bot/7"),
    "FETCH without a group": lambda way, client: client.fetch("nowhere", consumer="Bot"),
    "ACK": lambda way, client: client.ack("bot", "g", 9, consumer="Bot"),
    "NACK": lambda way, client: client.nack("bot", "g", 9, consumer="Bot"),
    "EXTEND": lambda way, client: client.extend("nowhere", "g", [1], consumer="Bot"),
    "MOVE": lambda way, client: client.move("bot", "g", 1, to="nowhere", consumer="Bot"),
}


@pytest.fixture
async def bot(client):
    """An agent that holds two messages, and is gone a minute after its last sign of life."""
    await client.agent_register({"name": "Bot"}, ttl=60)
    for _ in range(2):
        await client.send("bot", "x")
    await client.fetch("bot", group_name="g", consumer="Bot")
    return "Bot"


@pytest.mark.parametrize("verb", SIGNS)
async def test_a_sign_of_life_is_seen_and_restarts_the_ttl(way, client, bot, verb):
    await way.clock.advance(59.999)
    await SIGNS[verb](way, client)

    [agent] = await client.agent_discover()
    assert agent.match.last_seen == START + 59
    await way.clock.advance(59.999)
    assert await _names(client) == [bot]
    await way.clock.advance(0.001)
    assert await _names(client) == []


async def test_a_refused_request_is_no_sign_of_life(way, client, bot):
    await way.clock.advance(30)
    for request in REFUSED.values():
        with pytest.raises(Mq9Error):
            await request(way, client)
    assert await _seen(client, bot) == 0

    await way.clock.advance(30)
    assert await _names(client) == []


async def test_nothing_but_registering_brings_back_who_is_gone(way, client, bot):
    await way.clock.advance(60)
    for verb, sign in SIGNS.items():
        if verb not in {"REGISTER", "REPORT"}:
            await sign(way, client)
    with pytest.raises(AgentNotFound):
        await SIGNS["REPORT"](way, client)
    assert await _names(client) == []

    await SIGNS["REGISTER"](way, client)
    assert await _names(client) == [bot]


async def test_an_agent_that_lives_is_not_gone_however_short_its_ttl(way, client, inbox):
    await client.agent_register({"name": "Bot", "mailbox": inbox}, ttl=2)
    for pause in (0.5, 0.9, 1.999, 0.001, 1.999, 0.3, 0.3, 0.3, 1.999):
        await way.clock.advance(pause)
        await client.send(inbox, "x", sender="Bot")

    assert await _names(client) == ["Bot"]
    await way.clock.advance(2)
    assert await _names(client) == []


@pytest.mark.parametrize("group_name", ["g", None])
async def test_an_agent_that_waits_for_mail_lives(way, client, inbox, group_name):
    await client.agent_register({"name": "Bot", "mailbox": inbox}, ttl=2)
    waiting = await way.begin(
        client.fetch(inbox, group_name=group_name, consumer="Bot", max_wait_ms=60_000)
    )
    for _ in range(10):
        await way.clock.advance(1)
    assert await _names(client) == ["Bot"]
    waiting.cancel()
    await way.clock.advance(2)
    assert await _names(client) == []


async def test_an_authenticated_agent_is_the_one_that_is_seen(way, ada):
    await ada.agent_register({"name": "ada"})
    await ada.agent_register({"name": "Bot"})
    await way.clock.advance(10)
    await ada.fetch("ada", group_name="g", consumer="Bot/7", max_wait_ms=0)

    assert (await _seen(ada, "ada"), await _seen(ada, "Bot")) == (10, 0)


async def test_without_a_ttl_it_is_noted_once_a_second(way, client, inbox):
    await client.agent_register({"name": "Bot", "mailbox": inbox})
    await way.clock.advance(10)
    for _ in range(3):
        await client.send(inbox, "x", sender="Bot")
    await way.clock.advance(10)
    await client.send(inbox, "x", sender="Bot")

    assert await _seen(client, "Bot") == 20


async def test_the_backlog_is_what_waits_for_the_mailboxes_own_group(client, inbox):
    await client.agent_register({"name": "worker", "mailbox": inbox})
    await client.agent_register({"name": "nowhere"})

    async def backlog():
        found = {one.match.name: one.match.backlog for one in await client.agent_discover()}
        assert found["nowhere"] == 0
        return found["worker"]

    assert await backlog() == 0
    for _ in range(3):
        await client.send(inbox, "x")
    await client.send(inbox, "later", delay=10)
    assert await backlog() == 3
    fetched = await client.fetch(inbox, group_name=inbox, deliver="earliest", num_msgs=2)
    assert await backlog() == 3
    await client.ack(inbox, inbox, fetched[-1].msg_id)
    assert await backlog() == 1
