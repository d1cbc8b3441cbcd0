"""The file of a gateway's copy, and when it is not used again."""

import sqlite3
from contextlib import closing

import pytest

from mq9.cluster import copy_on_disk
from mq9.errors import UnusableFile
from mq9.storage.store import VERSION

from .traffic import everything

CREATED = "2026-03-01 10:00:00.123456+00:00"
NEWER = f"was written by a newer version of mq9 (schema {VERSION + 1}, this one knows {VERSION})"


def files(directory):
    return {one.name: one.read_text() for one in directory.iterdir()}


def test_a_copy_is_used_again_as_long_as_the_machine_runs(tmp_path, caplog):
    path = tmp_path / "mail.db"
    copy_on_disk.remove_unless_of(path, "this-boot", CREATED)
    path.write_text("state")

    copy_on_disk.remove_unless_of(path, "this-boot", CREATED)

    assert files(tmp_path) == {"mail.db": "state", "mail.db.origin": f"this-boot {CREATED}"}
    assert caplog.text == ""


def test_another_release_may_have_noted_the_same_in_other_words(tmp_path, caplog):
    """Its note stays, as it compares the whole text when it is started again."""
    path = tmp_path / "mail.db"
    note = "this-boot 2026-03-01T10:00:00.123456Z"
    (tmp_path / "mail.db.origin").write_text(note)
    path.write_text("state")

    copy_on_disk.remove_unless_of(path, "this-boot", CREATED)

    assert files(tmp_path) == {"mail.db": "state", "mail.db.origin": note}
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("boot", "created", "reason"),
    [
        ("next-boot", CREATED, "the machine was restarted since (this-boot was its boot id, "),
        ("this-boot", "2026-04-01", f"it is of a log that was created at {CREATED}, not at 2026-"),
        ("this-boot", "", f"it is of a log that was created at {CREATED}, not at "),
    ],
)
def test_a_copy_that_is_not_used_again_is_removed_and_the_reason_is_logged(
    tmp_path, caplog, boot, created, reason
):
    path = tmp_path / "mail.db"
    copy_on_disk.remove_unless_of(path, "this-boot", CREATED)
    for name in ("mail.db", "mail.db-wal", "mail.db-shm", "other.db"):
        (tmp_path / name).write_text("state")

    copy_on_disk.remove_unless_of(path, boot, created)

    assert files(tmp_path) == {"other.db": "state", "mail.db.origin": f"{boot} {created}"}
    assert f"mail.db is not used again: {reason}" in caplog.text


def test_where_it_is_unknown_which_boot_this_is_no_copy_is_used_again(tmp_path):
    missing = tmp_path / "boot_id"

    assert copy_on_disk.current_boot(missing) != copy_on_disk.current_boot(missing)
    missing.write_text("an id\n")
    assert copy_on_disk.current_boot(missing) == "an id"


def of_a_newer_version(path):
    """Change a file as a version with another schema does."""
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA user_version={VERSION + 1}")


async def texts(members):
    return [one.text for one in await everything(await members.client(), "g")]


@pytest.mark.programs
@pytest.mark.parametrize("is_trimmed", [False, True])
async def test_a_copy_with_the_schema_of_a_newer_version_is_replaced(members, is_trimmed, caplog):
    """As after a rollback."""
    member = await members.start("one")
    client = await members.inbox()
    for number in range(3):
        await client.send("inbox", str(number))
        if is_trimmed:
            await member.take_snapshot()
    await client.send("inbox", "last")
    await members.stop("one")
    of_a_newer_version(members.file("one"))

    await members.start("one")

    assert f"one.db is not used: it {NEWER}" in caplog.text
    assert await texts(members) == ["0", "1", "2", "last"]


async def spoil(member, directory, *snapshots):
    """Have snapshots be those of a newer version."""
    for snapshot in snapshots:
        await member.snapshots.fetch(snapshot, directory / "spoilt.db")
        of_a_newer_version(directory / "spoilt.db")
        await member.snapshots.add(directory / "spoilt.db", snapshot)


@pytest.mark.programs
async def test_a_snapshot_of_a_newer_version_is_not_used(members, tmp_path, caplog):
    member = await members.start("one")
    client = await members.inbox()
    for number in range(3):
        await client.send("inbox", str(number))
        await member.take_snapshot()
    newest, older = await member.snapshots.all()
    await spoil(member, tmp_path, newest)
    copy = members.file("two")

    await members.start("two")
    assert f"the snapshot {newest.sequence} is not used: it {NEWER}" in caplog.text
    assert await texts(members) == ["0", "1", "2"]
    await members.stop("two")

    await spoil(member, tmp_path, older)
    of_a_newer_version(copy)
    before = copy.read_bytes()
    with pytest.raises(UnusableFile) as refused:
        await members.start("two")
    assert f"no snapshot of the cluster is usable: the newest one {NEWER}" in str(refused.value)
    assert copy.read_bytes() == before  # it is what another release needs
    assert not any("fetched" in one.name for one in tmp_path.iterdir())
