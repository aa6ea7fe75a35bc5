"""What is answered to a request that is not: a status, a kind that programs read, and words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from llm_esr.config import in_our_words

_MOST_WORDS = 300


class RequestError(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        kind: one word that stays the same, such as `unknown_user`.
        words: what came, what was expected, and the remedy.

    """

    def __init__(self, status: int, kind: str, words: str) -> None:
        super().__init__(words)
        self.status, self.kind, self.words = status, kind, words

    def body(self) -> dict[str, Any]:
        """As it is answered."""
        return {"error": {"kind": self.kind, "message": self.words}}


class ErrorWords(BaseModel):
    """See `RequestError`."""

    kind: str
    message: str


class ErrorBody(BaseModel):
    """What every refused request is answered with."""

    error: ErrorWords


def of_validation(error: ValidationError) -> RequestError:
    """The first thing that is wrong with a body."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return RequestError(400, "no_json", f"the body is no JSON: {first['ctx']['error']}; send an object in UTF-8")
    place = ".".join(str(part) for part in first["loc"] if part not in {"str", "int", "float"})
    said = in_our_words(first["msg"])
    got = "" if first["type"] in {"missing", "value_error"} else f" (got {_short(first['input'])})"
    return RequestError(422, "bad_request", f"{place or 'the body'}: {said[:_MOST_WORDS]}{got}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
