"""The results of the official conformance suite, and the checks that do not apply."""

import json
from pathlib import Path

CURRENT, OLDER = "2026-07-28", "2025-11-25"

_TOOLS = "calls tools of the suite's own server"
_PROMPTS = "gets prompts of the suite's own server"
_RESOURCES = "reads resources of the suite's own server"
_SCHEMA = "looks for a tool of the suite's own server"
_LOGS = "no log is sent to clients"
_STREAMS = "streams are not resumed"
_HEADERS = "no tool takes an argument in a header"
_FIXED = "the lists of tools and prompts never change"
_SESSIONS = "without sessions the server cannot send later messages"

_CALLS = ("simple-text", "image", "audio", "embedded-resource", "mixed-content", "error")
_BOTH = {
    **{f"tools-call-{one}": {f"tools-call-{one}": _TOOLS} for one in (*_CALLS, "with-progress")},
    "json-schema-2020-12": {"json-schema-2020-12-tool-found": _SCHEMA},
    **{
        f"resources-{one}": {f"resources-{one}": _RESOURCES}
        for one in ("read-text", "read-binary", "templates-read")
    },
    **{
        f"prompts-get-{one}": {f"prompts-get-{one}": _PROMPTS}
        for one in ("simple", "with-args", "embedded-resource", "with-image")
    },
}
_INPUTS = {
    "basic-elicitation": "elicitation-incomplete",
    "basic-sampling": "sampling-incomplete",
    "basic-list-roots": "list-roots-incomplete",
    "request-state": "request-state-incomplete",
    "multiple-input-requests": "multiple-inputs-incomplete",
    "multi-round": "multi-round-r1",
    "missing-input-response": "missing-response-rerequests",
    "result-type": "result-type-included",
    "tampered-state": "reject-tampered-state",
    "capability-check": "respect-client-capabilities",
    "ignore-extra-params": "ignore-unexpected-params",
}
_HEADER_CHECKS = (
    *("no-xmcp-tool", "decode-base64", "validate-param-match"),
    *("reject-invalid-param-chars", "reject-param-mismatch"),
)
_WITH_TOOLS = (
    *("server-rejects-undeclared-capability", "missing-capability-http-400"),
    *("http-server-no-independent-requests-on-stream", "server-no-log-without-loglevel"),
)

# The checks of each scenario that do not apply to this server, each with the reason.
APART = {
    OLDER: {
        **_BOTH,
        "tools-call-sampling": {"tools-call-sampling": _TOOLS},
        "tools-call-elicitation": {"tools-call-elicitation": _TOOLS},
        "elicitation-sep1034-defaults": {"elicitation-sep1034-general": _TOOLS},
        "elicitation-sep1330-enums": {"elicitation-sep1330-general": _TOOLS},
        "logging-set-level": {"logging-set-level": _LOGS},
        "tools-call-with-logging": {"tools-call-with-logging": _LOGS},
        "server-sse-polling": {
            "server-sse-priming-event": _STREAMS,
            "server-sse-retry-field": _STREAMS,
        },
    },
    CURRENT: {
        **_BOTH,
        **{
            f"input-required-result-{name}": {f"sep-2322-{check}": _TOOLS}
            for name, check in _INPUTS.items()
        },
        "input-required-result-non-tool-request": {"sep-2322-non-tool-incomplete": _PROMPTS},
        "http-custom-header-server-validation": {
            f"sep-2243-server-{check}": _HEADERS for check in _HEADER_CHECKS
        },
        "server-stateless": {
            **{f"sep-2575-{check}": _TOOLS for check in _WITH_TOOLS},
            **{
                f"sep-2575-server-sends-{one}-list-changed-on-subscription": _FIXED
                for one in ("prompts", "tools")
            },
        },
    },
}
# And those of a server that keeps no sessions, in the older protocol.
APART_WITHOUT_SESSIONS = {
    **APART[OLDER],
    "server-session-lifecycle": {"server-session-lifecycle-skipped": _SESSIONS},
    "server-sse-multiple-streams": {"server-sse-multiple-streams-session": _SESSIONS},
    "server-sse-polling": {
        **APART[OLDER]["server-sse-polling"],
        "server-sse-polling-session": _SESSIONS,
    },
    "resources-subscribe": {"resources-subscribe": _SESSIONS},
    "resources-unsubscribe": {"resources-unsubscribe": _SESSIONS},
}
# Each protocol, whether there are sessions, and how many scenarios and checks pass.
RUNS = {
    ("older", OLDER, True): (APART[OLDER], 11, 46),
    ("older, `--stateless`", OLDER, False): (APART_WITHOUT_SESSIONS, 7, 38),
    ("current", CURRENT, True): (APART[CURRENT], 11, 96),
    ("current, `--stateless`", CURRENT, False): (APART[CURRENT], 11, 96),
}


def version():
    """The version of the suite."""
    package = json.loads(Path(__file__).with_name("outside").joinpath("package.json").read_text())
    return package["dependencies"]["@modelcontextprotocol/conformance"]


def rows():
    """The table of results in docs/reference/mcp.md."""
    yield (
        "| protocol | scenarios that pass | not, or partly, applicable | checks that pass "
        "| not applicable | that fail |"
    )
    yield "|---|---|---|---|---|---|"
    for (name, protocol, _), (apart, scenarios, checks) in RUNS.items():
        skipped = sum(len(one) for one in apart.values())
        yield f"| {name} ({protocol}) | {scenarios} | {len(apart)} | {checks} | {skipped} | 0 |"
