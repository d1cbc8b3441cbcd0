"""The NATS subjects of requests: ``$mq9.AI.<verb>``, then the mailbox and message."""

from __future__ import annotations

import difflib
import re
from itertools import chain
from typing import Any, Final

from mq9 import address
from mq9.address import shown
from mq9.errors import InvalidAddress, InvalidRequest
from mq9.protocol.body import Body, Named
from mq9.protocol.older_priorities import STORED_AS
from mq9.protocol.verbs import NO_OLDER_VERBS, VERBS, OlderVerbs, Target, Verb, verb_of

_MOST_COMPARED = 64  # characters of a subject
_REST: Final = {
    Target.BROKER: "",
    Target.MAILBOX: ".{mail_address}",
    Target.MESSAGE: ".{mail_address}.{msg_id}",
    Target.PRIORITY: ".{mail_address}.{priority}",
}
# Verbs of other systems and of disabled generations, for hints in errors.
_MEANT: Final = {
    f"{first}.{second}": verb
    for verb, first, words in (
        ("AGENT.DISCOVER", "AGENT", "FIND GET LIST QUERY SEARCH"),
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
_BROADCAST = "BROADCAST"  # of an older generation; its subjects have no verb


def form(verb: Verb) -> str:
    """Return the form of a verb's subjects, with placeholders in braces."""
    return verb.name + _REST[verb.target]


def nearest(name: str, older: OlderVerbs) -> str:
    """Return the hint of an error: the verb that the two words ``name`` may have meant."""
    name = name[:_MOST_COMPARED].upper()
    first, _, second = name.partition(".")
    if first == _BROADCAST and older:
        return f"the nearest is {_BROADCAST}.{{domain}}.{{event}}"
    verbs = {verb.name: verb for verb in chain(*older.values(), VERBS.values())}
    families = dict.fromkeys(verb.partition(".")[0] for verb in sorted(verbs))
    by_last_word = {verb.rpartition(".")[2]: verb for verb in verbs}
    word = second if first in families else first
    near = (name if name in verbs else None) or _MEANT.get(name) or by_last_word.get(word)
    if near is None:
        near = next(iter(difflib.get_close_matches(name, verbs, n=1)), None)
    if near is None:
        return f"verbs begin with {', '.join(families)}"
    return f"the nearest is {form(verbs[near])}"


ROOT = "$mq9.AI."
# NATS permissions decide who may publish to the subjects of a caller: ``$mq9.as.<caller>.AI.…``.
AS_CALLER = "$mq9.as."
_CALLER = re.compile(r"[A-Za-z0-9_-]{1,128}")


def check_caller(where: str, caller: object) -> str:
    """Return the name of a caller; raise InvalidRequest if it is not one token of a subject."""
    if not isinstance(caller, str) or not _CALLER.fullmatch(caller):
        raise InvalidRequest(
            f"{where}: {shown(caller)} is not the name of a caller; use 1 to 128 of A-Z, a-z, 0-9, "
            "- and _"
        )
    return caller


def root_of(caller: str | None) -> str:
    """Return the beginning of the subjects of a caller, or of anonymous clients."""
    return ROOT if caller is None else f"{AS_CALLER}{caller}.AI."


def split_caller(subject: str) -> tuple[str | None, str]:
    """Return the caller that a subject names, or None, and the subject without it."""
    if not subject.startswith(AS_CALLER):
        return None, subject
    caller, _, rest = subject.removeprefix(AS_CALLER).partition(".")
    return caller, f"$mq9.{rest}"


def encode(request: type[Body[Any]], mail_address: str = "", msg_id: int | None = None) -> str:
    """Return the subject of a kind of request."""
    verb = verb_of(request)
    if verb.target is Target.BROKER:
        return f"{ROOT}{verb.name}"
    if verb.target is Target.MESSAGE:
        return f"{ROOT}{verb.name}.{mail_address}.{msg_id}"
    return f"{ROOT}{verb.name}.{mail_address}"


def decode(
    subject: str, payload: bytes = b"", older: OlderVerbs = NO_OLDER_VERBS
) -> tuple[Verb, Named]:
    """Return the verb and the names in a subject; ``payload`` decides between verbs."""
    return meant(meanings(subject, older), payload)


def meanings(subject: str, older: OlderVerbs) -> tuple[tuple[Verb, Named], ...]:
    """Return the possible meanings of a subject: verbs of one name, the current one last."""
    if not subject.startswith(ROOT):
        raise InvalidRequest(f"subject: {shown(subject)} does not start with {ROOT}")
    first, _, rest = subject.removeprefix(ROOT).partition(".")
    second, _, tail = rest.partition(".")
    name = f"{first}.{second}"
    if name not in older and name not in VERBS and first in older:
        name, tail = first, rest
    current = VERBS.get(name)
    verbs = older.get(name, ()) if current is None else (*older.get(name, ()), current)
    if not verbs:
        raise InvalidRequest(
            f"subject: {shown(subject)} is not a verb of mq9; {nearest(name, older)}"
        )
    return tuple((verb, _named(subject, verb, tail)) for verb in verbs)


def meant(found: tuple[tuple[Verb, Named], ...], payload: bytes) -> tuple[Verb, Named]:
    """Return the meaning of a subject for a payload: the first verb that claims it."""
    for verb, named in found:
        if verb.claims is None or verb.claims(payload):
            return verb, named
    raise AssertionError("the last verb of a name is meant by whatever no other claims")


def _named(subject: str, verb: Verb, tail: str) -> Named:
    if verb.target is Target.BROKER:
        if subject != ROOT + verb.name:
            raise InvalidRequest(
                f"subject: {shown(subject)} has more than {verb.name} takes; the rest is its body"
            )
        return Named()
    if verb.target is Target.MAILBOX:
        return Named(_address(subject, verb, tail))
    mail_address, _, last = tail.rpartition(".")
    if verb.target is Target.PRIORITY:
        if last in STORED_AS:
            return Named(_address(subject, verb, mail_address), priority=last)
        return Named(_address(subject, verb, tail))
    if not (last.isascii() and last.isdigit() and len(last) <= 16):
        raise InvalidRequest(
            f"msg_id: {shown(last)} at the end of the subject is not a message id; "
            f"the subject is {ROOT}{form(verb)}"
        )
    return Named(_address(subject, verb, mail_address), int(last))


def _address(subject: str, verb: Verb, mail_address: str) -> str:
    if not mail_address:
        raise InvalidAddress(
            f"invalid mail_address: {shown(subject)} names no mailbox; "
            f"the subject is {ROOT}{form(verb)}"
        )
    return address.parse(mail_address)
