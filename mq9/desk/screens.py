"""The screens that a desk has."""

from __future__ import annotations

from mq9.desk import live
from mq9.desk.pages import questions

ROUTES = [*questions.ROUTES, *live.ROUTES]
