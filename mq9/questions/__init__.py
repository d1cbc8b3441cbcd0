"""Questions that programs mail to people, and what may be answered to them.

Whoever asks and whoever answers share this format: ``langchain_mq9`` asks, ``mq9 inbox`` and
``mq9 reply`` show and answer.
"""

from mq9.questions.answers import (
    InvalidAnswer,
    answer_of,
    check_answer,
    decision_word,
    decisions_of,
)
from mq9.questions.question import DECISIONS, TAG, Action, Question, closed, closing_note
from mq9.questions.receipt import RECEIPTS, Outcome, Receipt

__all__ = [
    "DECISIONS",
    "RECEIPTS",
    "TAG",
    "Action",
    "InvalidAnswer",
    "Outcome",
    "Question",
    "Receipt",
    "answer_of",
    "check_answer",
    "closed",
    "closing_note",
    "decision_word",
    "decisions_of",
]
