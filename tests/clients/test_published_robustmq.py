"""Clients of the second generation that registries hold, run as they were published."""

import json

import pytest

from tests.clients.programs import installed, run
from tests.serving import Serving

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, installed("robustmq")]


def mails_itself(url, tmp_path, *name):
    said = json.loads(run(tmp_path, "robustmq", "robustmq_program.py", url, *name))

    assert said["public"] == ["town.square"] * 2
    assert said["listed"] == [["0", "low", True], ["1", "normal", True], ["2", "high", True]]
    assert said["heard"] == [["high", "high"], ["normal", "normal"], ["low", "low"]]
    assert said["left"] == ["1", "2"]
    [(no_message, code), (no_mailbox, same_code)] = said["refused"]
    assert "message not found" in no_message
    assert no_mailbox.startswith("mailbox not found: nowhere does not exist")
    assert code == same_code == 404


def test_robustmq_is_known_by_its_name(served, tmp_path):
    mails_itself(served.url, tmp_path)


def test_robustmq_under_another_name_is_taken_for_current(served, tmp_path):
    with pytest.raises(AssertionError, match="Mq9Error"):
        mails_itself(served.url, tmp_path, "another")


def test_robustmq_under_another_name_works_where_the_server_is_told(tmp_path):
    with Serving(tmp_path, "--memory", "--dialects", "older-sdks") as server:
        mails_itself(server.url, tmp_path, "another")


def test_the_tools_of_langchain_mq9_0_3_work(served, tmp_path):
    said = json.loads(run(tmp_path, "robustmq", "langchain_program.py", served.url))

    assert "mail_id='town.square'" in said["create_public_mailbox"]
    assert "content=hello" in said["get_messages"]
    assert "msg_id=0  priority=high" in said["list_messages"]
    assert said["delete_message"].startswith("Message '0' deleted")
    assert said["left"].startswith("No messages in mailbox")
