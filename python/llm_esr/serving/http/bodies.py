"""What requests and answers hold, as pydantic models: they are the OpenAPI page, too."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

Id = StrictStr | StrictInt | StrictFloat


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecommendBody(_Asked):
    """Lists for known users, or for histories of people who need not be known."""

    users: list[Id] | None = Field(None, description="Known users; everything they did is read.")
    histories: list[list[Id]] | None = Field(None, description="Item ids, oldest first; unknown ones are left out.")
    k: StrictInt = Field(10, ge=1, description="Items of a list.")
    include: list[Id] | None = Field(None, description="Only these items.")
    exclude: list[Id] | None = Field(None, description="None of these items.")
    keep_seen: StrictBool = Field(False, description="Let items of the history come back.")

    @model_validator(mode="after")
    def _one_of_both(self) -> RecommendBody:
        if (self.users is None) == (self.histories is None):
            came = "neither" if self.users is None else "both"
            raise ValueError(f"give users (known ones) or histories (lists of item ids), got {came}")
        return self


class SimilarBody(_Asked):
    """Items that are like some items."""

    items: list[Id] = Field(description="Known items.")
    k: StrictInt = Field(10, ge=1, description="Items of a list.")
    by: Literal["text", "trained", "co-occurrence"] | None = Field(
        None, description="What makes items similar; null: the first of these that there is."
    )


class Item(BaseModel):
    """One place of a list."""

    item_id: str
    score: float
    title: str | None = None


class ListFor(BaseModel):
    """A list, best first: of a user, of a history by its place, or of items like one."""

    user_id: str | None = None
    history: int | None = None
    similar_to: str | None = None
    items: list[Item]
    unknown_items: list[str] | None = Field(None, description="Items of the history that the model does not know.")


class Answer(BaseModel):
    """Lists in the order asked for."""

    model: str
    lists: list[ListFor]


class Health(BaseModel):
    """What is served."""

    status: Literal["ok"]
    model: str
    users: int
    items: int
    loaded: str = Field(description="When the model was loaded, UTC.")
    last_reload_failed: str | None = Field(None, description="Why the newest attempt to swap the model failed.")
