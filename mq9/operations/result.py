"""The result of an operation, as a model gets it."""

from __future__ import annotations

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema


class Result(BaseModel):
    """What a model is told."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True, defer_build=True)

    unread: str | None = Field(
        default=None, description="What waits in your own mailbox, if anything."
    )

    # Said seldom: in no schema, since a model would pay for it with every tool.
    no_longer_yours: SkipJsonSchema[str | None] = Field(
        default=None, description="Messages whose leases you have lost, and what became of them."
    )

    def content(self) -> str:
        """Return the result as compact JSON, without what does not apply."""
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True)).decode()
