"""On a server with users, each sees and decides what is theirs, and a reader changes nothing."""

import asyncio
import re

import pytest
from browser import needs_browser
from serving import Serving
from users_file import write_users

from mq9 import Mq9Client
from mq9.questions import TAG, Action, MailedQuestion
from tests.desk_stories.looking import log_in, press, read, sees

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]

SECRET = "The merger is off."
USERS = {
    "boss": 'agent = "boss"',
    "chief": 'agent = "chief"',
    "lawyer": 'agent = "lawyer"',
    "auditor": 'role = "reader"',
    "admin": 'role = "operator"',
}


def password(user):
    return f"the-password-of-{user}"


def as_user(server, user):
    """A client that connects as a user."""
    return Mq9Client(server.url.replace("//", f"//{user}:{password(user)}@"))


@pytest.fixture
async def server(tmp_path):
    text = "".join(
        f'[[users]]\n{who}\nuser = "{user}"\npassword = "{password(user)}"\n'
        for user, who in USERS.items()
    )
    users = str(write_users(tmp_path, text))
    serving = Serving(tmp_path, "--users", users, "--memory", "--desk", admin=True)
    async with serving as server:
        for user in ("boss", "chief", "lawyer"):
            async with as_user(server, user) as client:
                await client.mailbox_create(name=user)
        yield server


@pytest.fixture
async def lawyer(server):
    """The lawyer, who has asked the boss something."""
    async with as_user(server, "lawyer") as lawyer:
        action = Action(name="tell", args={"text": SECRET})
        question = MailedQuestion(text=f"May I say: {SECRET}", actions=(action,)).to_json()
        await lawyer.send("boss", question, reply_to="lawyer", correlation_id="merger", tags=[TAG])
        yield lawyer


@pytest.fixture
async def logged_in(server, windows):
    async def logged_in(user):
        page = await windows.open()
        await log_in(page, server.desk, user, password(user))
        return page

    return logged_in


DOWNLOADS = ("/conversations/saved?id=/boss/0", "/mailboxes/body?mailbox=boss&id=0")
PAGES = (
    "",
    "?later=1",
    "/questions/0",
    "/decisions",
    "/conversations",
    "/conversations?mailbox=boss",
    "/conversations/one?id=/boss/0",
    "/conversations/one?id=merger",
    "/conversations/write?answers=boss/0",
    "/conversations/write?forwards=boss/0",
    "/agents",
    "/stuck",
    "/stuck?mailbox=boss",
    "/stuck/settle?what=drop&item=boss/0/boss",
    "/mailboxes",
    "/mailboxes/one?mailbox=boss",
    "/mailboxes/message?mailbox=boss&id=0",
    "/search?q=merger",
)
ACTIONS = (
    ("questions/answer", {"msg_id": "0", "word": "approve"}),
    ("questions/edit", {"msg_id": "0", "step": "send", "arg.0.text": "Yes."}),
    ("questions/several", {"chosen": "0", "word": "reject"}),
    ("questions/later", {"msg_id": "0", "seconds": "3600"}),
    ("conversations/send", {"kind": "answers", "item": "boss/0", "id": "1", "body": "Yes."}),
    ("conversations/send", {"kind": "forwards", "item": "boss/0", "id": "2", "to": "chief"}),
    ("stuck/settle", {"what": "drop", "item": "boss/0/boss"}),
    ("stuck/settle", {"what": "error", "item": "boss/0/boss", "reason": "No."}),
)


async def tell(page, server, path, fields, **headers):
    """Send a form as the browser of a page would; the status, and the page that follows."""
    own = {"origin": server.desk.removesuffix("/desk"), "sec-fetch-site": "same-origin"}
    answer = await page.request.post(
        f"{server.desk}/{path}", form=fields, headers={**own, **headers}, max_redirects=0
    )
    return answer.status


async def token_of(page):
    return await page.locator("input[name=csrf]").first.get_attribute("value")


async def is_untouched(server):
    """Tell whether nobody has answered, taken, put off or dropped the question."""
    async with as_user(server, "boss") as boss, as_user(server, "lawyer") as lawyer:
        status = await boss.mailbox_status("boss", msg_id=0)
        answers = await lawyer.query("lawyer")
        return status.stored == 1 and not status.message.groups and not answers


async def test_another_person_neither_sees_nor_answers_a_question(
    server, lawyer, logged_in, windows
):
    chief = await logged_in("chief")
    await sees(chief, "Nobody asks you anything.")
    for path in (*PAGES, *DOWNLOADS):
        shown = await chief.request.get(f"{server.desk}{path}")
        assert SECRET not in await shown.text(), path
        assert shown.status in {200, 400, 403, 404}, path
    token = await token_of(chief)
    for path, fields in ACTIONS:
        assert await tell(chief, server, path, {"csrf": token, **fields}) in {303, 400}
        await chief.goto(server.desk)
        told = await read(chief)
        assert SECRET not in told
        assert await is_untouched(server), (path, told)

    boss = await logged_in("boss")
    await sees(boss, f"May I say: {SECRET}", "lawyer")
    await press(boss, "Approve")
    await sees(boss, "Answered: approve")
    [answer] = await lawyer.query("lawyer")
    assert (answer.sender, answer.sender_verified) == ("boss", True)
    assert answer.correlation_id == "merger"
    # What was decided is the boss's, too.
    assert SECRET not in await (await chief.request.get(f"{server.desk}/decisions")).text()


async def test_nobody_gets_in_by_a_cookie_or_a_form_of_others(server, lawyer, logged_in, windows):
    boss = await logged_in("boss")
    await sees(boss, f"May I say: {SECRET}")
    [cookie] = await boss.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    approve = {"msg_id": "0", "word": "approve", "back": "/desk"}

    stranger = await windows.open()
    for value in ("forged", cookie["value"][:-1], cookie["value"][::-1], "a" * 43):
        await stranger.context.add_cookies([{**cookie, "value": value}])
        for path in PAGES:
            await stranger.goto(f"{server.desk}{path}")
            assert stranger.url == f"{server.desk}/login", path
    token = await token_of(boss)
    assert await tell(stranger, server, "questions/answer", {"csrf": token, **approve}) == 303

    for csrf in ({}, {"csrf": ""}, {"csrf": "forged"}, {"csrf": token[:-1]}):
        assert await tell(boss, server, "questions/answer", {**csrf, **approve}) in {400, 403}
    mine = {"csrf": token, **approve}
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert await tell(boss, server, "questions/answer", mine, **headers) == 403
    assert await is_untouched(server)

    # A page of somebody else's, in the browser of the boss, which even knows the token.
    evil = await boss.context.new_page()
    fields = "".join(f'<input name="{name}" value="{value}">' for name, value in mine.items())
    form = f'<form method="post" action="{server.desk}/questions/answer">{fields}</form>'
    await evil.route(
        "http://evil.example/", lambda route: route.fulfill(body=form, content_type="text/html")
    )
    await evil.goto("http://evil.example/")
    await evil.locator("form").evaluate("form => form.submit()")
    await evil.wait_for_url(re.compile(re.escape(server.desk)))
    assert SECRET not in await evil.content()
    assert await is_untouched(server)


async def test_a_reader_sees_all_and_changes_nothing(server, lawyer, logged_in):
    auditor = await logged_in("auditor")
    for path in ("/mailboxes/message?mailbox=boss&id=0", "/conversations/one?id=/boss/0"):
        await auditor.goto(f"{server.desk}{path}")
        await sees(auditor, SECRET)
    for path in PAGES:
        await auditor.goto(f"{server.desk}{path}")
        assert await auditor.locator("main form[method=post]").count() == 0, path
    # A page that says no stays as it is, also when it hears that something has changed.
    await auditor.goto(f"{server.desk}/conversations/write")
    await auditor.evaluate("window.isSame = true")
    await lawyer.send("chief", "A note.")
    await asyncio.sleep(1.5)  # its stream looks once a second
    assert await auditor.evaluate("window.isSame")
    await auditor.goto(server.desk)
    token = await token_of(auditor)
    for path, fields in ACTIONS:
        assert await tell(auditor, server, path, {"csrf": token, **fields}) == 303
        await auditor.goto(server.desk)
        await sees(auditor, "role: a reader changes nothing; ask an operator")
        assert await is_untouched(server), path


async def test_two_people_of_one_name_have_their_own_rights(tmp_path, windows):
    """An operator logs in by the name that is somebody's agent, and neither becomes the other."""
    text = "".join(
        f'[[users]]\n{who}\nuser = "{user}"\npassword = "{password(user)}"\n'
        for user, who in {"boss": 'role = "operator"', "b": 'agent = "boss"'}.items()
    )
    text += f'[[users]]\nagent = "lawyer"\nuser = "lawyer"\npassword = "{password("lawyer")}"\n'
    users = str(write_users(tmp_path, text))
    serving = Serving(tmp_path, "--users", users, "--memory", "--desk", admin=True)
    async with serving as server, as_user(server, "lawyer") as lawyer:
        await lawyer.mailbox_create(name="lawyer")
        await lawyer.send("lawyer", SECRET)
        operator, agent = await windows.open(), await windows.open()
        await log_in(operator, server.desk, "boss", password("boss"))
        await log_in(agent, server.desk, "b", password("b"))
        place = f"{server.desk}/mailboxes/message?mailbox=lawyer&id=0"
        await operator.goto(place)
        await sees(operator, SECRET)
        await agent.goto(place)
        assert SECRET not in await read(agent)
