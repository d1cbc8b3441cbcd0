"""Encoded commands and outcomes of all versions, which every later version reads to the same.

Run as a program, it adds the examples whose bytes are not in the corpus yet. What is in it stays.
"""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from mq9.engine import codec
from mq9.errors import Mq9Error

from .codec_examples import CALLS, OUTCOMES

FILE = Path(__file__).with_name("codec_corpus.jsonl")
NAMED = codec.COMMANDS | codec.VALUES
RECORDS = {
    record.kind: record
    for record in (
        codec.CALL,
        codec.ACTOR,
        codec.LIMITS,
        codec.OUTCOME,
        codec.STORED,
        codec.WAITING,
        codec.LEASED,
        codec.HELD,
        *NAMED.values(),
    )
}
NAMES = {record.kind: name for name, record in NAMED.items()}
CODECS = {
    "call": (codec.encode_call, codec.decode_call),
    "outcome": (codec.encode_outcome, codec.decode_outcome),
}


@dataclass(frozen=True)
class Entry:
    """A line of the corpus.

    Attributes:
        sort: ``call`` or ``outcome``.
        data: The bytes.
        holds: What they are read to, as JSON, with every field that there was when it was written.
    """

    sort: str
    data: bytes
    holds: object

    @property
    def version(self):
        """The version that it was written by."""
        return self.data[0]

    def read(self):
        """Return what this version reads."""
        return CODECS[self.sort][1](self.data)

    def line(self):
        data = base64.b64encode(self.data).decode()
        fields = {self.sort: self.holds, "bytes": data}
        return json.dumps(fields, ensure_ascii=False) + "\n"


def load():
    """Return the corpus."""
    entries = []
    for line in FILE.read_text("utf-8").splitlines():
        fields = json.loads(line)
        data = base64.b64decode(fields.pop("bytes"))
        [(sort, holds)] = fields.items()
        entries.append(Entry(sort, data, holds))
    return entries


def examples():
    """Return what this version writes."""
    return [
        Entry(sort, CODECS[sort][0](one), describe(one))
        for sort, objects in (("call", CALLS), ("outcome", OUTCOMES))
        for one in objects
    ]


def describe(one):
    """Return all that an object holds as JSON, defaults included."""
    record = RECORDS.get(type(one))
    if record is not None:
        fields = {field.name: describe(getattr(one, field.name)) for field in record.fields}
        return {NAMES[type(one)]: fields} if type(one) in NAMES else fields
    if isinstance(one, Mq9Error):
        return [one.code, str(one)]
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
