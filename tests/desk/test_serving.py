"""The desk as programs serve it: `mq9 desk`, and `mq9 serve --desk`."""

import signal
import subprocess
import sys

import httpx
import pytest
from users_file import write_users

from mq9.cli.serve import running
from mq9.errors import InvalidRequest
from mq9.server.settings import ServerSettings
from tests.desk.desks import forms, text_of

USERS = """
[[users]]
user = "ada"
password = "lovelace"
agent = "ada"

[[users]]
user = "guest"
password = "looks"
role = "reader"

[[users]]
token = "of-bob"
agent = "bob"
"""


@pytest.fixture
def users(tmp_path):
    return write_users(tmp_path, USERS)


@pytest.fixture
async def site(users, capsys):
    """A browser at the desk of a server with users."""
    settings = ServerSettings(port=0, admin_port=0, memory=True, users=users, desk=True)
    async with running(settings):
        at = capsys.readouterr().out.strip().removeprefix("the desk: ")
        origin = at.removesuffix("/desk")
        async with httpx.AsyncClient(
            base_url=origin, headers={"origin": origin}, follow_redirects=True
        ) as client:
            yield client


async def log_in(site, user, secret):
    return await site.post("/desk/login", data={"user": user, "secret": secret})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"desk": True}, "whose desk"),
        ({"desk": True, "desk_as": "boss", "users": "there"}, "whose desk"),
        ({"desk": True, "desk_as": "boss", "admin": False}, "admin port"),
        ({"desk": True, "desk_as": "boss", "auth_token": "secret"}, "auth token"),
        ({"desk_as": "boss"}, "is for --desk"),
        (
            {"desk": True, "desk_as": "boss", "admin_host": "192.0.2.1", "insecure": True},
            "other machines",
        ),
    ],
)
def test_a_desk_that_nobody_guards_is_not_served(users, options, problem):
    if "users" in options:
        options = {**options, "users": users}
    with pytest.raises(InvalidRequest, match=problem):
        ServerSettings(memory=True, **options)


@pytest.mark.parametrize(
    ("user", "secret", "name"),
    [("ada", "lovelace", "ada"), ("guest", "looks", "guest (reader)"), ("", "of-bob", "bob")],
)
async def test_users_of_the_users_file_log_in(site, user, secret, name):
    answer = await log_in(site, user, secret)
    assert f">{name}</span>" in answer.text
    assert "open questions in" in text_of(answer.text)


@pytest.mark.parametrize(
    ("user", "secret"),
    [("ada", "wrong"), ("nobody", "lovelace"), ("", "of-eve"), ("", ""), ("of-bob", "")],
)
async def test_others_do_not(site, user, secret):
    answer = await log_in(site, user, secret)
    assert answer.status_code == 403
    assert "Wrong user, password or token." in answer.text
    assert (await site.get("/desk")).url.path == "/desk/login"


async def test_a_reader_has_no_forms_and_no_rights_at_the_server(site):
    answer = await log_in(site, "guest", "looks")
    csrf = forms(answer.text)[1].fields["csrf"]
    told = await site.post(
        "/desk/questions/answer", data={"csrf": csrf, "back": "/desk", "msg_id": "0"}
    )
    assert "a reader changes nothing" in told.text


@pytest.mark.programs
@pytest.mark.skipif(sys.platform == "win32", reason="an interrupt is sent as on Unix")
def test_mq9_desk_prints_its_link_first_and_ends_with_a_page_open(tmp_path):
    command = [sys.executable, "-m", "mq9", "desk", "--as", "boss", "--no-open", "--port", "0"]
    url = f"sqlite:///{tmp_path / 'mq9.db'}"
    with (
        subprocess.Popen([*command, "--url", url], stdout=subprocess.PIPE, text=True) as process,
        httpx.Client(timeout=30, follow_redirects=True) as browser,
    ):
        link = process.stdout.readline().strip()
        assert "Nobody asks you anything" in browser.get(link).text
        with browser.stream("GET", link.split("/enter")[0] + "/events") as stream:
            assert next(stream.iter_lines()) == "event: hello"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
