"""What the tests of brokers on files share."""

import sqlite3

import pytest


@pytest.fixture
def path(tmp_path):
    """Of a database that is not there yet."""
    return tmp_path / "mq9.db"


@pytest.fixture
def url(path):
    return f"sqlite:///{path.as_posix()}"


@pytest.fixture
def statements(monkeypatch):
    """The SQL that is begun on connections made from now on, by anyone in this process."""
    begun = []
    connect = sqlite3.connect

    def connect_traced(*args, **options):
        connection = connect(*args, **options)
        connection.set_trace_callback(begun.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_traced)
    return begun
