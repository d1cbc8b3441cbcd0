"""Formats help: commands in groups, words for values, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The groups in which `mq9 --help` lists the commands.
GROUPS: Mapping[str, Sequence[str]] = {
    "Mail": ("create", "send", "fetch", "ack", "query", "mailboxes", "grant", "drop"),
    "Agents": ("agents", "worker", "exec", "mcp"),
    "People": ("inbox", "reply", "desk"),
    "Find out": ("status", "why", "redrive", "doctor"),
    "Run": ("serve", "users", "hash-password", "demo"),
    "Cluster": ("cluster",),
}

# Names that users of other programs type, and the commands that they look for.
OTHER_NAMES = {
    "ls": "mailboxes",
    "list": "mailboxes",
    "rm": "drop",
    "delete": "drop",
    "receive": "fetch",
    "read": "fetch",
    "get": "fetch",
    "pub": "send",
    "publish": "send",
    "discover": "agents",
    "answer": "reply",
    "server": "serve",
    "check": "doctor",
}

EXAMPLES: Mapping[str, Sequence[str]] = {
    "create": ("mq9 create ada", "mq9 create --prefix reply --ttl 3600"),
    "send": ('mq9 send ada "hello"', 'mq9 send ada "fire" --priority critical --ttl 3600'),
    "fetch": ("mq9 fetch ada --group readers", "mq9 fetch ada --wait 30"),
    "ack": ("mq9 ack ada readers 0",),
    "query": ("mq9 query ada", "mq9 query ada --since 2026-11-21T07:09"),
    "mailboxes": ("mq9 mailboxes",),
    "grant": ("mq9 grant ada --reader bob", "mq9 grant ada --send-policy granted --sender bob"),
    "drop": ("mq9 drop ada",),
    "agents": ("mq9 agents", 'mq9 agents "translate Chinese"'),
    "inbox": ("mq9 inbox boss --wait 60",),
    "reply": ("mq9 reply boss 0 approve", 'mq9 reply boss 0 reject --message "Not yet."'),
    "status": ("mq9 status ada --group readers", "mq9 status ada --watch"),
    "why": ("mq9 why ada 0",),
    "redrive": ("mq9 redrive ada.dead --dry-run", "mq9 redrive ada.dead"),
    "doctor": ("mq9 doctor", "mq9 doctor --digest mail.db"),
    "hash-password": ("mq9 hash-password",),
    "users add": ("mq9 users add users.toml --agent Cursor",),
    "users list": ("mq9 users list users.toml",),
    "users remove": ("mq9 users remove users.toml --agent Cursor",),
    "demo": ("mq9 demo",),
    "serve": ("mq9 serve --data mail.db", "mq9 serve --users users.toml --host 0.0.0.0"),
    "exec": (
        "mq9 exec --agent upper -- tr a-z A-Z",
        "mq9 exec --agent reviewer --host claude --from everyone",
    ),
    "worker": ("mq9 worker letters:build --agent lawyer --checkpoint threads.db",),
    "desk": ("mq9 desk",),
    "cluster status": ("mq9 cluster status",),
    "cluster verify": ("mq9 cluster verify --timeout 60",),
    "cluster snapshot": ("mq9 cluster snapshot",),
    "cluster import": ("mq9 cluster import mail.db",),
    "cluster export": ("mq9 cluster export backup.db",),
    "cluster reset": ("mq9 cluster reset --yes",),
}

# The word for the value of an option, where its type says too little.
_WORDS = {
    "key": "KEY",
    "tag": "TAG",
    "id_": "ID",
    "sender": "AGENT",
    "reply_to": "ADDRESS",
    "to": "ADDRESS",
    "correlation_id": "ID",
    "header": "NAME:VALUE",
    "group": "GROUP",
    "consumer": "NAME",
    "batch": "TOKEN",
    "since": "TIME",
    "from_time": "TIME",
    "delay": "SECONDS",
    "ttl": "SECONDS",
    "wait": "SECONDS",
    "lease": "SECONDS",
    "msg_id": "MSG_ID",
    "from_id": "MSG_ID",
    "port": "PORT",
    "admin_port": "PORT",
    "args": "JSON",
    "digest": "FILE",
    "set_clock": "FILE",
}
_OF_TYPE = {
    "int": "NUMBER",
    "int range": "NUMBER",
    "float": "SECONDS",
    "float range": "SECONDS",
    "file": "FILE",
    "path": "FILE",
}


def _no_type(ctx: Any) -> None:  # typer passes it
    """Show no type of an argument."""


def explain(command: Any, examples: Sequence[str] = ()) -> Any:
    """Give a command words for its values, and examples; return the command."""
    for one in command.params:
        if one.param_type_name == "argument":
            one.metavar = one.metavar or one.name.upper().replace("_", "-")
            one.display_type_rich = _no_type  # the word says enough
        elif one.metavar is None and not one.is_flag and not one.type_descriptor.is_choice:
            one.metavar = _WORDS.get(one.name) or _OF_TYPE.get(one.bare_type(), "TEXT")
    if examples:
        heading = "Example" if len(examples) == 1 else "Examples"
        # A paragraph that begins so keeps its lines.
        command.epilog = "\n".join(["\b", f"{heading}:", *(f"  {line}" for line in examples)])
    return command


def write_groups(commands: Mapping[str, Any], formatter: Any) -> None:
    """Write the commands of a program by groups; those of none come last."""
    grouped = {name for names in GROUPS.values() for name in names}
    others = tuple(name for name in commands if name not in grouped)
    width = max(map(len, commands))
    for group, names in {**GROUPS, "Other": others}.items():
        rows = [
            (name.ljust(width), commands[name].get_short_help_str(formatter.width))
            for name in names
            if name in commands and not commands[name].hidden
        ]
        if rows:
            with formatter.section(group):
                formatter.write_dl(rows)
