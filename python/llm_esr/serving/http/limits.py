"""What one request may ask for, so that none can hold up the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Upper bounds.

    Attributes:
        body: bytes of a request.
        history: items of a history.
        lists: lists of a request: users, histories, or items asked about.
        k: items of a list.
        id: characters of an id.
        waiting: lists that wait for the model; beyond them requests are answered with 503.
        seconds: in which a body must have come.

    """

    body: int = 1 << 20
    history: int = 1000
    lists: int = 256
    k: int = 1000
    id: int = 256
    waiting: int = 4096
    seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"the server's limit {name} is {value!r}; expected a number above 0")
