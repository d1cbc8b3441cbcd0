"""The replies that published SDKs of the second generation read."""

import orjson
import pytest

from mq9.dialects import Dialects

NAME = {"name": "robustmq-mq9-python", "lang": "python3"}


@pytest.fixture
def ask(open_hosted):
    """Return what makes a request of one connection."""

    async def connect(dialects=Dialects.ALL, **who):
        raw = await (await open_hosted(dialects=dialects)).raw(**who)

        async def ask_one(verb, body=b""):
            return orjson.loads(await raw.ask(f"$mq9.AI.{verb}", body))

        return ask_one

    return connect


@pytest.fixture(params=["by name", "told"])
async def sdk(request, ask):
    """An SDK that is known by its name, or one at a server that takes it for one."""
    if request.param == "by name":
        return await ask(**NAME)
    return await ask(Dialects.OLDER_SDKS, lang="rust")


async def test_it_makes_lists_and_deletes(sdk):
    made = await sdk("MAILBOX.CREATE", b'{"ttl": 60}')
    box = made["mail_id"]
    assert made == {"mail_id": box, "mail_address": box}
    for priority in ("low", "normal", "urgent", "high", "critical"):
        await sdk(f"MAILBOX.MSG.{box}.{priority}", b"x")

    listed = (await sdk(f"MAILBOX.LIST.{box}", b"{}")).pop("messages")

    assert [(one["msg_id"], one["priority"]) for one in listed] == [
        ("0", "low"),
        ("1", "normal"),
        ("2", "high"),
        ("3", "high"),
        ("4", "high"),
    ]
    assert all(set(one) == {"msg_id", "priority", "ts"} for one in listed)
    assert await sdk(f"MAILBOX.DELETE.{box}.0", b"{}") == {"deleted": True}


async def test_a_public_mailbox_may_be_made_again(sdk):
    public = b'{"ttl": 60, "public": true, "name": "square", "desc": "News"}'
    for _ in range(2):
        made = await sdk("MAILBOX.CREATE", public)
        assert made == {"mail_id": "square", "mail_address": "square"}


async def test_a_refusal_has_a_number_for_its_code(sdk):
    for verb, body, code in (
        ("MAILBOX.LIST.nowhere", b"{}", 404),
        ("MAILBOX.LIST.No", b"{}", "invalid_address"),  # before it is known what is asked
        ("MAILBOX.CREATE", b'{"ttl": -1}', 400),
    ):
        refused = await sdk(verb, body)
        assert refused["error"], verb
        assert refused["code"] == code, verb


async def test_other_verbs_are_answered_as_ever(sdk):
    made = await sdk("MAILBOX.CREATE", b'{"name": "box", "renew": false}')
    assert made == {"error": "", "mail_address": "box"}
    assert (await sdk("MSG.SEND.box", b"x"))["error"] == ""


async def test_a_client_of_another_name_gets_the_replies_of_the_protocol(ask):
    client = await ask(name="another", lang="python3")
    made = await client("MAILBOX.CREATE", b'{"ttl": 60}')
    assert set(made) == {"error", "mail_address"}
    listed = await client(f"MAILBOX.LIST.{made['mail_address']}", b"{}")
    assert listed == {"error": "", "messages": []}


async def test_its_name_changes_nothing_where_only_the_current_generation_is_spoken(ask):
    client = await ask(Dialects.CURRENT, **NAME)
    made = await client("MAILBOX.CREATE", b'{"ttl": 60}')
    assert set(made) == {"error", "mail_address"}
