"""What a stranger cannot do: see or answer another's questions, or run a script by any field."""

import http.client
import itertools
from urllib.parse import urlencode, urlsplit

import pytest
from browser import needs_browser

from mq9.models import CONVERSATION
from mq9.questions import TAG, Action, MailedQuestion
from tests.desk_stories import world
from tests.desk_stories.payloads import PAYLOADS
from tests.desk_stories.stage import OnServer

pytestmark = [pytest.mark.programs, pytest.mark.unmeasured, needs_browser]

_PATHS = (
    *("", "/decisions", "/conversations", "/agents", "/stuck", "/mailboxes", "/search?q=window"),
    *("/mailboxes/one?mailbox=boss", "/mailboxes/one?mailbox=ada", "/conversations/write"),
)


def asked(stage, path, *, method="GET", cookie=None, origin=None, body=None, host=None):
    """Send a request as a program would; its status and body."""
    at = urlsplit(stage.desk)
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=20)
    headers = {"Cookie": cookie, "Origin": origin, "Host": host}
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(
        method, f"/desk{path}", body, {name: one for name, one in headers.items() if one}
    )
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


async def plant(stage, number):
    """Have a stranger fill every field with payloads, another one in each."""
    payloads = itertools.islice(itertools.cycle(PAYLOADS), number * 20, None)
    client = await stage.client("mallory")
    text = lambda: next(payloads)  # noqa: E731 - a name for the next one
    action = Action(name=text()[:100], args={text(): text(), "list": [text()]}, text=text())
    question = MailedQuestion(text=text(), value={text(): text()}, actions=(action,))
    headers = {CONVERSATION: f"{text()}{number}"[:200].replace("\t", " ").replace("\x01", " ")}
    clean = lambda one: "".join(c for c in one if c.isprintable())[:200]  # noqa: E731
    headers = {
        name: clean(one).encode("ascii", "replace").decode() for name, one in headers.items()
    }
    await client.send(
        "boss",
        question.to_json(),
        sender="mallory" if stage.has_users else clean(text())[:120] or "x",
        correlation_id=clean(text()) + str(number),
        key=clean(text()) + str(number),
        reply_to="ada",
        tags=[TAG, clean(text()).replace(",", ";") or "x"],
        headers=headers,
    )
    return question


async def test_8a_no_script_of_a_stranger_runs(stage, open_tab):
    assert len(set(PAYLOADS)) >= 200
    rounds = len(PAYLOADS) // 8
    for number in range(rounds):
        await plant(stage, number)
    mallory = await stage.client("mallory")
    card = {"name": "mallory", "mailbox": "mallory", "description": PAYLOADS[0]}
    await mallory.agent_register({**card, "skills": [{"name": one} for one in PAYLOADS[:20]]})
    await mallory.agent_report({"mailbox": "mallory", "status": PAYLOADS[1]})
    tab = await open_tab()
    told = []
    tab.on("dialog", lambda one: told.append(one.message))
    await tab.context.add_init_script("""addEventListener('securitypolicyviolation', event =>
        console.error('violated: ' + event.violatedDirective))""")
    tab.on("console", lambda one: told.append(one.text) if "violated" in one.text else None)
    requested = []
    tab.on("request", lambda one: requested.append(one.url))
    await stage.enter(tab)
    seen = set()
    conversations = await (await stage.client("boss")).conversations(limit=20)
    paths = [
        *_PATHS,
        *(f"?from={first}" for first in range(50, rounds, 50)),
        *("/questions/0", "/mailboxes/message?mailbox=boss&id=0"),
        *(
            f"/conversations/one?{urlencode({'id': one.id})}"
            for one in conversations.conversations[:10]
        ),
    ]
    for path in paths:
        answer = await tab.goto(stage.desk + path)
        assert answer.status == 200, path
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert await tab.evaluate("window.ran") is None, path
        for one in await tab.locator("main").all_inner_texts():
            seen |= {payload for payload in PAYLOADS if payload in one}
        foreign = tab.locator("main :is(script, iframe, object, img, base, meta, style)")
        assert await foreign.count() == 0, path
    assert len(seen) >= 100  # they stand there as text
    assert told == []
    own = stage.desk.removesuffix("/desk")
    assert [one for one in requested if not one.startswith((own, "data:"))] == []


async def test_8b_nothing_is_seen_or_answered_without_being_let_in(stage, tab):
    await world.ask(stage, "The secret question?", world.LETTER)
    own = f"{urlsplit(stage.desk).scheme}://{urlsplit(stage.desk).netloc}"
    cookies = await tab.context.cookies()
    [session] = [one for one in cookies if one["name"].startswith("mq9-desk")]
    assert session["httpOnly"]
    assert session["sameSite"] == "Strict"
    forged = f"{session['name']}={session['value'][:-2]}xx"
    approve = urlencode({"msg_id": 0, "word": "approve", "csrf": "made up"})
    for path in (*_PATHS, "/questions/0", "/events", "/mailboxes/message?mailbox=boss&id=0"):
        for cookie in (None, forged, f"{session['name']}="):
            status, text = asked(stage, path, cookie=cookie)
            assert status in {303, 403}, path
            assert "secret" not in text
    real = f"{session['name']}={session['value']}"
    post = {"method": "POST", "body": approve}
    answer = "/questions/answer"
    assert asked(stage, answer, **post)[0] in {303, 403}
    assert asked(stage, answer, cookie=real, origin=own, **post)[0] == 403  # no token
    csrf = await tab.locator("input[name=csrf]").first.get_attribute("value")
    good = {"method": "POST", "body": urlencode({"msg_id": 0, "word": "approve", "csrf": csrf})}
    for origin in ("http://evil.example", "null"):
        assert asked(stage, answer, cookie=real, origin=origin, **good)[0] == 403
    assert asked(stage, "", cookie=real, host="evil.example")[0] == 421
    lawyer = await stage.client("lawyer")
    assert (await lawyer.mailbox_status("lawyer")).stored == 0
    assert asked(stage, answer, cookie=real, origin=own, **good)[0] == 303
    assert (await lawyer.mailbox_status("lawyer")).stored == 1  # so the others failed for a reason


@pytest.fixture
async def server(tmp_path):
    async with OnServer(tmp_path) as stage:
        await world.meet(stage)
        yield stage


async def test_8c_an_agent_sees_nothing_of_others_and_a_reader_changes_nothing(server, open_tab):
    await world.ask(server, "The secret question?", world.LETTER)
    mallory = await open_tab()
    await server.enter(mallory, "mallory")
    for path in (*_PATHS, "/questions/0", "/mailboxes/message?mailbox=boss&id=0"):
        await mallory.goto(server.desk + path)
        assert "secret" not in await mallory.locator("body").inner_text(), path
    csrf = await mallory.locator("input[name=csrf]").first.get_attribute("value")
    form = {"csrf": csrf, "msg_id": "0", "word": "approve", "item": "boss/0", "what": "drop"}
    own = server.desk.removesuffix("/desk")
    for path in ("/questions/answer", "/questions/several", "/stuck/settle"):
        await mallory.request.post(server.desk + path, form=form, headers={"Origin": own})
    boss, lawyer = await server.client("boss"), await server.client("lawyer")
    assert (await boss.mailbox_status("boss")).stored == 1
    assert (await lawyer.mailbox_status("lawyer")).stored == 0
    rita = await open_tab()
    await server.enter(rita, "rita")
    await rita.goto(f"{server.desk}/mailboxes/message?mailbox=boss&id=0")
    assert "secret" in await rita.locator("main").inner_text()
    csrf = await rita.locator("input[name=csrf]").first.get_attribute("value")
    for path in ("/questions/answer", "/stuck/settle", "/conversations/send"):
        refused = await rita.request.post(
            server.desk + path, form={**form, "csrf": csrf}, headers={"Origin": own}
        )
        assert "a reader changes nothing" in await refused.text()
    assert (await boss.mailbox_status("boss")).stored == 1
