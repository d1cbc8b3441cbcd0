"""The file of a gateway's copy, and when it is not used again."""

from mq9.cluster import copy_on_disk


def files(directory):
    return {one.name: one.read_text() for one in directory.iterdir()}


def test_a_copy_is_used_again_as_long_as_the_machine_runs(tmp_path):
    path = tmp_path / "mail.db"
    copy_on_disk.remove_unless_of(path, "this boot")
    path.write_text("state")

    copy_on_disk.remove_unless_of(path, "this boot")

    assert files(tmp_path) == {"mail.db": "state", "mail.db.origin": "this boot"}


def test_one_from_before_the_machine_started_is_removed(tmp_path):
    path = tmp_path / "mail.db"
    copy_on_disk.remove_unless_of(path, "this boot")
    for name in ("mail.db", "mail.db-wal", "mail.db-shm", "other.db"):
        (tmp_path / name).write_text("state")

    copy_on_disk.remove_unless_of(path, "the next boot")

    assert files(tmp_path) == {"other.db": "state", "mail.db.origin": "the next boot"}


def test_where_it_is_unknown_which_boot_this_is_no_copy_is_used_again(tmp_path):
    missing = tmp_path / "boot_id"

    assert copy_on_disk.current_boot(missing) != copy_on_disk.current_boot(missing)
    missing.write_text("an id\n")
    assert copy_on_disk.current_boot(missing) == "an id"
