"""The page of the protocol is complete, and its examples are what the broker answers."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from mq9.broker.asked import BrokerSession, PublishedRequest
from mq9.broker.embedded import EmbeddedBroker
from mq9.errors import Mq9Error
from mq9.models import Deliver
from mq9.protocol import requests
from mq9.protocol.verbs import VERBS, Target
from mq9.testing.clock import ManualClock

PAGE = (Path(__file__).parents[2] / "docs/reference/protocol.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```mq9\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EXCHANGE = re.compile(r"^→ (\S+) ?(.*)\n((?:  .*\n)*)← (.*)$", re.MULTILINE)


def fits(answer, printed):
    """Tell whether an answer is what was printed, where "…" stands for anything."""
    if isinstance(printed, dict) and isinstance(answer, dict):
        return printed.keys() == answer.keys() and all(
            fits(answer[key], value) for key, value in printed.items()
        )
    if isinstance(printed, list) and isinstance(answer, list):
        return len(printed) == len(answer) and all(map(fits, answer, printed))
    if isinstance(printed, str) and printed.endswith("…"):
        return printed == "…" or str(answer).startswith(printed[:-1])
    return answer == printed


async def test_the_broker_answers_what_the_examples_show():
    # In one test, since they go on from each other, and tests are dealt out to several processes.
    broker = EmbeddedBroker.in_memory(ManualClock(1_800_000_000.0))
    try:
        for number, example in enumerate(EXAMPLES):
            found = EXCHANGE.findall(example)
            assert "".join(f"→ {a} {b}\n{c}← {d}\n" for a, b, c, d in found) == example
            for subject, payload, lines, reply in found:
                sent = tuple(tuple(line.strip().split(": ", 1)) for line in lines.splitlines())
                request = PublishedRequest(
                    subject, payload.encode(), sent, BrokerSession("somebody")
                )
                answer = json.loads(await broker.handle(request))
                assert fits(answer, json.loads(reply)), (number, subject, answer)
    finally:
        await broker.close()


def section(verb):
    """What the page says of a verb."""
    [text] = re.findall(rf"^### {re.escape(verb)}\b.*?(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    return text


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_every_verb_is_there_with_every_field(verb):
    text = section(verb.name)
    heading = text.partition("\n")[0]
    assert (".{address}" in heading) == (verb.target is not Target.BROKER)
    assert (".{msg_id}" in heading) == (verb.target is Target.MESSAGE)
    if verb.request is not requests.Send:
        for field in dataclasses.fields(verb.request):
            assert re.search(rf"\b{field.name}\b", text), field.name


def test_every_option_of_a_send_is_there_and_every_start():
    text = section("MSG.SEND")
    options = [field.metadata.get("header") for field in dataclasses.fields(requests.Send)]
    for header in filter(None, options):
        assert f"`{header}`" in text
    for deliver in Deliver:
        assert f"| `{deliver.value}`" in section("MSG.FETCH")


def test_every_code_that_travels_is_there():
    table = PAGE.partition("## Errors")[2].partition("## ")[0]
    kinds = list(Mq9Error.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    in_the_client = {
        *("bad_reply", "not_connected", "unreachable", "no_reply", "unusable_file"),
        *("reply_forbidden", "reply_mailbox_not_found", "request_failed"),
    }
    codes = {kind.code for kind in kinds if kind.__module__ == "mq9.errors"} - in_the_client
    assert codes == set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
