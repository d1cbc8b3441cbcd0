"""What two pages print for the `nats` command in the older generations runs as it is printed.

The pages lie beside the repository, and nothing of them is copied here. Only what stands for an id
that a server makes is replaced, by what `mq9 serve` answered, and a mailbox that a page takes for
granted is made.
"""

import json
import re
import shlex
from pathlib import Path

import nats
import pytest

from tests.natscli.typed import PROGRAM, Typist
from tests.seeds.printed import shell
from tests.waiting import until

PAGES = Path(__file__).parents[3] / "shared/seeds"

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(not PAGES.is_dir(), reason="the pages are not beside the repository"),
    pytest.mark.skipif(not PROGRAM.exists(), reason="make builds the nats command only with Go"),
]

# The lines of the third page, by how they begin, and why they are not typed.
NOT_TYPED = {
    "docker run": "starts a server of others, in place of which `mq9 serve` is started",
    "pip install": "installs a package of others, in place of which this one is tested",
}
PROBE = '{"probe": true}'
_SHOWN = re.compile(r'^\[#\d+\] Received on "(\S+)"$', re.MULTILINE)


def lines_of(page, scenario=None):
    """Return the lines of a page, or of one of its scenarios."""
    text = (PAGES / page).read_text("utf-8")
    if scenario is not None:
        text = re.split(r"^Scenario \d: |^Summary$", text, flags=re.MULTILINE)[scenario]
    return shell(text)


class Subscriber:
    """A subscription that somebody typed."""

    def __init__(self, printed):
        self._printed = printed

    @property
    def shown(self):
        """What it has shown, but for probes: the subject and the JSON of each message."""
        _, *parts = _SHOWN.split(self._printed.read_text("utf-8"))
        found = []
        for subject, text in zip(parts[::2], parts[1::2], strict=True):
            start = text.find("{")
            if start >= 0 and text.endswith("\n\n"):  # else it is being written
                found.append((subject, json.loads(text[start:])))
        return [one for one in found if one[1] != json.loads(PROBE)]

    @property
    def bodies(self):
        return [body for _, body in self.shown]

    @property
    def is_probed(self):
        return "probe" in self._printed.read_text("utf-8")


class Terminal:
    """Types the lines of a page at a server.

    Args:
        typist: Types them.
        url: Of the server.
        directory: Where it writes what subscriptions show.
        connection: A client of the server, for what the page leaves to others.
    """

    def __init__(self, typist, url, directory, connection):
        self._typist = typist
        self._url = url
        self._directory = directory
        self._subscribers = 0
        self._stands_for = {}
        self.connection = connection

    def replace(self, printed, answered):
        """Replace an id that the page prints by what the server answered, from now on."""
        self._stands_for[printed] = answered

    def here(self, text):
        """Return a text with the ids of this server."""
        for printed, answered in self._stands_for.items():
            text = text.replace(printed, answered)
        return text

    def body(self, line):
        """Return the JSON that a line sends."""
        return json.loads(shlex.split(self.here(line))[-1])

    async def __call__(self, line):
        """Type a request or a publish; what a request was answered."""
        words = shlex.split(self.here(line))
        printed = await self._typist.run(self._url, *words[1:])
        assert printed.code == 0, (line, printed)
        if words[1] == "publish":
            assert "Published" in printed.told
            return None
        reply = json.loads(printed.out)
        assert reply["error"] == "", (line, reply)
        return reply

    async def subscribe(self, line):
        """Type a subscription, which goes on until the test ends."""
        self._subscribers += 1
        printed = self._directory / f"subscriber-{self._subscribers}"
        with printed.open("wb") as file:
            words = shlex.split(self.here(line))[1:]
            await self._typist.start(self._url, *words, stdout=file)
        return Subscriber(printed)

    async def until_subscribed(self, subscribers, *subjects):
        """Publish probes, which are not stored, until each subscription has shown one."""

        async def have_all():
            for subject in subjects:
                await self.connection.publish(subject, PROBE.encode())
            await self.connection.flush()
            return all(one.is_probed for one in subscribers)

        await until(have_all)


@pytest.fixture
async def terminal(served, tmp_path):
    typist, connection = Typist(tmp_path), await nats.connect(served.url)
    yield Terminal(typist, served.url, tmp_path, connection)
    await connection.close()
    await typist.close()


def test_the_readme_has_no_lines_for_a_shell_but_those_that_are_not_typed():
    text = (PAGES / "readme.md").read_text("utf-8")
    lines = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()
    assert len(lines) == len(NOT_TYPED)
    assert all(line.startswith(tuple(NOT_TYPED)) for line in lines)


async def test_an_agent_of_the_first_generation_sends_and_is_sent_its_mail(terminal, client):
    create, tasks, status, send, subscribe, urgent_only, answer, query, *_ = lines_of(
        "for-agent.md"
    )
    made = await terminal(create)
    mail_id = made["mail_id"]
    assert made["inbox"] == f"$mq9.AI.INBOX.{mail_id}"
    assert (await terminal(tasks))["mail_id"] != mail_id
    state = (await terminal(status))["mail_id"]
    for one in ("1", "2"):
        await client.send(state, one)
    assert [message.text for message in await client.query(state)] == ["2"]  # the newest only

    terminal.replace("m-uuid-001", mail_id)
    terminal.replace("tok-xxx", made["token"])
    for other, line in (("m-target-001", send), ("m-sender-001", answer)):
        terminal.replace(other, await client.mailbox_create())
        await terminal(line)
        [stored] = await client.query(terminal.here(other))
        assert (stored.json(), stored.priority) == (terminal.body(line), "normal")

    reply_to = terminal.body(send)["reply_to"]
    for number, priority in enumerate(("notify", "normal", "urgent")):  # while nobody is subscribed
        subject = f"{reply_to.removesuffix('normal')}{priority}"
        await terminal.connection.publish(subject, json.dumps({"n": number}).encode())
    await terminal.connection.flush()
    await until(lambda: _is_stored(client, mail_id, 3))
    unread = await terminal(query)
    assert (unread["mail_id"], unread["unread"]) == (mail_id, 3)
    assert [json.loads(one["payload"])["n"] for one in unread["messages"]] == [2, 1, 0]

    everything, urgent = await terminal.subscribe(subscribe), await terminal.subscribe(urgent_only)
    await until(lambda: len(everything.shown) == 3 and urgent.shown)
    inbox = made["inbox"]
    shown = [(f"{inbox}.urgent", 2), (f"{inbox}.normal", 1), (f"{inbox}.notify", 0)]
    assert [(subject, body["n"]) for subject, body in everything.shown] == shown
    assert [(subject, body["n"]) for subject, body in urgent.shown] == shown[:1]
    for number, priority in enumerate(("normal", "urgent"), 3):  # what arrives
        await client.send(mail_id, {"n": number}, priority=priority)
    await until(lambda: len(everything.shown) == 5 and len(urgent.shown) == 2)
    assert sorted(body["n"] for body in everything.bodies) == [0, 1, 2, 3, 4]
    assert [body["n"] for body in urgent.bodies] == [2, 4]

    async def is_read():
        return (await terminal(query))["unread"] == 0

    await until(is_read)


async def _is_stored(client, mail_address, count):
    return (await client.mailbox_status(mail_address)).stored == count


async def test_what_is_broadcast_reaches_whoever_is_subscribed_just_then(terminal):
    *_, complete, analytics, alerts, all_of_them, compete, announce, collect = lines_of(
        "for-agent.md"
    )
    domain, alert, everything = [
        await terminal.subscribe(line) for line in (analytics, alerts, all_of_them)
    ]
    await terminal.until_subscribed(
        (domain, alert, everything), "$mq9.AI.BROADCAST.analytics.alert"
    )
    await terminal(complete)
    sent = ("$mq9.AI.BROADCAST.analytics.complete", terminal.body(complete))
    await until(lambda: domain.shown and everything.shown)
    await terminal.connection.publish("$mq9.AI.BROADCAST.payment.alert", b'{"late": true}')
    await until(lambda: alert.shown and len(everything.shown) == 2)
    late = ("$mq9.AI.BROADCAST.payment.alert", {"late": True})
    assert (domain.shown, alert.shown, everything.shown) == ([sent], [late], [sent, late])

    workers = [await terminal.subscribe(compete) for _ in range(3)]
    task = "$mq9.AI.BROADCAST.task.available"
    await terminal.until_subscribed(workers, task)
    for number in range(10):
        await terminal.connection.publish(task, json.dumps({"task": number}).encode())
    await until(lambda: len(everything.shown) == 12)
    await until(lambda: sum(len(worker.shown) for worker in workers) >= 10)
    taken = [body["task"] for worker in workers for body in worker.bodies]
    assert sorted(taken) == list(range(10))  # each by one of them

    orchestrator = await terminal.subscribe(collect)
    await terminal.until_subscribed([orchestrator], "$mq9.AI.BROADCAST.system.capability")
    await terminal(announce)
    await until(lambda: orchestrator.shown)
    assert orchestrator.bodies == [terminal.body(announce)]


async def test_a_sub_agent_sends_its_result_to_the_orchestrator(terminal):
    create, send, subscribe, look = lines_of("eight-scenarios.md", 1)
    terminal.replace("abc123ef", (await terminal(create))["mail_address"])
    assert (await terminal(send))["msg_id"] == 0
    orchestrator = await terminal.subscribe(subscribe)
    await until(lambda: orchestrator.shown)
    assert orchestrator.bodies == [terminal.body(send)]
    assert [json.loads(one["payload"]) for one in (await terminal(look))["messages"]] == [
        terminal.body(send)
    ]


async def test_workers_report_their_status_in_public_mailboxes(terminal, client):
    create, report, subscribe, subscribe_other = lines_of("eight-scenarios.md", 2)
    for _ in range(2):  # a worker that starts again does so, too
        assert (await terminal(create))["mail_address"] == "status.worker001"
    assert "status.worker001" in [one.mail_address for one in await client.mailbox_list()]
    await terminal(report)
    first = await terminal.subscribe(subscribe)
    other = await terminal.subscribe(subscribe_other)  # there is no such mailbox yet
    await until(lambda: first.shown)
    await client.mailbox_create(name="status.worker002")
    await client.send("status.worker002", {"status": "idle"})
    await terminal(report)
    await until(lambda: len(first.shown) == 2 and other.shown)
    assert first.bodies == [terminal.body(report)] * 2
    assert other.bodies == [{"status": "idle"}]


async def test_each_task_goes_to_one_worker_of_a_queue_group(terminal, client):
    create, send, send_another, subscribe = lines_of("eight-scenarios.md", 3)
    assert (await terminal(create))["mail_address"] == "task.queue"
    tasks = [terminal.body(send), terminal.body(send_another)]
    await terminal(send)
    await terminal(send_another)
    workers = [await terminal.subscribe(subscribe) for _ in range(3)]
    for number in range(8):  # while they work
        tasks.append({"task_id": f"t-1{number}", "type": "data_analysis"})
        await client.send("task.queue", tasks[-1])
    await until(lambda: sum(len(worker.shown) for worker in workers) >= 10)

    async def are_acked():
        status = await client.mailbox_status("task.queue", group_name="task.workers")
        return status.group.acked == 10

    await until(are_acked)
    taken = [body["task_id"] for worker in workers for body in worker.bodies]
    assert sorted(taken) == sorted(one["task_id"] for one in tasks)


async def test_each_handler_is_sent_every_alert(terminal):
    create, send, subscribe_a, subscribe_b = lines_of("eight-scenarios.md", 4)
    await terminal(create)
    handlers = [await terminal.subscribe(subscribe_a)]
    await terminal(send)
    handlers.append(await terminal.subscribe(subscribe_b))  # was offline
    await terminal(send)
    for handler in handlers:
        await until(lambda handler=handler: len(handler.shown) == 2)
        assert handler.bodies == [terminal.body(send)] * 2


async def test_an_edge_device_is_sent_the_most_urgent_command_first(terminal, client):
    *commands, subscribe, look = lines_of("eight-scenarios.md", 5)
    await client.mailbox_create(name="edge.device")
    for line in reversed(commands):  # the page has the most urgent one first, which shows nothing
        await terminal(line)
    device = await terminal.subscribe(subscribe)
    await until(lambda: len(device.shown) == 3)
    assert device.bodies == [terminal.body(line) for line in commands]
    listed = (await terminal(look))["messages"]
    assert [one["priority"] for one in listed] == ["normal", "urgent", "critical"]


async def test_a_person_approves_by_the_same_lines(terminal, client):
    create, ask, subscribe, approve, subscribe_agent = lines_of("eight-scenarios.md", 6)
    await terminal(create)
    await client.mailbox_create(name="agent")
    await terminal(ask)
    person, agent = [await terminal.subscribe(line) for line in (subscribe, subscribe_agent)]
    await until(lambda: person.shown)
    await terminal(approve)
    await until(lambda: agent.shown)
    assert person.bodies == [terminal.body(ask)]
    assert agent.bodies == [terminal.body(approve)]
    [asked] = await client.query("approver.zhang")
    assert asked.priority == "urgent"


async def test_a_question_waits_for_an_agent_that_is_offline(terminal, client):
    create, ask, subscribe_b, answer, subscribe_a = lines_of("eight-scenarios.md", 7)
    terminal.replace("agent.a", (await terminal(create))["mail_address"])
    await client.mailbox_create(name="agent.b")
    await terminal(ask)
    b = await terminal.subscribe(subscribe_b)
    await until(lambda: b.shown)
    assert b.bodies == [terminal.body(ask)]
    assert f"MSG.{b.bodies[0]['reply_to']}'" in terminal.here(answer)
    await terminal(answer)
    a = await terminal.subscribe(subscribe_a)
    await until(lambda: a.shown)
    assert a.bodies == [terminal.body(answer)]


async def test_a_worker_tells_what_it_can_do_and_hears_what_is_asked_for(terminal, client):
    create, tell, create_query, subscribe, ask, subscribe_answers = lines_of(
        "eight-scenarios.md", 8
    )
    await terminal(create)
    await terminal(tell)
    await terminal(create_query)
    await client.mailbox_create(name="orchestrator")
    worker = await terminal.subscribe(subscribe)
    await terminal(ask)
    await until(lambda: worker.shown)
    assert worker.bodies == [terminal.body(ask)]
    orchestrator = await terminal.subscribe(subscribe_answers)
    await client.send(worker.bodies[0]["reply_to"], terminal.body(tell))
    await until(lambda: orchestrator.shown)
    assert orchestrator.bodies == [terminal.body(tell)]
