"""The picture of senders and mailboxes: positions of its circles, arrows and words."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mq9.models import Link

_MOST = 24  # circles; the table next to the picture has all
_RADIUS = 14.0  # of a circle
_ROW = 64.0  # pixels that each circle needs on the round
_MARGIN = 150.0  # for the labels around the circle
_MOST_CHARS = 18


@dataclass(frozen=True, slots=True)
class Circle:
    """An agent or a mailbox.

    Attributes:
        name: Its full name.
        label: The name, cut to the room.
        x: The x of its centre.
        y: The y of its centre.
        text_x: The x of its label.
        anchor: ``start``, ``middle`` or ``end``, for the label.
        is_known: Whether it is a mailbox, a registered agent or a sender that the broker knows.
    """

    name: str
    label: str
    x: float
    y: float
    text_x: float
    text_y: float
    anchor: str
    is_known: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """Messages from one to another: an SVG path, its width, and its meaning."""

    path: str
    width: float
    told: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture, in pixels."""

    width: float
    height: float
    radius: float
    circles: tuple[Circle, ...]
    arrows: tuple[Arrow, ...]
    left_out: int


def picture_of(
    links: Sequence[Link], mailbox_of: Mapping[str, str], registered: Collection[str] = ()
) -> Picture | None:
    """Draw the senders and receivers with the most messages between them, on a circle.

    Args:
        links: Senders, and the mailboxes of their messages.
        mailbox_of: The mailboxes of agents; each is drawn as one with its agent.
        registered: The senders that are registered agents.

    Returns:
        The picture; None without messages.
    """
    name_of = {mailbox: name for name, mailbox in mailbox_of.items()}
    counts: dict[tuple[str, str], int] = {}
    known: dict[str, bool] = {}
    weight: dict[str, int] = {}
    for one in links:
        if one.sender is None:
            continue
        target = name_of.get(one.mail_address, one.mail_address)
        pair = one.sender, target
        counts[pair] = counts.get(pair, 0) + one.count
        is_known = one.verified or one.sender in registered
        known[one.sender] = known.get(one.sender, False) or is_known
        known[target] = True
        for name in set(pair):
            weight[name] = weight.get(name, 0) + one.count
    if not counts:
        return None
    chosen = sorted(weight, key=lambda name: (-weight[name], name))[:_MOST]
    names = sorted(chosen)
    around = max(90.0, len(names) * _ROW / math.tau)
    middle_x, middle_y = around + _MARGIN, around + 40
    circles = {
        name: _circle(name, middle_x, middle_y, around, number / len(names), known[name])
        for number, name in enumerate(names)
    }
    most = max(counts.values())
    arrows = tuple(
        _arrow(circles[sender], circles[target], count, most)
        for (sender, target), count in sorted(counts.items())
        if sender in circles and target in circles
    )
    return Picture(
        width=2 * middle_x,
        height=2 * middle_y,
        radius=_RADIUS,
        circles=tuple(circles.values()),
        arrows=arrows,
        left_out=len(weight) - len(names),
    )


def _circle(
    name: str, middle_x: float, middle_y: float, around: float, part: float, is_known: bool
) -> Circle:
    angle = math.tau * part - math.pi / 2
    across, down = math.cos(angle), math.sin(angle)
    x, y = middle_x + around * across, middle_y + around * down
    beside = _RADIUS + 6
    if abs(across) < 0.3:  # above or below the round
        anchor, text_x, text_y = "middle", x, y + (beside + 10 if down > 0 else -beside)
    else:
        anchor, text_x = ("start", x + beside) if across > 0 else ("end", x - beside)
        text_y = y + 5
    label = name if len(name) <= _MOST_CHARS else f"{name[: _MOST_CHARS - 1]}…"
    return Circle(
        name, label, _whole(x), _whole(y), _whole(text_x), _whole(text_y), anchor, is_known
    )


def _arrow(sender: Circle, target: Circle, count: int, most: int) -> Arrow:
    width = round(1.5 + 3.5 * math.log1p(count) / math.log1p(most), 1)
    told = f"{sender.name} to {target.name}: {count}"
    if sender is target:
        x, y = sender.x, sender.y - _RADIUS
        loop = f"M {x - 6:g} {y:g} C {x - 26:g} {y - 34:g} {x + 26:g} {y - 34:g} {x + 6:g} {y:g}"
        return Arrow(loop, width, told)
    across, down = target.x - sender.x, target.y - sender.y
    length = math.hypot(across, down) or 1.0
    across, down = across / length, down / length
    # Bent to its right, so that it does not cover the arrow in the other direction.
    bend_x = (sender.x + target.x) / 2 - down * length * 0.12
    bend_y = (sender.y + target.y) / 2 + across * length * 0.12
    gap = _RADIUS + 8
    return Arrow(
        f"M {_whole(sender.x + across * _RADIUS):g} {_whole(sender.y + down * _RADIUS):g}"
        f" Q {_whole(bend_x):g} {_whole(bend_y):g}"
        f" {_whole(target.x - across * gap):g} {_whole(target.y - down * gap):g}",
        width,
        told,
    )


def _whole(pixels: float) -> float:
    return float(round(pixels))
