"""An imitation of how RobustMQ answers, for what our client has to bear there."""

import asyncio
import itertools
import time

import orjson

from tests.nats_server import Responder

RANK = {"critical": 0, "urgent": 1, "normal": 2}
# Of the fields that RobustMQ knows, the types that it reads; it ignores all others.
FIELDS = {
    "name": str,
    "ttl": int,
    "desc": str,
    "group_name": str,
    "deliver": str,
    "from_time": int,
    "from_id": int,
    "force_deliver": bool,
    "mail_address": str,
    "msg_id": int,
    "key": str,
    "limit": int,
    "since": int,
    "text": str,
    "semantic": str,
    "page": int,
    "num_msgs": int,
    "max_wait_ms": int,
}


STARTS = ("latest", "earliest", "from_time", "from_id")


class Refused(Exception):
    """What the reply says in `error`."""


def refuse_other_types(body):
    for name, value in {**body, **body.get("config", {})}.items():
        if name in FIELDS and not isinstance(value, FIELDS[name]):
            raise Refused(f"invalid type for {name}: {value!r}")
    if body.get("deliver", "latest") not in STARTS:
        expected = ", ".join(f"`{start}`" for start in STARTS)
        raise Refused(f"unknown variant `{body['deliver']}`, expected one of {expected}")


class Mailbox:
    def __init__(self):
        self.ids = itertools.count()
        self.messages = []
        self.offsets = {}  # of the groups that have acked or were reset
        self.news = asyncio.Event()

    def after(self, offset):
        found = [one for one in self.messages if one["msg_id"] > offset]
        return sorted(found, key=lambda one: (RANK[one["priority"]], one["msg_id"]))


class RobustMq(Responder):
    """Answers the verbs of the reference; nobody listens to any other.

    Args:
        url: The NATS server.
    """

    subjects = (
        "$mq9.AI.MAILBOX.CREATE",
        *(f"$mq9.AI.MSG.{verb}.>" for verb in ("SEND", "FETCH", "ACK", "QUERY", "DELETE")),
        *(f"$mq9.AI.AGENT.{verb}" for verb in ("REGISTER", "UNREGISTER", "REPORT", "DISCOVER")),
    )

    def __init__(self, url):
        super().__init__(url, broker="none")
        self.mailboxes = {}
        self.agents = {}
        self.acks = []
        self.delivers = []  # the start that each FETCH has named
        self.on_ack = lambda mail_address, msg_id: None

    async def answer(self, message):
        kind, verb, *rest = message.subject.removeprefix("$mq9.AI.").split(".")
        try:
            if (kind, verb) == ("MSG", "SEND"):
                return self.reply(msg_id=self.send(".".join(rest), message))
            body = orjson.loads(message.data or b"{}")
            refuse_other_types(body)
            if kind == "MSG" and verb == "DELETE":
                body["msg_id"] = int(rest.pop())
            answer = getattr(self, f"{kind}_{verb}".lower())(body, ".".join(rest))
            return self.reply(**(await answer if asyncio.iscoroutine(answer) else answer))
        except Refused as refused:
            return orjson.dumps({"error": str(refused)})

    def reply(self, **fields):
        return orjson.dumps({"error": "", **fields})

    def mailbox(self, address):
        if address not in self.mailboxes:
            raise Refused(f"mailbox not found: {address} does not exist")
        return self.mailboxes[address]

    def send(self, address, message):
        mailbox = self.mailbox(address)
        headers = {name.lower(): value for name, value in (message.headers or {}).items()}
        msg_id = next(mailbox.ids)
        mailbox.messages.append(
            {
                "msg_id": msg_id,
                "payload": message.data.decode(errors="replace"),
                "priority": headers.get("mq9-priority", "normal"),
                "create_time": int(time.time()),
                "header": None,
                "key": headers.get("mq9-key"),
            }
        )
        mailbox.news.set()
        return msg_id

    def mailbox_create(self, body, _address):
        address = body.get("name") or f"made.{len(self.mailboxes)}"
        if address in self.mailboxes:
            raise Refused(f"mailbox {address} already exists")
        self.mailboxes[address] = Mailbox()
        return {"mail_address": address}

    async def msg_fetch(self, body, address):
        mailbox = self.mailbox(address)
        config = body.get("config", {})
        group = body.get("group_name")
        self.delivers.append(body.get("deliver"))
        last = mailbox.messages[-1]["msg_id"] if mailbox.messages else 0
        starts = {"latest": last - 1, "earliest": -1, "from_id": body.get("from_id", 0) - 1}
        start = starts[body.get("deliver", "latest")]
        if group in mailbox.offsets and body.get("force_deliver"):
            mailbox.offsets[group] = start
        offset = mailbox.offsets.get(group, start)
        deadline = time.monotonic() + config.get("max_wait_ms", 500) / 1000
        while not mailbox.after(offset):
            mailbox.news.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await mailbox.news.wait()
            except TimeoutError:
                break
        return {"messages": mailbox.after(offset)[: config.get("num_msgs", 100)]}

    def msg_ack(self, body, address):
        mailbox = self.mailbox(address)
        assert body["mail_address"] == address
        self.acks.append(body["msg_id"])
        self.on_ack(address, body["msg_id"])
        group = body["group_name"]
        mailbox.offsets[group] = max(mailbox.offsets.get(group, -1), body["msg_id"])
        return {}

    def msg_query(self, body, address):
        messages = self.mailbox(address).messages
        if "key" in body:
            messages = [one for one in messages if one["key"] == body["key"]]
        return {"messages": messages[-body.get("limit", 100) :]}

    def msg_delete(self, body, address):
        mailbox = self.mailbox(address)
        left = [one for one in mailbox.messages if one["msg_id"] != body["msg_id"]]
        if len(left) == len(mailbox.messages):
            raise Refused("message not found")
        mailbox.messages = left
        return {"deleted": True}

    def agent_register(self, body, _address):
        if not body.get("name"):
            raise Refused("name is missing")
        self.agents[body["name"]] = orjson.dumps(body).decode()
        return {}

    def agent_unregister(self, body, _address):
        if self.agents.pop(body.get("name"), None) is None:
            raise Refused(f"agent not found: {body.get('name')}")
        return {}

    def agent_report(self, body, _address):
        if body.get("name") not in self.agents:
            raise Refused(f"agent not found: {body.get('name')}")
        return {}

    def agent_discover(self, body, _address):
        wanted = body.get("semantic") or body.get("text") or ""
        found = [
            {"name": name, "agent_info": info}
            for name, info in self.agents.items()
            if wanted.lower() in info.lower()
        ]
        return {"agents": found[: body.get("limit", 20)]}
