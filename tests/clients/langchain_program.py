"""Calls the tools of `langchain-mq9` 0.3.5, and prints what they answer, as JSON.

Usage: langchain_program.py URL
"""

import json
import re
import sys

from langchain_mq9 import Mq9Toolkit

tools = {tool.name: tool for tool in Mq9Toolkit(server=sys.argv[1]).get_tools()}
said = {}


def call(tool, /, **arguments):
    said[tool] = tools[tool].invoke(arguments)
    return said[tool]


mail_id = call("create_mailbox", ttl=60)
call("create_public_mailbox", name="town.square")
call("send_message", mail_id=mail_id, content="hello", priority="high")
call("get_messages", mail_id=mail_id)
msg_id = re.search(r"msg_id=(\S+)", call("list_messages", mail_id=mail_id))[1]
call("delete_message", mail_id=mail_id, msg_id=msg_id)
said["left"] = tools["list_messages"].invoke({"mail_id": mail_id})
sys.stdout.write(json.dumps(said))
