"""Ask several questions at once, and get their answers even if the program is killed."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

from mq9 import address as addresses
from mq9.client import arguments
from mq9.client.answers import MOST_S, at_once, first_answers, once_there, stored_answers
from mq9.client.error_answers import ErrorAnswer
from mq9.client.ordered_reading import OrderedReading
from mq9.client.questions import QuestionMethods, lifetime_s
from mq9.errors import (
    Forbidden,
    InvalidRequest,
    LimitReached,
    MailboxNotFound,
    Mq9Error,
    NoReply,
    RequestFailed,
)
from mq9.models import Gathered, Message, Payload, Priority
from mq9.protocol import checks, requests

MOST_QUESTIONS = 1_000
FEWEST_ID_CHARS = 32
# The broker remembers idempotency ids this long. Older questions are in no mailbox.
QUESTION_TTL_S = 7 * 86_400
KEPT_S = 30 * 86_400  # answers are kept this long after the last call with an id

_CODE_CHARS = 32  # of hexadecimal: 128 bits

# Reasons that stop one question while others can be sent.
_REFUSALS = (Forbidden, LimitReached, MailboxNotFound)


@dataclass(frozen=True, slots=True)
class _Question:
    """A question, ready to send."""

    mail_address: str
    body: bytes
    correlation_id: str


class GatherMethods(QuestionMethods):
    """Ask several questions at once."""

    async def gather(
        self,
        questions: Iterable[tuple[str, Payload]],
        *,
        timeout: float = 30.0,
        minimum: int | None = None,
        id: str | None = None,  # noqa: A002  # as send calls it
        reply_to: str | None = None,
        priority: Priority | str = Priority.NORMAL,
        sender: str | None = None,
        path: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Gathered:
        """Ask several questions at once and return their answers, in the order of the questions.

        Without ``id`` the answers go to a private mailbox, as for ``request``. The client drops it
        afterwards.

        With ``id`` the answers go to a mailbox that stays for 30 days after the last call. A
        program that was killed can repeat the call. The client then sends no question twice and
        returns all answers so far, each once. Questions with the same mailbox and body are the
        same question. A question expires after seven days. If it has no answer by then, a later
        call sends it again. The first answer to a question counts. An error answer counts only
        while there is no good answer.

        If ``minimum`` needs mailboxes that do not exist yet, the client waits for them, for at most
        10 s of the ``timeout``.

        Args:
            questions: Up to 1 000 pairs of mailbox and question; see ``send``.
            timeout: Seconds to wait for the answers, more than 0. Default: 30.
            minimum: The number of answers that are enough at the end of ``timeout``. Default: all.
            id: An unguessable text of 32 to 256 characters, such as ``secrets.token_hex(16)``. Keep
                it with the work. It reveals the address of the answers.
            reply_to: With ``id``, an existing mailbox for the answers. Default: a mailbox whose
                address is derived from ``id``.
            priority: The priority of the questions. Default: ``normal``.
            sender: The name of the sender. With ``id``, pass the same name each time.
            path: The agents that this conversation has passed through.
            headers: The headers of the questions; see ``send``.

        Returns:
            A list of messages. It has None for each question without an answer.

        Raises:
            NoReply: Fewer than ``minimum`` answers arrived in time. They are in its ``gathered``.
            RequestFailed: So many agents gave their question up that ``minimum`` is out of reach.
                The answers so far are in its ``gathered``.
            MailboxNotFound: ``minimum`` is out of reach because mailboxes do not exist.
            LimitReached: ``minimum`` is out of reach because mailboxes are full or questions are
                too large.
            Forbidden: ``minimum`` is out of reach because this client may not send to mailboxes.

        Example:
            ```python
            questions = [("florist", "How many roses?"), ("florist", "How many tulips?")]
            for answer in await client.gather(questions, timeout=10, minimum=1):
                print("no answer" if answer is None else answer.text)
            ```
        """
        asked = _checked(questions)
        seconds = checks.seconds(above_zero=True)("timeout", timeout)
        enough = len(asked)
        if minimum is not None:
            enough = checks.whole(0, len(asked))("minimum", minimum)
        secret = None if checks.is_absent(id) else _checked_id(id)
        if secret is None and not checks.is_absent(reply_to):
            raise InvalidRequest("reply_to: it goes with an id")
        if secret is None:
            answered_at = self.new_address("reply")
        elif reply_to:
            answered_at = addresses.parse(reply_to)
        else:
            answered_at = f"gather.{_code(secret, b'reply mailbox')}"
        options = requests.Send(
            priority=arguments.priority(priority),
            ttl=lifetime_s(seconds) if secret is None else QUESTION_TTL_S,
            sender=sender,
            reply_to=answered_at,
            path=arguments.path(path),
            answer_by=self._in(seconds),
            headers=arguments.headers(headers),
        )
        wanted = _with_correlation_ids(secret or self.new_id(), asked)
        mailbox: AbstractAsyncContextManager[None] = nullcontext()
        if secret is None:
            mailbox = self._private_mailbox(answered_at, lifetime_s(seconds))
        elif not reply_to:
            await self.mailbox_create(name=answered_at, ttl=KEPT_S, renew=True)
        async with mailbox:
            found: dict[str, Message] = {}
            from_id = 0
            if secret is not None:
                ids = [one.correlation_id for one in wanted]
                found, from_id = await stored_answers(self, answered_at, ids)
            left = [one for one in wanted if one.correlation_id not in found]
            deadline_ms = self.clock.monotonic_ms() + round(seconds * 1000)
            refused = await self._ask(left, options)
            missing = [
                one for one in left if isinstance(refused.get(one.correlation_id), MailboxNotFound)
            ]
            if 0 < enough - (len(wanted) - len(refused)) <= len(missing):
                for one in missing:
                    del refused[one.correlation_id]
                refused |= await self._ask(missing, options, patience_s=min(seconds, MOST_S))
            if len(wanted) - len(refused) < enough:
                raise next(iter(refused.values()))
            given_up = sum(ErrorAnswer.read(one) is not None for one in found.values())
            found |= await first_answers(
                OrderedReading(self, answered_at, from_id),
                {one.correlation_id for one in left if one.correlation_id not in refused},
                clock=self.clock,
                seconds=max(0, deadline_ms - self.clock.monotonic_ms()) / 1000,
                most_failed=len(wanted) - len(refused) - given_up - enough,
            )
        return _gathered(wanted, found, refused, enough, seconds)

    async def _ask(
        self,
        questions: Sequence[_Question],
        options: requests.Send,
        *,
        patience_s: float = 0.0,
    ) -> dict[str, Mq9Error]:
        """Send questions. Return the errors of those that could not be sent, by correlation id."""
        deadline_ms = self.clock.monotonic_ms() + round(patience_s * 1000)

        async def ask(question: _Question) -> Mq9Error | None:
            which = question.correlation_id
            named = replace(options, id=f"question.{which}", correlation_id=which)
            address = question.mail_address

            async def send() -> None:
                await self._send(address, question.body, named)

            try:
                left_s = (deadline_ms - self.clock.monotonic_ms()) / 1000
                await once_there(send, address, clock=self.clock, seconds=left_s)
            except _REFUSALS as error:
                return error
            return None

        refusals = zip(questions, await at_once(ask, questions), strict=True)
        return {one.correlation_id: error for one, error in refusals if error is not None}


def _gathered(
    wanted: Sequence[_Question],
    found: Mapping[str, Message],
    refused: dict[str, Mq9Error],
    enough: int,
    seconds: float,
) -> Gathered:
    """Return the answers to some questions. Raise an error if there are too few."""
    failed: dict[str, RequestFailed] = {}
    for one in wanted:
        answer = found.get(one.correlation_id)
        failure = None if answer is None else ErrorAnswer.read(answer)
        if failure is not None:
            failed[one.correlation_id] = failure.as_error(one.mail_address)
    places = {one.correlation_id: place for place, one in enumerate(wanted)}
    gathered = Gathered(
        (None if one.correlation_id in failed else found.get(one.correlation_id) for one in wanted),
        correlation_ids=(one.correlation_id for one in wanted),
        refused={places[which]: error for which, error in (refused | failed).items()},
    )
    came = len(gathered.answers)
    if came >= enough:
        return gathered
    if len(wanted) - len(gathered.refused) < enough:
        error = next(iter(failed.values()))
        error.gathered = gathered
        raise error
    raise NoReply(
        f"{came} of {len(wanted)} answers came within {seconds:g} s, {enough} are needed", gathered
    )


def _checked(questions: Iterable[tuple[str, Payload]]) -> list[tuple[str, bytes]]:
    """Return questions as addresses and bytes."""
    asked: list[tuple[str, bytes]] = []
    for question in questions:
        if len(asked) == MOST_QUESTIONS:
            raise InvalidRequest(f"questions: there are more than {MOST_QUESTIONS}")
        try:
            address, body = question
        except (TypeError, ValueError):
            raise InvalidRequest(
                f"questions: {checks.shown(question)} is not a pair (mail_address, payload)"
            ) from None
        asked.append((addresses.parse(address), arguments.payload(body)))
    return asked


def _checked_id(value: object) -> str:
    text: str = checks.header_text("id", value)
    if len(text) < FEWEST_ID_CHARS:
        raise InvalidRequest(
            f"id: {len(text)} characters may be guessed, and with them where the answers are; "
            f"give {FEWEST_ID_CHARS} or more, such as secrets.token_hex(16)"
        )
    return text


def _with_correlation_ids(secret: str, asked: Iterable[tuple[str, bytes]]) -> list[_Question]:
    """Give each question a correlation id that is the same in each call.

    A question that occurs several times in a call gets several ids. They are unguessable, even if
    you know one of them.
    """
    times: Counter[tuple[str, bytes]] = Counter()
    questions = []
    for address, body in asked:
        number = times[address, body]
        code = _code(secret, f"question\0{address}\0{number}\0".encode() + body)
        questions.append(_Question(address, body, code))
        times[address, body] += 1
    return questions


def _code(secret: str, what: bytes) -> str:
    return hmac.new(secret.encode(), what, hashlib.sha256).hexdigest()[:_CODE_CHARS]
