"""Names of tools as they are offered, and texts that speak of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PASSAGE = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_NAME = re.compile(r"@([a-z]+(?:_[a-z]+)*)")


class ToolNames:
    """The operations that are offered, and the names of their tools.

    A text for a model names an operation as ``@fetch_messages``. A passage in ``[[…]]`` is kept
    only if all operations that it names are offered. Of ``[[…|…]]`` the first such alternative is
    kept. ``served`` has the tool's name of each offered operation; None offers all, under their own
    names.
    """

    def __init__(self, served: Mapping[str, str] | None = None) -> None:
        self._served = None if served is None else dict(served)

    def __contains__(self, operation: str) -> bool:
        return self._served is None or operation in self._served

    def text(self, template: str) -> str:
        """Return a text with the names of tools as they are served; never for others' words."""
        return _NAME.sub(self._served_name, _PASSAGE.sub(self._chosen, template))

    def _chosen(self, passage: re.Match[str]) -> str:
        return next(
            (
                one
                for one in passage[1].split("|")
                if all(operation in self for operation in _NAME.findall(one))
            ),
            "",
        )

    def _served_name(self, found: re.Match[str]) -> str:
        return found[1] if self._served is None else self._served[found[1]]
