"""The ways in which hosts talk to a model, one in each module.

Each has `PATH`, which the path of a request ends with, and three functions: `read` makes a `Prompt`
of the body of a request, and `call` and `say` make the events of the stream that answers it, as
pairs of an event's name, if it has one, and its data. One that is asked without a stream, too, has
`whole`, which makes one answer of such events.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Prompt:
    said: str
    tools: list[str]
    deferred: list[str] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)


def text_of(content):
    """Return the text of what is either text or a list of parts, some of which may have text."""
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return content or ""
