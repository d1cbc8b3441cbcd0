"""The screens that a desk has."""

from __future__ import annotations

from mq9.desk import live
from mq9.desk.pages import conversations, questions, stuck

ROUTES = [
    *questions.ROUTES,
    *conversations.ROUTES,
    *stuck.ROUTES,
    *live.ROUTES,
]
