"""Encoded commands of all versions, which every later version must read alike.

Run as a program, it adds the examples whose bytes are not in the corpus yet. Existing lines stay.
"""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from mq9.engine import codec

from .codec_examples import CALLS

FILE = Path(__file__).with_name("codec_corpus.jsonl")
RECORDS = {
    record.kind: record
    for record in (
        codec.CALL,
        codec.ACTOR,
        codec.LIMITS,
        codec.PROMISE,
        *codec.COMMANDS.values(),
    )
}
NAMES = {record.kind: name for name, record in codec.COMMANDS.items()}


@dataclass(frozen=True)
class Entry:
    """A line of the corpus.

    Attributes:
        data: The bytes.
        holds: The call in them as JSON, with all fields of the version that wrote it.
    """

    data: bytes
    holds: object

    @property
    def version(self):
        """The version of its format."""
        return self.data[0]

    def read(self):
        """Return what this version reads."""
        return codec.decode_call(self.data)

    def line(self):
        data = base64.b64encode(self.data).decode()
        fields = {"call": self.holds, "bytes": data}
        return json.dumps(fields, ensure_ascii=False) + "\n"


def load():
    """Return the corpus."""
    entries = []
    for line in FILE.read_text("utf-8").splitlines():
        fields = json.loads(line)
        entries.append(Entry(base64.b64decode(fields["bytes"]), fields["call"]))
    return entries


def examples():
    """Return what this version writes."""
    return [Entry(codec.encode_call(one), describe(one)) for one in CALLS]


def describe(one):
    """Return all that an object holds as JSON, defaults included."""
    record = RECORDS.get(type(one))
    if record is not None:
        fields = {field.name: describe(getattr(one, field.name)) for field in record.fields}
        return {NAMES[type(one)]: fields} if type(one) in NAMES else fields
    if isinstance(one, bytes):
        return base64.b64encode(one).decode()
    return [describe(item) for item in one] if isinstance(one, tuple) else one


def is_described(one, holds):
    """Tell whether an object holds what is described; fields that were added hold their default."""
    record = RECORDS.get(type(one))
    if record is None:
        if isinstance(one, tuple):
            return len(one) == len(holds) and all(map(is_described, one, holds))
        return describe(one) == holds
    if type(one) in NAMES:
        [(name, holds)] = holds.items()
        if name != NAMES[type(one)]:
            return False
    fields = {field.name: (getattr(one, field.name), field.default) for field in record.fields}
    return holds.keys() <= fields.keys() and all(
        is_described(value, holds[name]) if name in holds else value == default
        for name, (value, default) in fields.items()
    )


def main():
    """Add the examples that are not there."""
    entries = load() if FILE.exists() else []
    there = {entry.data for entry in entries}
    added = [entry for entry in examples() if entry.data not in there]
    with FILE.open("a", encoding="utf-8") as file:
        file.writelines(entry.line() for entry in added)
    sys.stdout.write(f"{len(added)} lines were added to {len(entries)}\n")


if __name__ == "__main__":
    main()
