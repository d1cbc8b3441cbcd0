"""The help: commands in groups, summaries on one line, words for values, and examples."""

import re
import shlex

import pytest
from typer.main import get_command

from mq9.cli.app import app
from mq9.cli.help import EXAMPLES, GROUPS, OTHER_NAMES

PROGRAM = get_command(app)
COMMANDS = PROGRAM.list_commands(None)
MOST = 60  # characters of a summary


# Each command by its words; `mq9 mcp` is a program of its own.
NESTED = ("cluster", "users")
WORDS = [(name,) for name in COMMANDS if name not in {*NESTED, "mcp"}]
WORDS += [(name, one) for name in NESTED for one in PROGRAM.get_command(None, name).commands]


def test_each_command_is_in_one_group_and_its_summary_is_whole(mq9):
    assert sorted(name for names in GROUPS.values() for name in names) == COMMANDS
    shown = mq9.ok("-h").out
    for group, names in GROUPS.items():
        [section] = re.findall(rf"^{group}:\n((?:  .*\n)+)", shown, re.MULTILINE)
        rows = [re.fullmatch(r"  (\S+) +(.*)", line).groups() for line in section.splitlines()]
        assert [name for name, _ in rows] == list(names)
        for name, summary in rows:
            assert len(summary) <= MOST, name
            assert summary.endswith("."), f"{name} is cut"


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_values_are_words_and_examples_stand_at_the_end(mq9, words):
    shown = mq9.ok(*words, "-h").out
    options = shown[: shown.index("Example")]
    assert not re.search(r"<(?:str|int|float|bool|file|path|list)\b", options), options
    examples = [line.strip() for line in shown.splitlines() if line.startswith("    mq9 ")]
    assert examples == list(EXAMPLES[" ".join(words)])


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines]
)
def test_an_example_is_a_command_with_its_arguments(name, line):
    words = shlex.split(line)[1:]
    command = PROGRAM
    for word in name.split():
        assert words.pop(0) == word
        command = command.get_command(None, word)
    with command.make_context(name, words):  # raises what is wrong with an argument
        pass


def test_a_mistyped_command_is_corrected(mq9):
    for typed, meant in {**OTHER_NAMES, "snd": "send", "staus": "status"}.items():
        done = mq9(typed)
        assert done.code == 2
        assert done.err == f"error: No such command {typed!r}. Did you mean {meant!r}?\n"
