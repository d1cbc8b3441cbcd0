"""A hook of a host asks with every tool call: what is nothing new gets into no log."""

import pytest

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured]


async def test_a_notice_of_nothing_new_is_in_no_log(members):
    await members.start("one")
    client = await members.inbox()
    log = (await members.asker()).jetstream()

    async def notice(occasion):
        asked = {"host": "claude-code", "session": "s", "occasion": occasion}
        notice = await client.notice("inbox", **asked)
        return notice.told, (await log.stream_info("MQ9")).state.last_seq

    _, empty = await notice("start")
    assert await notice("tool") == (False, empty)
    await client.send("inbox", "x")
    held = await notice("idle")
    assert await notice("stop") == held == (False, empty + 2)
    assert await notice("tool") == (True, empty + 3)
    for occasion in ("tool", "stop", "idle", "start", "prompt"):
        assert await notice(occasion) == (False, empty + 3)
