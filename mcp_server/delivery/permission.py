"""``mq9-mcp permission``: the command of a host's hook for permissions.

It asks the server of the host, which asks a person by mail, and prints the decision. Without a
decision it prints nothing, and the host asks in its own way.
"""

from __future__ import annotations

import os
import sys

from mcp_server.delivery import servers
from mcp_server.delivery.hook import misused, parent_process, read_input, split, working_directory
from mcp_server.delivery.shapes import ASKS, PERMISSIONS, read_permission, write_permission

TYPE_CHECKING = False  # importing it from typing takes longer than all that is done here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

USAGE = "mq9-mcp permission HOST EVENT --agent NAME --approvals NAME --wait SECONDS"
_APPEAR_S = 5.0  # a model may want its first tool before the host has started all servers
_ANSWER_S = 4.0
_GRACE_S = 10.0  # for the server to close an unanswered question


def run(arguments: Sequence[str]) -> int:
    """Run the hook that a command line names, and return the exit code."""
    words, options = split(arguments, ("agent", "approvals", "wait"))
    agent = options.get("agent") or os.environ.get("MQ9_AGENT")
    if len(words) != 2 or words[1] not in PERMISSIONS.get(words[0], ()) or not agent:
        return misused(USAGE, PERMISSIONS)
    host, event = words
    asks = PERMISSIONS[host][event] == ASKS
    person, seconds = options.get("approvals"), options.get("wait", "")
    if asks and not (person and seconds.isdecimal()):
        return misused(USAGE, PERMISSIONS)
    document = read_input()
    permission = read_permission(document)
    if permission is None:
        return 0
    parent, directory = parent_process(), working_directory(document)
    found = servers.ask(
        {"do": "ready"},
        agent,
        parent=parent,
        directory=directory,
        appear_s=_APPEAR_S if asks else 0.0,
        answer_s=_ANSWER_S,
    )
    if found is None:
        return 0
    request: dict[str, Any] = {
        "host": host,
        "session": permission.session,
        "action": permission.action,
    }
    if asks:
        request |= {
            "do": "permission",
            "to": person,
            "seconds": int(seconds),
            "directory": directory,
            "tool": permission.tool,
            "args": permission.args,
            "cut": permission.cut,
            "why": permission.why,
        }
    else:
        request["do"] = "ended"
    answer = servers.ask(
        request,
        agent,
        parent=parent,
        directory=directory,
        appear_s=0.0,
        answer_s=int(seconds) + _GRACE_S if asks else _ANSWER_S,
        pid=str(found["pid"]),  # no other server asks the same again
    )
    printed = write_permission(host, event, answer or {}) if asks else ""
    if printed:
        sys.stdout.write(printed + "\n")
        sys.stdout.flush()
    return 0
