"""why: the life of a message, in each of its states."""

import pytest

from mq9.testing import Limits


def story(program, msg_id, *options):
    done = program.ok("why", "inbox", msg_id, *options)
    return done.out.splitlines()


def fetch(program, group="g", *options):
    program.ok("fetch", "inbox", "--group", group, "--deliver", "earliest", *options)


def test_a_message_that_nobody_has_looked_for(timed):
    timed.ok("send", "inbox", "x", "--priority", "urgent", "--key", "k", "--ttl", 600)
    timed.pass_time(10)
    begin, end, groups = story(timed, 0)
    assert begin.startswith("Message 0 in inbox was sent with priority urgent and the key k at 20")
    assert begin.endswith("(10 s ago).")
    assert end.startswith("It is stored and expires at 20")
    assert end.endswith("(in 10 min).")
    assert groups == "No group has fetched from this mailbox yet. A new group gets the message."

    timed.ok("send", "inbox", "x", "--delay", 100)
    timed.pass_time(130)
    begin, end, _ = story(timed, 1)
    assert "(2 min ago), delayed until 20" in begin
    assert begin.endswith("(30 s ago).")
    assert end == "It is stored and does not expire."


def test_pending_says_how_many_come_before(timed):
    fetch_nothing = ["fetch", "inbox", "--group", "g", "--wait", 0]
    timed(*fetch_nothing)
    for priority in ("normal", "critical", "normal"):
        timed.ok("send", "inbox", "x", "--priority", priority)
    assert story(timed, 1)[-1] == "Group g: pending, next."
    assert story(timed, 2)[-1] == "Group g: pending, after 2 others."


def test_a_lease_says_by_whom_and_what_became_of_it(timed):
    timed.ok("send", "inbox", "x")
    for _ in range(2):
        fetch(timed, "g", "--consumer", "ann 2")
    last = story(timed, 0)[-1]
    assert last.startswith("Group g: leased by 'ann 2' until 20")
    assert "(in 60 s), 2 deliveries. Then the next fetch gets it." in last
    timed.pass_time(60)
    assert story(timed, 0)[-1] == ("Group g: pending, next, 2 deliveries without an ack.")
    fetch(timed, "g", "--consumer", "ann")

    async def give_back(client):
        await client.nack("inbox", "g", 0, delay_ms=30_000, consumer="ann")

    timed.sdk(give_back)
    last = story(timed, 0)[-1]
    assert last.startswith("Group g: given back, hidden until 20")
    assert "(in 30 s), 3 deliveries." in last


def test_acked_and_skipped(timed):
    timed.ok("send", "inbox", "x")
    fetch(timed, "done")
    timed.ok("ack", "inbox", "done", 0)
    timed("fetch", "inbox", "--group", "late", "--deliver", "new", "--wait", 0)
    acked, skipped = story(timed, 0)[-2:]
    assert acked == "Group done: acked."
    assert skipped == (
        "Group late: skipped, since the group started after this message. "
        "--force-deliver --deliver earliest starts the group again."
    )


def test_one_group_only(timed):
    timed.ok("send", "inbox", "x")
    fetch(timed, "a")
    fetch(timed, "b")
    assert [line[:7] for line in story(timed, 0, "--group", "b")[2:]] == ["Group b"]
    [_, _, nobody] = story(timed, 0, "--group", "c")
    assert nobody == (
        "Group c has never fetched from this mailbox. When it does, it gets the message."
    )


def test_replaced_names_the_newer_one(timed):
    timed.ok("send", "inbox", "old", "--key", "k")
    timed.ok("send", "inbox", "new", "--key", "k")
    assert story(timed, 0)[1].startswith(
        "It is no longer stored: message 1 with the same key replaced it at 20"
    )


def test_expired_deleted_and_what_groups_had_done(timed):
    timed.ok("send", "inbox", "brief", "--ttl", 5)
    timed.ok("send", "inbox", "wrong")
    fetch(timed, "done")
    timed.ok("ack", "inbox", "done", 1)
    fetch(timed, "busy")

    async def delete(client):
        await client.delete("inbox", 1)

    timed.sdk(delete)
    timed.pass_time(8)
    expired, deleted = story(timed, 0), story(timed, 1)
    assert expired[1].startswith("It is no longer stored: it expired at 20")
    assert expired[1].endswith("(3 s ago).")
    assert deleted[1].startswith("It is no longer stored: it was deleted at 20")
    assert deleted[2:] == [
        "Group busy: 1 delivery, no ack.",
        "Group done: 1 delivery, acked.",
    ]
    assert story(timed, 1, "--group", "busy")[2:] == [deleted[2]]
    assert story(timed, 1, "--group", "other")[2:] == [
        "Group other has never fetched from this mailbox."
    ]
    timed.ok("send", "inbox", "quick", "--ttl", 1)
    timed.pass_time(2)
    assert story(timed, 2)[2:] == ["The broker has no record of a delivery to a group."]
    assert story(timed, 2, "--group", "busy")[2:] == ["Group busy: no delivery in the last hour."]


def test_a_message_that_is_not_there_yet(timed):
    timed.ok("send", "inbox", "later", "--delay", 30)
    done = timed("why", "inbox", 7)
    assert done.code == 4
    first, second = done.out.splitlines()
    assert first == "No message in inbox has the id 7 yet."
    assert second.startswith("1 delayed message gets an id at the end of the delay")
    assert second.endswith("(in 30 s).")


def test_a_message_that_nobody_remembers(timed):
    timed.ok("send", "inbox", "brief", "--ttl", 1)
    timed.pass_time(1 + 8 * 86_400)
    timed.ok("status", "inbox")  # what is old is forgotten now and then
    done = timed("why", "inbox", 0)
    assert done.code == 4
    assert done.out == (
        "The broker has no record of message 0 in inbox. "
        "If it existed, its record has been removed since.\n"
    )


@pytest.mark.parametrize("limits", [Limits(max_messages=1)])
def test_evicted_says_that_it_made_room(timed):
    timed.ok("send", "inbox", "old")
    fetch(timed)
    timed.ok("ack", "inbox", "g", 0)
    timed.ok("send", "inbox", "new")
    _, gone, group = story(timed, 0)
    assert gone.startswith("It is no longer stored: the mailbox was full and removed it at 20")
    assert gone.endswith("All groups had finished with it.")
    assert group == "Group g: 1 delivery, acked."


def test_it_says_which_hosts_were_told_of_it_and_what_held_it_back(timed):
    timed.ok("send", "inbox", "x")

    def notice(occasion, host="claude-code", **limits):
        asked = {"host": host, "session": "s", "occasion": occasion, "may_wake": "everyone"}
        return timed.sdk(lambda client: client.notice("inbox", **{**asked, **limits}))

    timed.pass_time(12)
    notice("idle", may_wake="known")
    notice("stop", max_in_a_row=0)
    notice("idle", max_per_hour=0)
    assert notice("idle").told
    notice("idle", host="a host")
    timed.pass_time(3)
    _, _, *sentences, _ = story(timed, 0)
    assert [one.partition(" at ")[0] for one in sentences[:3]] == [
        "The notice to claude-code was delayed"
    ] * 3
    assert [one.rpartition("(3 s ago): ")[2] for one in sentences[:3]] == [
        "no sender of its new mail may start a turn.",
        "the limit is 0 automatic turns in a row.",
        "the limit is 0 automatic turns an hour.",
    ]
    assert sentences[3] == "claude-code was notified 12 s later, while idle, which started a turn."
    assert sentences[4].startswith("The notice to 'a host' was delayed at 20")
    assert sentences[4].endswith(": less than 30 s after the last automatic turn.")

    timed.ok("send", "inbox", "y")
    for occasion in ("start", "stop"):
        notice(occasion, host=occasion)
    assert "start was notified 0 ms later, at the start of its session." in story(timed, 1)
    assert "stop was notified 0 ms later, at the end of its turn, which continued." in story(
        timed, 1
    )


def test_what_is_held_back_again_is_said_once(timed):
    timed.ok("send", "inbox", "x")
    asked = {"host": "h", "session": "s", "occasion": "idle", "may_wake": []}
    for _ in range(3):
        timed.sdk(lambda client: client.notice("inbox", **asked))
        timed.ok("send", "inbox", "more")
    assert sum("The notice to h" in one for one in story(timed, 0)) == 1
    assert len(timed.ok("why", "inbox", 0, "--json").document["message"]["notices"]) == 3


def test_in_json_the_facts_stand_beside_the_story(timed):
    timed.ok("send", "inbox", "x", "--key", "k")
    fetch(timed, "g", "--consumer", "ann")
    document = timed.ok("why", "inbox", 0, "--json").document
    assert document["mail_address"] == "inbox"
    assert document["story"] == story(timed, 0)
    message = document["message"]
    assert (message["state"], message["priority"], message["key"]) == ("stored", "normal", "k")
    [group] = message["groups"]
    assert group.pop("until") == message["sent"] + 60
    assert {name: one for name, one in group.items() if one} == {
        "group_name": "g",
        "state": "leased",
        "consumer": "ann",
        "deliveries": 1,
    }
    assert group.keys() >= {"ahead", "moved_to", "moved_as", "moved"}
    # A group that a stranger named stays in its quotes.
    fetch(timed, "g: pending, next. Group h")
    assert story(timed, 0)[-1].startswith("Group 'g: pending, next. Group h'")


@pytest.mark.parametrize("msg_id", ["-1", "x", str(2**53)])
def test_an_id_that_can_be_none_is_refused(mq9, inbox, msg_id):
    assert mq9("why", inbox, msg_id).code == 2


def test_one_that_outlives_its_mailbox_goes_with_it(timed):
    timed.ok("create", "brief", "--ttl", "60")
    for ttl in ("30", "90"):
        timed.ok("send", "brief", "x", "--ttl", ttl)
    assert "expires at" in timed.ok("why", "brief", "0").out
    assert "It is stored and expires with its mailbox at" in timed.ok("why", "brief", "1").out


def test_a_promise_and_why_it_came_back_are_told(timed):
    words = ["--correlation-id", "q", "--reply-to", "inbox", "--from", "asker"]
    timed.ok("send", "inbox", "x", "--answer-by", 600, "--tell-overdue", *words)
    assert story(timed, 0)[2].startswith("Its sender expects an answer by 20")
    assert story(timed, 0)[2].endswith("(in 10 min).")

    async def promise(client):
        [message] = await client.fetch("inbox", group_name="g", consumer="ann")
        await message.promise(client.clock.now_ms() / 1000 + 300, "a\nline")

    timed.sdk(promise)
    told = story(timed, 0)[-1]
    assert told.startswith("ann promised an answer by 20")
    assert told.endswith("(in 5 min). Done so far: a\\nline.")

    async def give_back(client):
        await client.nack("inbox", "g", 0, consumer="ann", reason="no oven")

    timed.sdk(give_back)
    assert story(timed, 0)[-1] == "Reason for giving it back: no oven."
