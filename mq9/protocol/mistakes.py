"""What is said of a subject that is no request: which one may have been meant."""

from __future__ import annotations

import difflib
from itertools import chain
from typing import Final

from mq9.protocol.verbs import VERBS, OlderVerbs, Target, Verb

_MOST_COMPARED = 64  # characters of a subject
_REST: Final = {
    Target.BROKER: "",
    Target.MAILBOX: ".{mail_address}",
    Target.MESSAGE: ".{mail_address}.{msg_id}",
    Target.PRIORITY: ".{mail_address}.{priority}",
}
# Words of other systems, and of generations that may not be spoken.
_MEANT: Final = {
    f"{first}.{second}": verb
    for verb, first, words in (
        ("AGENT.DISCOVER", "AGENT", "FIND GET LIST LOOKUP QUERY SEARCH"),
        ("AGENT.REGISTER", "AGENT", "ANNOUNCE CREATE"),
        ("AGENT.REPORT", "AGENT", "HEARTBEAT PING STATUS"),
        ("AGENT.UNREGISTER", "AGENT", "DELETE DEREGISTER DROP REMOVE"),
        ("MAILBOX.CREATE", "MAILBOX", "NEW OPEN"),
        ("MAILBOX.DROP", "MAILBOX", "CLOSE DESTROY REMOVE"),
        ("MAILBOX.STATUS", "MAILBOX", "DESCRIBE GET INFO"),
        ("MSG.DELETE", "MSG", "DROP REMOVE"),
        ("MSG.FETCH", "MAILBOX", "READ RECEIVE"),
        ("MSG.FETCH", "MSG", "CONSUME GET PULL READ RECEIVE SUBSCRIBE"),
        ("MSG.QUERY", "MAILBOX", "LIST"),
        ("MSG.QUERY", "MSG", "BROWSE LIST PEEK"),
        ("MSG.SEND", "MAILBOX", "MSG"),
        ("MSG.SEND", "MSG", "POST PUB PUBLISH PUSH PUT"),
        ("PUBLIC.LIST", "MAILBOX", "PUBLIC"),
    )
    for second in words.split()
}
_BROADCAST = "BROADCAST"  # of an older generation; what is published there has no verb


def form(verb: Verb) -> str:
    """Return a verb as it stands in a subject, with what the subject names in braces."""
    return verb.name + _REST[verb.target]


def nearest(name: str, older: OlderVerbs) -> str:
    """Return what an error says of the subject that may have been meant by one without a verb.

    Args:
        name: The first two words of the subject.
        older: The verbs that there are beside those of the current generation.
    """
    name = name[:_MOST_COMPARED].upper()
    first, _, second = name.partition(".")
    if first == _BROADCAST and older:
        return f"the nearest is {_BROADCAST}.{{domain}}.{{event}}"
    there = {verb.name: verb for verb in chain(*older.values(), VERBS.values())}
    families = dict.fromkeys(verb.partition(".")[0] for verb in sorted(there))
    by_last_word = {verb.rpartition(".")[2]: verb for verb in there}
    word = second if first in families else first
    near = (name if name in there else None) or _MEANT.get(name) or by_last_word.get(word)
    if near is None:
        near = next(iter(difflib.get_close_matches(name, there, n=1)), None)
    if near is None:
        return f"verbs begin with {', '.join(families)}"
    return f"the nearest is {form(there[near])}"
