"""The disk and the replies of a traced server, so that a power cut can be played at any moment.

`strace` records each write, truncation and sync of the database's file and its log, and each reply
that leaves a socket. A power cut keeps the synced writes. Of the others it keeps some, and of some
of those only single sectors.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_SECTOR = 512
_CALLS = "pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync,ftruncate"
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\(\d+<((?:\\x[0-9a-f]{2})*|[^>]*)>(.*)\) += (\d+)")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_MSG_ID = re.compile(rb'"error":"","msg_id":(\d+)')


@dataclass(frozen=True)
class Write:
    """Bytes that were written at a place of a file."""

    file: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    """A file that was shortened."""

    file: str
    size: int


@dataclass(frozen=True)
class Sync:
    """A file whose writes until here are on the disk."""

    file: str


@dataclass(frozen=True)
class Answered:
    """SENDs whose replies were given to the network: the highest msg_id."""

    msg_id: int


def tracer(output):
    """Return the command that traces the command after it, which keeps the process id."""
    how = f"-D -f -qq -y -xx -s 4000000 -e trace={_CALLS} -o".split()
    return ("strace", *how, str(output))


def events(trace, database):
    """Return what happened to the files of a database, and which SENDs were answered, in order."""
    files = {str(database): "file", f"{database}-wal": "log"}
    begun, found = {}, []
    for line in Path(trace).read_text().splitlines():
        if unfinished := _UNFINISHED.fullmatch(line):
            begun[unfinished[1]] = unfinished[2]
            found += _replies(unfinished[2])  # it may have been sent at once
        elif resumed := _RESUMED.fullmatch(line):
            found += _event(begun.pop(resumed[1]) + resumed[2], files)
        else:
            found += _event(line.partition(" ")[2].strip(), files)
    return found


def _replies(call):
    sent = b"".join(map(_decoded, _BYTES.findall(call)))
    numbers = [int(number) for number in _MSG_ID.findall(sent)]
    return [Answered(max(numbers))] if numbers else []


def _event(line, files):
    found = _CALL.match(line)
    if found is None:
        return []  # it failed, or a thread ended
    call, path, rest, result = found.groups()
    file = files.get(_decoded(path).decode())
    if file is None:
        return _replies(line)
    if call == "pwrite64":
        data = _decoded(_BYTES.search(rest)[1])
        assert len(data) == int(result), "a write was cut short"
        return [Write(file, int(rest.rpartition(", ")[2]), data)]
    if call == "ftruncate":
        return [Cut(file, int(rest.rpartition(", ")[2]))]
    return [Sync(file)] if call in {"fsync", "fdatasync"} else []


def _decoded(text):
    return bytes.fromhex(text.replace("\\x", ""))


def after_cut(begun_with, happened, dice):
    """Return the bytes of file and log after a power cut, and the last msg_id answered before.

    Args:
        begun_with: The bytes of the file at the beginning, when there was no log.
        happened: The events before the cut.
        dice: Decides what of the writes that were not synced is on the disk.
    """
    disk = {"file": bytearray(begun_with), "log": bytearray()}
    pending = {"file": [], "log": []}
    answered = -1
    for event in happened:
        if isinstance(event, Answered):
            answered = max(answered, event.msg_id)
        elif isinstance(event, Sync):
            for one in pending[event.file]:
                _apply(disk[event.file], one)
            pending[event.file].clear()
        else:
            pending[event.file].append(event)
    for file, ones in pending.items():
        for one in ones:
            if dice.random() < 0.5:
                _apply(disk[file], one, dice if dice.random() < 0.3 else None)
    return disk["file"], disk["log"], answered


def _apply(content, event, dice=None):
    """Carry out a write or a truncation; with ``dice``, only some sectors of a write."""
    if isinstance(event, Cut):
        del content[event.size :]
        return
    end = event.offset + len(event.data)
    content.extend(bytes(max(0, end - len(content))))
    if dice is None:
        content[event.offset : end] = event.data
        return
    for begin in range(0, len(event.data), _SECTOR):
        if dice.random() < 0.5:
            sector = event.data[begin : begin + _SECTOR]
            content[event.offset + begin : event.offset + begin + len(sector)] = sector
