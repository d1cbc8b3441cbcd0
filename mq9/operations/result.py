"""The result of an operation, as a model gets it."""

from __future__ import annotations

import orjson
from pydantic import BaseModel, ConfigDict, Field


class Result(BaseModel):
    """What a model is told."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)

    unread: str | None = Field(
        default=None, description="What waits in your own mailbox, if anything."
    )

    no_longer_yours: str | None = Field(
        default=None, description="Messages whose lease you have lost; do not go on with them."
    )

    def content(self) -> str:
        """Return the result as compact JSON, without what does not apply."""
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True)).decode()
