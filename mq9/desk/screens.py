"""The screens that a desk has."""

from __future__ import annotations

from mq9.desk import live
from mq9.desk.pages import agents, conversations, mailboxes, questions, stuck

ROUTES = [
    *questions.ROUTES,
    *conversations.ROUTES,
    *agents.ROUTES,
    *stuck.ROUTES,
    *mailboxes.ROUTES,
    *live.ROUTES,
]
