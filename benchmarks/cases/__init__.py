"""All cases, in the order of the table."""

from benchmarks.cases import (
    backlog,
    cluster,
    cpu,
    crowd,
    fetch,
    file,
    growth,
    imports,
    langchain,
    mailboxes,
    mcp,
    sdk,
    send,
    tail,
)

CASES = (
    sdk.CASE,
    send.SEND,
    crowd.CASE,
    cpu.CASE,
    fetch.CASE,
    cluster.SEND,
    cluster.FETCH,
    send.FSYNC,
    file.CASE,
    langchain.CASE,
    mcp.CASE,
    backlog.FETCH,
    mailboxes.CASE,
    backlog.OPENING,
    backlog.DISK,
    imports.CASE,
    tail.CASE,
    *growth.CASES,
)
