"""Which mailboxes there are, for those who may know: an agent's own, or all for an operator."""

import pytest

from .reading import START


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


class TestDetails:
    """What waits in each mailbox, for those who ask for it."""

    async def detailed(self, client, **options):
        page = await client.mailbox_list_own(details=True, **options)
        return {
            one.mail_address: (one.pending, one.leased, one.oldest, one.dead)
            for one in page.mailboxes
        }

    async def test_from_the_sending_to_the_ack(self, way, ada, bob, operator):
        await ada.mailbox_create(name="work")
        assert await self.detailed(ada) == {"work": (0, 0, None, False)}
        for priority in ("normal", "urgent", "normal"):
            await way.clock.advance(1)
            await bob.send("work", "x", priority=priority)
        assert await self.detailed(ada) == {"work": (3, 0, START + 1, False)}
        urgent, *_ = await ada.fetch("work", group_name="work", num_msgs=2, max_wait_ms=0)
        assert await self.detailed(operator) == {"work": (1, 2, START + 1, False)}
        await ada.nack("work", "work", 0, delay_ms=0)
        assert await self.detailed(ada) == {"work": (2, 1, START + 1, False)}
        await ada.ack(urgent)
        [oldest, _] = await ada.fetch("work", group_name="work", max_wait_ms=0)
        await ada.ack(oldest)
        assert await self.detailed(ada) == {"work": (0, 1, START + 3, False)}
        [plain] = (await ada.mailbox_list_own()).mailboxes
        assert (plain.pending, plain.leased, plain.oldest, plain.dead) == (None,) * 4

    async def test_dead_letters(self, ada, bob):
        for name in ("work", "work.dead"):
            await ada.mailbox_create(name=name)
        await bob.send("work", "x")
        [taken] = await ada.fetch("work", group_name="work", max_wait_ms=0)
        await ada.move(taken, to="work.dead")
        assert {name: dead for name, (*_, dead) in (await self.detailed(ada)).items()} == {
            "work": False,
            "work.dead": True,
        }

    async def test_texts_and_pages(self, ada):
        for name, desc in (("a.one", "Tea"), ("b.two", "cakes"), ("c.tea", "")):
            await ada.mailbox_create(name=name, desc=desc)
        for details in (False, True):
            page = await ada.mailbox_list_own(text="TEA", details=details, limit=1)
            assert ([one.mail_address for one in page.mailboxes], page.more) == (["a.one"], True)
            page = await ada.mailbox_list_own(text="TEA", details=details, after="a.one")
            assert ([one.mail_address for one in page.mailboxes], page.more) == (["c.tea"], False)
