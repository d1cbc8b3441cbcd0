"""Checkpoints beside the commits: their end, and what a connection of theirs may do."""

import sqlite3
import threading
from contextlib import closing

from mq9.storage import store
from mq9.storage.checkpoints import Checkpoints


def test_one_that_is_being_made_is_waited_for_at_the_end(tmp_path, monkeypatch):
    begun, released = threading.Event(), threading.Event()

    def hold(_checkpoints):
        begun.set()
        assert released.wait(60)

    monkeypatch.setattr(Checkpoints, "_make", hold)
    path = tmp_path / "mq9.db"
    with closing(store.open_file(path)):
        checkpoints = Checkpoints(store.open_for_checkpoints(path))
        checkpoints.begin()
        assert begun.wait(60)
        ending = threading.Thread(target=checkpoints.end)
        ending.start()
        ending.join(0.05)
        assert ending.is_alive()
        released.set()
        ending.join(60)
        assert not ending.is_alive()


def test_what_is_in_the_log_is_written_into_the_file_and_commits_need_not_wait(tmp_path):
    path = tmp_path / "mq9.db"
    with closing(store.open_file(path)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("CREATE TABLE some (thing TEXT)")
        checkpoints = Checkpoints(store.open_for_checkpoints(path))
        before = path.stat().st_size
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO some VALUES ('uncommitted')")
        checkpoints.begin()
        while checkpoints.is_busy:
            checkpoints.wait()
        writer.execute("COMMIT")
        assert path.stat().st_size > before
        checkpoints.end()
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as alone:
            assert alone.execute("SELECT count(*) FROM some").fetchone() == (0,)
