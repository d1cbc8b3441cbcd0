"""Who may look into a mailbox without taking anything, and who sees which mailboxes there are."""

import pytest

from mq9 import Forbidden
from mq9.models import LookPolicy

from .reading import bodies


@pytest.fixture
async def operator(way):
    return await way.client()


@pytest.fixture
def way(open_way):
    return open_way(agents=["ada", "bob", "carol"])


async def test_all_agents_may_look_into_a_mailbox_of_that_policy(ada, bob):
    box = await ada.mailbox_create(name="box", look_policy="everyone")
    await ada.send(box, "Oslo: 90", key="oslo")

    assert (
        bodies(await bob.query(box)) == bodies(await bob.fetch(box, max_wait_ms=0)) == ["Oslo: 90"]
    )
    status = await bob.mailbox_status(box)
    assert (status.look_policy, status.rights) == (LookPolicy.EVERYONE, ("look", "send"))
    for attempt in (
        bob.fetch(box, group_name="g", max_wait_ms=0),
        bob.delete(box, 0),
        bob.mailbox_grant(box, ["bob"]),
    ):
        with pytest.raises(Forbidden):
            await attempt


async def test_viewers_are_named_when_a_mailbox_is_made(way, ada, bob):
    box = await ada.mailbox_create(name="box", viewers=["bob"])
    carol = await way.client(agent="carol")

    assert await bob.query(box) == []
    with pytest.raises(Forbidden):
        await carol.query(box)
    status = await ada.mailbox_status(box)
    assert (status.readers, status.viewers, status.senders) == ((), ("bob",), ())
    assert (await bob.mailbox_status(box)).viewers is None


async def test_the_policy_is_changed_by_a_grant_which_leaves_the_rest(ada, bob):
    box = await ada.mailbox_create(name="box", viewers=["carol"])

    granted = await ada.mailbox_grant(box, look_policy="everyone")
    assert (granted.look_policy, granted.viewers) == (LookPolicy.EVERYONE, ("carol",))
    await bob.query(box)

    await ada.mailbox_grant(box, look_policy="granted")
    with pytest.raises(Forbidden):
        await bob.query(box)


async def test_a_renewed_mailbox_keeps_its_policy(ada, bob):
    await ada.mailbox_create(name="box")
    await ada.mailbox_create(name="box", renew=True, look_policy="everyone", viewers=["bob"])

    with pytest.raises(Forbidden):
        await bob.query("box")


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
