"""`mq9 exec --host`: hosts answer mail without their windows, with a scripted model."""

import asyncio
import sys

import pytest

from mq9 import Mq9Client
from tests.hosts.programs import PROGRAMS, Home
from tests.hosts.scripted_model import PROMPT, ScriptedModel

pytestmark = [pytest.mark.hosts, pytest.mark.programs, pytest.mark.timeout(300)]

WORDS = {
    "claude-code": ("claude", "--model", "sonnet"),
    "codex": ("codex", "--skip-git-repo-check"),
    "copilot": ("copilot", "--no-auto-update"),
    "gemini": ("gemini", "--model", "gemini-2.5-pro", "--skip-trust"),
    "opencode": ("opencode", "--pure"),
}
HOSTS = [one for one in PROGRAMS if one.name in WORDS]


class Remembering(ScriptedModel):
    """Says how often it was asked in the conversation that it is shown."""

    def _go_on(self, dialect, prompt):
        return dialect.say(f"Asked {prompt.said.count(PROMPT)} times.")


async def answers_to(url, *bodies):
    """Send messages of one conversation; the texts of the answers so far."""
    async with Mq9Client(url) as client:
        for name in ("robot", "answers"):
            await client.mailbox_create(name=name, renew=True)
        for body in bodies:
            await client.send("robot", body, reply_to="answers")
        return [one.text for one in await client.query("answers")]


@pytest.mark.parametrize("program", HOSTS, ids=lambda one: one.name)
def test_a_host_answers_and_goes_on_with_its_session(program, tmp_path):
    program.need()
    url = f"sqlite:///{tmp_path}/mail.db"
    host, *words = WORDS[program.name]
    with Remembering() as model:
        home = Home(tmp_path, model)
        home.set_up(program)
        model.begin([])
        for number in (1, 2):  # each in a program of its own
            asyncio.run(answers_to(url, f"{PROMPT} {number}"))
            command = ["exec", "--agent", "robot", "--host", host, "--once", "--", *words]
            home.execute(program, [sys.executable, "-m", "mq9", *command], MQ9_SERVER=url)
    assert asyncio.run(answers_to(url)) == ["Asked 1 times.", "Asked 2 times."]
