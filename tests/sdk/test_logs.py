"""The log of a program: one line per event, whatever clients put into it."""

import io
import logging
import re

import orjson
import pytest

from mq9 import InvalidRequest, logs

HOSTILE = [
    "two\nlines",
    "carriage\rreturn",
    "\r\n2026-01-01T00:00:00.000Z ERROR mq9: forged",
    "\x1b[2J\x1b]0;title\x07",
    "nul\x00 and delete\x7f",
    "next line\x85, control sequence\x9b31m",
    "line\u2028and paragraph\u2029",
    "right\u202eto left\u2066isolated",
    "zero\u200bwidth\ufeff",
    "half a pair \ud800",
    "vertical\x0band form\x0cfeed",
]
UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@pytest.fixture
def log():
    """Configure the log; what it wrote."""
    stream = io.StringIO()

    def configure(log_format, level="debug"):
        logs.configure_logging(level, log_format, stream=stream)
        return lambda: stream.getvalue().removesuffix("\n").split("\n")

    return configure


@pytest.fixture
def logger():
    return logging.getLogger("mq9.broker")


def only(lines):
    (line,) = lines
    return line


def test_a_line_of_text_tells_when_how_bad_who_and_what(log, logger):
    lines = log("text")
    logger.info("client %d connected", 7, extra={"client": 7, "agent": "ada", "tls": True})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    mq9\.broker: "
        r"client 7 connected client=7 agent=ada tls=True",
        only(lines()),
    )


def test_a_line_of_json_has_the_same_as_fields(log, logger):
    lines = log("json")
    logger.warning("cut off", extra={"client": 7, "pending": 1.5, "tls": False, "agent": "ada"})
    event = orjson.loads(only(lines()))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time"))
    assert event == {
        "level": "warning",
        "logger": "mq9.broker",
        "message": "cut off",
        "client": 7,
        "pending": 1.5,
        "tls": False,
        "agent": "ada",
    }


@pytest.mark.parametrize("log_format", logs.FORMATS)
def test_times_are_those_of_the_event_in_utc(log, logger, log_format):
    lines = log(log_format)
    record = logger.makeRecord(logger.name, logging.INFO, "", 0, "old", (), None)
    record.created = 1_800_000_000.0419
    logger.handle(record)
    assert "2027-01-15T08:00:00.041Z" in only(lines())


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_on_its_line_and_does_no_harm_when_shown(log, logger, text):
    lines = log("text")
    logger.info("%s connected", text, extra={"subject": text})
    line = only(lines())
    assert not UNPRINTABLE.search(line)
    assert line.splitlines() == [line]
    escaped = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
    assert f": {escaped} connected subject=" in line


@pytest.mark.parametrize("text", HOSTILE)
def test_so_it_does_on_its_line_of_json(log, logger, text):
    lines = log("json")
    logger.info("%s connected", text, extra={"subject": text})
    line = only(lines())
    event = orjson.loads(line)
    for shown in (line, event["message"], event["subject"]):
        assert not UNPRINTABLE.search(shown)
    assert event["message"] == f"{event['subject']} connected"


def test_ordinary_text_of_any_language_is_left_alone(log, logger):
    text = 'Grüße, 翻訳者 🚀 "quoted" C:\\path'
    lines = log("json")
    logger.info(text)
    assert orjson.loads(only(lines()))["message"] == text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "hi"', r'"say \"hi\""'),
        ("back\\slash", r'"back\\slash"'),
        ("", '""'),
        (0, "0"),
        (False, "False"),
    ],
)
def test_a_value_cannot_pass_for_another_field(log, logger, value, written):
    lines = log("text")
    logger.info("event", extra={"name_": value, "last": 1})
    assert only(lines()).endswith(f": event name_={written} last=1")


@pytest.mark.parametrize("log_format", logs.FORMATS)
def test_a_field_without_a_value_is_left_out(log, logger, log_format):
    lines = log(log_format)
    logger.info("connected", extra={"agent": None})
    assert "agent" not in only(lines())


def test_values_that_json_does_not_know_are_written_as_text(log, logger):
    lines = log("json")
    logger.info("event", extra={"big": 2**64, "raw": b"\n", "peer": ("::1", 1), "nan": 1e400})
    written = {"big": str(2**64), "raw": "b'\\n'", "peer": "('::1', 1)", "nan": None}
    assert orjson.loads(only(lines())).items() >= written.items()


def test_a_field_never_hides_what_every_event_has(log, logger):
    lines = log("json")
    logger.error("real", extra={"level": "debug", "time": 0, "logger": "x", "exception": "none"})
    event = orjson.loads(only(lines()))
    own = {"level": "error", "logger": "mq9.broker", "message": "real"}
    renamed = {"level_": "debug", "time_": 0, "logger_": "x", "exception_": "none"}
    assert event.items() >= (own | renamed).items()
    assert "exception" not in event


def fail(text):
    raise ValueError(text)


@pytest.mark.parametrize("log_format", logs.FORMATS)
@pytest.mark.parametrize("text", HOSTILE)
def test_an_exception_is_told_on_the_line(log, logger, log_format, text):
    lines = log(log_format)
    try:
        fail(text)
    except ValueError:
        logger.exception("it failed", extra={"client": 3})
    line = only(lines())
    if log_format == "text":
        assert not UNPRINTABLE.search(line)
        assert "it failed client=3 | Traceback (most recent call last): | File " in line
        assert "| ValueError: " in line
        return
    event = orjson.loads(line)
    assert event["message"] == "it failed"
    told = event["exception"].split("\n")
    assert told[0] == "Traceback (most recent call last):"
    assert any(line.startswith("ValueError: ") for line in told)
    assert not any(UNPRINTABLE.search(line) for line in told)


@pytest.mark.parametrize("log_format", logs.FORMATS)
def test_a_stack_is_told_if_it_was_asked_for_and_no_exception_where_there_is_none(
    log, logger, log_format
):
    lines = log(log_format)
    logger.info("here", stack_info=True)
    logger.info("calm", exc_info=(None, None, None))
    here, calm = lines()
    assert "Stack (most recent call last)" in here
    assert "exception" not in calm.lower()
    assert "None" not in calm


def test_the_level_holds_for_our_loggers_only(log, logger):
    lines = log("text", "info")
    others = logging.getLogger("uvicorn.error")
    logger.debug("too fine")
    logger.info("ours")
    others.info("chatter of others")
    others.warning("a warning of others")
    assert [line.partition(": ")[2] for line in lines()] == ["ours", "a warning of others"]


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning", "error", "critical"])
def test_every_level_lets_itself_and_what_is_worse_through(log, logger, level):
    lines = log("json", level)
    for name in logs.LEVELS:
        logger.log(getattr(logging, name.upper()), "event")
    seen = [orjson.loads(line)["level"] for line in lines()]
    assert seen == list(logs.LEVELS[logs.LEVELS.index(level.lower()) :])


def test_configuring_again_replaces_and_leaves_other_handlers_alone(log, logger, capsys):
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    log("text")
    lines = log("json")
    logger.info("once")
    assert orjson.loads(only(lines()))["message"] == "once"
    assert other in logging.getLogger().handlers

    logs.configure_logging("info", "text")  # to standard error
    logger.info("to the operator")
    printed = capsys.readouterr()
    assert printed.err.endswith("to the operator\n")
    assert not printed.out


@pytest.mark.parametrize(
    ("level", "log_format", "said"),
    [
        ("loud", "text", "log_level: 'loud' is not one of debug, info, warning, error, critical"),
        ("", "text", "log_level: '' is not one of"),
        ("notset", "text", "log_level: 'notset' is not one of"),
        ("10", "json", "log_level: '10' is not one of"),
        ("info", "xml", "log_format: 'xml' is not one of text, json"),
        ("info", "JSON", "log_format: 'JSON' is not one of text, json"),
    ],
)
def test_a_level_or_format_that_is_none_is_refused_and_nothing_changes(
    log, logger, level, log_format, said
):
    lines = log("text", "warning")
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        logs.configure_logging(level, log_format)
    logger.info("not to be seen")
    logger.warning("still here")
    assert only(lines()).endswith(": still here")
