"""Several questions at once, and their answers, also after the program was killed meanwhile."""

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
# As long as the broker remembers an idempotency id: a question that is older is in no mailbox.
QUESTION_TTL_S = 7 * 86_400
KEPT_S = 30 * 86_400  # how long answers are kept after the last call with an id

_CODE_CHARS = 32  # of hexadecimal: 128 bits

# Why one question cannot be sent while others can.
_REFUSALS = (Forbidden, LimitReached, MailboxNotFound)


@dataclass(frozen=True, slots=True)
class _Question:
    """A question as it is sent."""

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

        Without ``id`` they are answered to a private mailbox, dropped afterwards, as ``request``
        does it.

        With ``id`` they are answered to a mailbox that stays for 30 days after the last call, so
        that a program that was killed may make the same call again: it asks nobody twice, and
        returns what came before and since, each answer once. A question is the same when its
        mailbox and its body are. It can be read for seven days; a later call asks it anew if it was
        not answered. The first answer to a question counts; an error answer does not count once a
        good answer has come.

        Where ``minimum`` cannot be reached without mailboxes that do not exist yet, the client
        waits for them, 10 s of the ``timeout`` at most.

        Args:
            questions: Pairs of whom to ask, a mailbox, and what, see ``send``; up to 1 000.
            timeout: Seconds to wait for the answers; more than 0.
            minimum: With how many answers to be content at the end of that time; all by default.
            id: An unguessable text of 32 to 256 characters, such as ``secrets.token_hex(16)``, that
                is kept with the work. Who knows it can tell where the answers are.
            reply_to: With ``id``, a mailbox to use that is there, in place of one for this id.
            priority: The priority of the questions.
            sender: Who asks; with ``id``, the same each time.
            path: The agents that this conversation has passed through.
            headers: The headers of the questions; see ``send``.

        Returns:
            A list of messages; None where no answer came.

        Raises:
            NoReply: Fewer than ``minimum`` answers came in time, which are its ``gathered``.
            RequestFailed: So many agents gave their question up that ``minimum`` cannot be
                reached; its ``gathered`` has what came until then.
            MailboxNotFound: So many mailboxes are not there that ``minimum`` cannot be reached.
            LimitReached: The same, where they are full or the questions too large.
            Forbidden: The same, where one may not send there.

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
        """Send questions; return, by correlation id, why some could not be sent."""
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
    """Return what came of some questions."""
    failed: dict[str, RequestFailed] = {}
    for one in wanted:
        answer = found.get(one.correlation_id)
        told = None if answer is None else ErrorAnswer.read(answer)
        if told is not None:
            failed[one.correlation_id] = told.as_error(one.mail_address)
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
    """Return questions as they are sent."""
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
    """Give each question a correlation id, the same for the same question each time.

    A question that is asked several times at once has several. Who knows one cannot tell another.
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
