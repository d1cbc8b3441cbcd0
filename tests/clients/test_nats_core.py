"""The newest official client of NATS for Python, `nats-core`, can talk to `mq9 serve`."""

import json

import pytest

from tests.clients.programs import installed, run

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, installed("nats-core")]


def test_it_connects_sends_fetches_and_acks(served, tmp_path):
    printed = run(tmp_path, "nats-core", "nats_core_program.py", served.url)
    made, sent, fetched, acked, empty, refused = map(json.loads, printed.splitlines())

    assert (made["error"], made["mail_address"]) == ("", "core")
    assert sent == {"error": "", "msg_id": 0}
    [message] = fetched["messages"]
    assert (message["payload"], message["priority"]) == ("hello", "urgent")
    assert message["headers"] == {"x-kind": "greeting"}
    assert acked == {"error": "", "acked": [0]}
    assert empty["messages"] == []
    assert refused["code"] == "mailbox_not_found"
