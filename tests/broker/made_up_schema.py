"""A schema that does not exist: the one after today's, and the step to it.

The step adds a column, fills it, drops an index and makes a table, as steps of releases do.
"""

from mq9.storage import schema, store

STEP = """
ALTER TABLE mailboxes ADD COLUMN made_up TEXT NOT NULL DEFAULT '';
UPDATE mailboxes SET made_up=address;
CREATE TABLE made_up_too (mailbox INTEGER PRIMARY KEY, messages INTEGER NOT NULL) STRICT;
INSERT INTO made_up_too SELECT mailbox, count(*) FROM messages GROUP BY mailbox;
DROP INDEX groups_use;
"""
TODAY = schema.script()
NEXT = (
    TODAY.replace("CREATE INDEX groups_use ON groups (used_ms);\n", "").replace(
        "  address TEXT NOT NULL UNIQUE,\n",
        "  address TEXT NOT NULL UNIQUE,\n  made_up TEXT NOT NULL DEFAULT '',\n",
    )
    + STEP.splitlines()[3]
)


def install(set_attribute=setattr):
    """Have this process use the schema; ``monkeypatch.setattr`` does so for one test."""
    set_attribute(store, "VERSION", store.VERSION + 1)
    set_attribute(store, "_MIGRATIONS", {store.VERSION - 1: STEP})
    set_attribute(schema, "FORMER", frozenset({"groups_use"}))
    set_attribute(schema, "script", lambda: NEXT)
    forget()


def forget():
    """Have the schema be read again."""
    schema.of_engine.cache_clear()
    schema.expected.cache_clear()
