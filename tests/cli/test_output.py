"""What strangers wrote cannot steer the terminal, and tables fit who reads them."""

import io
import json
import re

import pytest

from mq9.cli.output import (
    CannotWrite,
    Output,
    PipeClosed,
    Table,
    as_json,
    coloured,
    one_line,
    quoted,
    span,
    when,
)

EVIL = "\x1b[2J\x1b]0;title\x07\x9b31m\u202egnp.exe\u2066\r\b\x7f\u2028"


def assert_harmless(text):
    assert all(one.isprintable() or one == "\n" for one in text), text


def test_nothing_that_a_stranger_wrote_acts_on_the_terminal(mq9):
    mq9.ok("create", "inbox", "--public", "--desc", EVIL)
    mq9.ok("send", "inbox", f"[bold red]first[/]\nsecond {EVIL}")

    async def register(client):
        await client.agent_register({"name": "ann", "mailbox": "inbox", "description": EVIL})
        await client.agent_register({"name": "bob", "mailbox": "inbox", "payload": [EVIL]})

    mq9.sdk(register)
    for command in (
        ["fetch", "inbox", "--deliver", "earliest"],
        ["query", "inbox"],
        ["mailboxes"],
        ["status", "inbox"],
        ["agents"],
        ["why", "inbox", 0],
    ):
        for options in ([], ["--json"]):
            done = mq9.ok(*command, *options)
            assert_harmless(done.out + done.err)
    shown = mq9.ok("query", "inbox").out
    assert "\n    [bold red]first[/]\n    second \\x1b[2J" in shown
    [message] = mq9.ok("query", "inbox", "--json").document["messages"]
    assert message["payload"].endswith(EVIL)
    assert mq9.ok("mailboxes", "--json").document["mailboxes"][0]["desc"] == EVIL


def test_an_error_is_as_harmless(mq9):
    for options in ([], ["--json"]):
        done = mq9("create", f"x{EVIL}\nerror: forged", *options)
        assert done.code == 2
        assert_harmless(done.out + done.err)
        assert (done.out + done.err).count("\n") == 1


@pytest.mark.parametrize("name", [f"a{EVIL}", "a\nb", "a  from root (verified)", "'", "a'b\"c"])
def test_a_name_does_not_get_out_of_its_quotes(name):
    text = quoted(name)
    assert_harmless(text)
    assert "\n" not in text
    assert text[0] in "'\""
    assert text[0] == text[-1]


def test_json_is_one_line_that_reads_back():
    document = {"a": EVIL, "b": ["日本語 🎉", "\ud800"], "c": None}
    for text in (as_json(document), as_json(document, in_ascii=True)):
        assert_harmless(text)
        assert "\n" not in text
        assert json.loads(text) == document
    assert "日本語 🎉" in as_json(document)
    assert as_json(document, in_ascii=True).isascii()


def table(rows, *, is_terminal, monkeypatch, columns=40):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    output = Output(as_json=False, stream=stream, is_terminal=is_terminal)
    output.show({}, Table(("NAME", "TEXT"), rows))
    return stream.getvalue()


def test_a_table_for_a_program_is_never_cut(monkeypatch):
    long = "word " * 100
    text = table([("a", long), ("日本", "x")], is_terminal=False, monkeypatch=monkeypatch)
    assert text == f"NAME  TEXT\na     {long.rstrip()}\n日本  x\n"


def test_a_table_for_a_terminal_is_as_wide_as_that(monkeypatch):
    rows = [("a", "word " * 20), (f"[red]{EVIL}", "x")]
    text = table(rows, is_terminal=True, monkeypatch=monkeypatch)
    lines = re.sub(r"\x1b\[\d+m", "", text).splitlines()  # the heading is bold
    assert max(map(len, lines)) <= 40
    assert text.count("word") == 20
    assert "[red]" in text
    assert "\x1b[2J" not in text
    assert "\x1b]0" not in text
    assert "\u202e" not in text


def test_who_goes_away_is_told_from_what_cannot_be_written():
    class Stream(io.StringIO):
        def __init__(self, error):
            super().__init__()
            self.error = error

        def flush(self):
            raise self.error

    with pytest.raises(PipeClosed):
        Output(as_json=False, stream=Stream(BrokenPipeError())).show({}, "x")
    with pytest.raises(CannotWrite, match="cannot be written: full"):
        Output(as_json=True, stream=Stream(OSError(28, "full"))).show({})


def test_a_notice_is_not_part_of_a_document():
    said = io.StringIO()
    Output(as_json=True, stream=io.StringIO(), notices=said).notice("x")
    assert said.getvalue() == ""
    Output(as_json=False, stream=io.StringIO(), notices=said).notice(f"x{EVIL}")
    assert_harmless(said.getvalue())
    assert one_line("a\nb\tc") == r"a\nb\tc"


def test_lengths_of_time_and_times_that_no_calendar_has():
    lengths = [0, 0.25, 1, 59, 119, 120, 7_199, 7_200, 200_000]
    assert [span(one) for one in lengths] == [
        *("0 ms", "250 ms", "1 s", "59 s", "119 s", "2 min", "120 min", "2 h", "2 d"),
    ]
    for instant in (1e300, -1e300, float("inf"), float("nan")):
        assert when(instant) == f"{instant} (Unix time)"


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def test_work_is_shown_on_a_terminal_alone_and_removed_when_it_ends():
    shown, piped = Terminal(), io.StringIO()
    for notices, in_json in ((shown, False), (piped, False), (Terminal(), True)):
        output = Output(as_json=in_json, stream=io.StringIO(), notices=notices)
        with output.working("[red]copying\x1b[2J"):
            pass
        with output.working("in a moment", 0.5):
            pass
        if notices is not shown:
            assert notices.getvalue() == ""
    said = shown.getvalue()
    assert r"[red]copying\x1b[2J" in said
    assert "0:00:00" in said
    assert said.endswith("\x1b[2K")  # the line is cleared
    assert "in a moment" not in said


def test_a_label_has_a_colour_on_a_terminal_alone(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert coloured("error: ", "red", Terminal()) == "\x1b[31merror: \x1b[0m"
    assert coloured("error: ", "red", io.StringIO()) == "error: "
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("error: ", "red", Terminal()) == "error: "
