"""Which mailboxes there are, for those who may know: an agent's own, or all for an operator."""

import pytest


@pytest.fixture
def way(open_way):
    return open_way(agents=["ada", "bob", "carol"])


@pytest.fixture
async def operator(way):
    return await way.client()


async def test_an_agent_lists_its_own_mailboxes(ada, bob):
    for name in ("b.of.ada", "a.of.ada", "ada.below"):
        await ada.mailbox_create(name=name, desc="of ada")
    await bob.mailbox_create(name="of.bob")
    await ada.send("a.of.ada", "x")
    await ada.send("a.of.ada", "y", delay=60)

    page = await ada.mailbox_list_own()

    listed = [one.mail_address for one in page.mailboxes]
    assert (listed, page.more) == (["a.of.ada", "ada.below", "b.of.ada"], False)
    first = page.mailboxes[0]
    assert (first.creator, first.desc, first.stored, first.delayed) == ("ada", "of ada", 1, 1)
    first_page = await ada.mailbox_list_own(limit=2)
    assert first_page.more
    [last] = (await ada.mailbox_list_own(after=first_page.mailboxes[-1].mail_address)).mailboxes
    assert last.mail_address == "b.of.ada"
    assert (await ada.mailbox_list_own(desc_prefix="of a")).mailboxes == page.mailboxes
    assert not (await ada.mailbox_list_own(desc_prefix="of b")).mailboxes


async def test_an_operator_lists_all_where_agents_are_configured(ada, bob, operator):
    await ada.mailbox_create(name="of.ada")
    await bob.mailbox_create(name="of.bob")

    listed = [one.mail_address for one in (await operator.mailbox_list_own()).mailboxes]

    assert listed == ["of.ada", "of.bob"]


async def test_a_page_holds_few_long_descriptions(ada):
    desc = "\N{ENVELOPE}" * 1_024  # 3 bytes each
    for number in range(90):
        await ada.mailbox_create(name=f"box{number:02}", desc=desc, public=True)

    page = await ada.mailbox_list_own()

    assert (len(page.mailboxes), page.more) == (85, True)
    rest = await ada.mailbox_list_own(after=page.mailboxes[-1].mail_address)
    assert (len(rest.mailboxes), rest.more) == (5, False)
    assert len(await ada.mailbox_list()) == 90
