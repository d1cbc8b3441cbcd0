"""Agents: what they can do, what waits for them and what they work on; who writes to whom."""

from mq9.desk.picture import picture_of
from mq9.models import Link


async def test_with_nothing_there_it_says_what_would_appear_and_how(desk):
    page = await desk.ok("agents")
    assert "Agents appear here when they register" in page.seen
    assert "mq9 worker" in page.seen
    assert "No registered agent fits." in (await desk.ok("agents", q="x")).seen


async def test_an_agent_says_what_it_can_do_and_what_waits_for_it(broker, client, desk):
    await client.agent_register(
        {"name": "reviewer", "description": "Reviews Python", "skills": [{"name": "lint"}, 7, {}]}
    )
    await client.agent_register({"name": "cook", "payload": "Makes soup", "skills": "none"})
    await client.mailbox_create(name="reviewer.dead")
    for body in ("dies", "works", "waits"):
        await client.send("reviewer", body, sender="cook")
        await broker.clock.advance(60)
    dies, _ = await client.fetch(
        "reviewer", group_name="reviewer", consumer="reviewer/1", num_msgs=2, lease_ms=600_000
    )
    await client.move(dies, to="reviewer.dead", reason="x")
    await broker.clock.advance(120)
    page = await desk.ok("agents", q="python")
    assert "Ranked by words." in page.seen
    for seen in (
        "Reviews Python",
        "Skills: lint",
        "Last sign of life 2 min ago",
        "Waiting 1",
        "Dead letters 1",
        "message 1 of reviewer for 2 min: works",
    ):
        assert seen in page.seen
    assert "cook" not in page.seen.partition("Who writes to whom")[0]
    assert "soup" in (await desk.ok("agents")).seen
    [stop] = [one for one in page.links if one and "what=stop" in one]
    assert "item=reviewer%2F1%2Freviewer" in stop


async def test_who_writes_to_whom_is_a_picture_with_a_table_beside_it(client, desk):
    await client.agent_register({"name": "Cook", "mailbox": "kitchen"})
    await client.mailbox_create(name="ada")
    for _ in range(2):
        await client.send("kitchen", "soup?", sender="ada")
    await client.send("ada", "yes", sender="Cook")
    page = await desk.ok("agents")
    tags = [tag for tag, _ in page.tags]
    assert tags.count("circle") == 2
    assert "ada to Cook: 2" in page.seen
    assert "Cook to ada: 1" in page.seen
    [svg] = [values for tag, values in page.tags if tag == "svg"]
    assert (svg["role"], svg["aria-labelledby"]) == ("img", "picture-title picture-about")
    assert "ada stranger, not checked" in page.seen
    assert tags.count("caption") == 1
    assert not {"script", "style"} & set(tags)


def test_a_picture_has_the_busiest_and_says_how_many_more_there_are():
    links = [
        Link(sender=f"agent {number}", mail_address="hub", count=number, last=0.0)
        for number in range(1, 41)
    ]
    links += [
        Link(sender=None, mail_address="hub", count=9, last=0.0),
        Link(sender="loop", verified=True, mail_address="loop", count=50, last=0.0),
    ]
    picture = picture_of(links, {})
    names = {one.name for one in picture.circles}
    assert len(names) == 24
    assert {"hub", "loop", "agent 40"} <= names
    assert "agent 1" not in names
    assert picture.left_out == 18
    assert all(0 < one.x < picture.width and 0 < one.y < picture.height for one in picture.circles)
    assert {one.name for one in picture.circles if one.is_known} == {"hub", "loop"}
    assert picture_of([], {}) is None


async def test_pages_of_many_agents(client, desk):
    for number in range(55):
        await client.agent_register({"name": f"agent {number:02}"})
    page = await desk.ok("agents")
    assert "agent 49" in page.seen
    assert "agent 50" not in page.seen
    assert "/desk/agents?page=2" in page.links
    assert "agent 54" in (await desk.ok("agents", page=2)).seen
    assert (await desk.get("agents", page="two")).status == 400
