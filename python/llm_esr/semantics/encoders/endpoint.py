"""Encoders behind an endpoint that speaks OpenAI's embeddings API: OpenAI's own, vLLM, Ollama, TEI and others.

    texts --batches, several requests at once--> POST URL/embeddings --checked, kept--> vectors of unit length

The key comes from the environment (`OPENAI_API_KEY`) alone and goes to the endpoint alone: never into a file, a message
or a plain connection to another machine.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EmbedConfig
from llm_esr.files import printable
from llm_esr.semantics.encoders.encoder import EncoderKind

if TYPE_CHECKING:
    from llm_esr.semantics.encoders.kept_vectors import KeptVectors

PREFIX = "openai:"
KEY = "OPENAI_API_KEY"
_DEFAULT_URL = "https://api.openai.com/v1"
_TRIES = 6
_LONGEST_WAIT = 60.0  # seconds between two tries
_MOST_BYTES = 256 << 20  # of an answer
_CHARACTERS_A_TOKEN = 4  # of English, about
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # statuses that another try may mend


@dataclass(frozen=True)
class Endpoint:
    """What `openai:MODEL@URL` names."""

    model: str
    url: str

    @classmethod
    def named(cls, argument: str) -> Endpoint:
        """Read `MODEL` or `MODEL@URL`.

        Raises:
            ValueError: no model, a URL that is none, or one that holds a password.

        """
        model, at, url = argument.partition("@")
        url = (url if at else _DEFAULT_URL).rstrip("/")
        try:
            parts = urlsplit(url)
            well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            well_formed = False
        if not model or not well_formed:
            raise ValueError(
                f"encoder '{PREFIX}{printable(argument)}': expected openai:MODEL@URL, such as "
                "openai:text-embedding-3-small@https://api.openai.com/v1"
            )
        if parts.username is not None or parts.password is not None or parts.query:
            raise ValueError(
                f"encoder '{PREFIX}{model}@...': the URL holds a user or a query; give the key in the environment "
                f"variable {KEY} alone"
            )
        return cls(model, url)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        return urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")


class EndpointError(ConnectionError):
    """An endpoint that gave no usable answer; what it answered before is kept."""


class EndpointEncoder:
    """Vectors from an endpoint.

    Args:
        endpoint: model and URL.
        batch_size: texts of a request.
        at_once: requests at once.
        per_minute: requests a minute at most; None: no limit.
        price: of a million tokens, for the line that says what it will cost.
        timeout: seconds that an answer may take.
        sleep: waits; tests replace it.

    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        batch_size: int = 64,
        at_once: int = 4,
        per_minute: int | None = None,
        price: float | None = None,
        timeout: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            import httpx  # noqa: PLC0415 (an extra)
        except ImportError:
            raise ImportError(
                f"encoder '{PREFIX}{endpoint.model}' needs httpx; install it with: pip install 'llm-esr[openai]'"
            ) from None
        self.endpoint = endpoint
        self.label = f"{PREFIX}{endpoint.model}@{endpoint.url}"
        self.kept: KeptVectors | None = None
        self._batch_size, self._at_once, self._price, self._sleep = batch_size, at_once, price, sleep
        self._pace = _Pace(per_minute, sleep)
        key = os.environ.get(KEY, "").strip()
        if key and urlsplit(endpoint.url).scheme == "http" and not endpoint.is_here:
            raise ValueError(
                f"encoder '{self.label}': the key of {KEY} would travel unencrypted; give an https URL, or unset {KEY} "
                "where the endpoint needs none"
            )
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._secret = key
        self._client = httpx.Client(timeout=timeout, headers=headers, follow_redirects=False)
        self._network_errors = (httpx.TransportError, httpx.DecodingError)
        self._width: int | None = None

    def fit(self, texts: Sequence[str]) -> None:
        """Ask for the first texts, which tells the width; a wrong name or key is found before anything is written."""
        if self.kept is not None and self.kept.width is not None:
            self._width = self.kept.width
        elif texts:
            self.encode(texts[: self._batch_size])

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        assert self._width is not None, "fit() asks for it"
        return self._width

    def cost(self, texts: Sequence[str]) -> str:
        """What encoding these texts will take, in words."""
        asked = [text for text in dict.fromkeys(texts) if self.kept is None or text not in self.kept]
        tokens = sum(len(text) for text in asked) / _CHARACTERS_A_TOKEN
        requests = math.ceil(len(asked) / self._batch_size)
        line = f"{self.label}: {len(asked):,} texts, about {tokens:,.0f} tokens, {requests:,} requests"
        if self.kept is not None and len(self.kept):
            line += f"; {len(self.kept):,} vectors are there from before"
        return line + (f"; about {tokens / 1e6 * self._price:,.2f} at {self._price:g} a million" if self._price else "")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, [n, E]; a text that was answered before is not asked for.

        Raises:
            EndpointError: no usable answer after several tries.

        """
        known: dict[str, NDArray[np.float32]] = {}
        distinct = list(dict.fromkeys(texts))
        if self.kept is not None:
            held = [text for text in distinct if text in self.kept]
            if held:
                known = dict(zip(held, self.kept.of(held), strict=True))
        missing = [text for text in distinct if text not in known]
        batches = [missing[i : i + self._batch_size] for i in range(0, len(missing), self._batch_size)]
        with ThreadPoolExecutor(max_workers=max(1, min(self._at_once, len(batches)))) as workers:
            waiting = [workers.submit(self._ask, batch) for batch in batches]
            try:
                for batch, answer in zip(batches, waiting, strict=True):
                    vectors = answer.result()
                    if self.kept is not None:
                        self.kept.add(batch, vectors)
                    known |= zip(batch, vectors, strict=True)
            except BaseException:
                for answer in waiting:
                    answer.cancel()
                raise
        if not texts:
            return np.zeros((0, self._width or 0), dtype=np.float32)
        return np.stack([known[text] for text in texts])

    def _ask(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """One request, tried again while trying may help."""
        trouble, pause = "", None
        for attempt in range(_TRIES):
            if attempt:
                self._sleep(self._wait(attempt, pause))
            self._pace.wait()
            try:
                status, body, pause = self._post({"model": self.endpoint.model, "input": list(batch)})
            except self._network_errors as error:
                trouble, pause = f"no answer ({type(error).__name__})", None
                continue
            if status == 200:
                found = self._vectors(body, len(batch))
                if not isinstance(found, str):
                    return found
                trouble = found
            elif status in _AGAIN:
                trouble = f"status {status}: {self._said(body)}"
            else:
                raise EndpointError(f"encoder {self.label}: status {status}: {self._said(body)}{_remedy(status)}")
        raise EndpointError(
            f"encoder {self.label}: {trouble}, {_TRIES} times; the same command asks for what is missing"
        )

    def _post(self, question: dict[str, Any]) -> tuple[int, bytes, float | None]:
        """Status, body (at most `_MOST_BYTES`) and the seconds that the answer says to wait."""
        body = bytearray()
        with self._client.stream("POST", f"{self.endpoint.url}/embeddings", json=question) as answer:
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    return 200, b"", None
            return answer.status_code, bytes(body), _seconds(answer.headers.get("retry-after"))

    def _vectors(self, body: bytes, count: int) -> NDArray[np.float32] | str:
        """The vectors of an answer, or what is wrong with it in words."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return f"an answer that is no JSON ({len(body):,} bytes)"
        rows = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(rows, list) or len(rows) != count:
            came = len(rows) if isinstance(rows, list) else "no"
            return f"{came} vectors for {count} texts"
        by_place: dict[int, Any] = {}
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                return "an entry of 'data' that is no object"
            by_place[row.get("index", place)] = row.get("embedding")
        if set(by_place) != set(range(count)):
            return "indices that are not those of the texts"
        return self._checked([by_place[place] for place in range(count)])

    def _checked(self, rows: list[Any]) -> NDArray[np.float32] | str:
        widths = {len(row) if isinstance(row, list) else -1 for row in rows}
        if len(widths) != 1 or min(widths) < 1:
            return f"vectors of several widths or none: {sorted(widths)[:5]}"
        (width,) = widths
        if self._width not in (None, width):
            return f"vectors of width {width} after others of width {self._width}"
        try:
            with np.errstate(over="ignore"):
                vectors = np.asarray(rows, dtype=np.float64).astype(np.float32)
        except (ValueError, TypeError):
            return "vectors that are no lists of numbers"
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        if vectors.ndim != 2 or not np.isfinite(lengths).all():
            return "vectors with NaN or infinity"
        self._width = width
        unit: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)[:, None]).astype(np.float32)
        return unit

    def _said(self, body: bytes) -> str:
        """What an endpoint says of a failure, on one line, never with the key in it."""
        try:
            answer = json.loads(body)
            error = answer.get("error", answer) if isinstance(answer, dict) else answer
            said = error.get("message", error) if isinstance(error, dict) else error
        except (ValueError, RecursionError):
            said = body[:1000].decode("utf-8", "replace")
        line = " ".join(printable(str(said)).split())[:300] or "no reason given"
        return line.replace(self._secret, "[key]") if self._secret else line

    @staticmethod
    def _wait(attempt: int, said: float | None) -> float:
        """Seconds before a try: what the endpoint says, else 1, 2, 4, ... and up to half as much again by chance."""
        if said is not None:
            return min(said, _LONGEST_WAIT)
        return min(2.0 ** (attempt - 1), _LONGEST_WAIT) * (1 + random.random() / 2)


class _Pace:
    """At most so many requests a minute, over all threads."""

    def __init__(self, per_minute: int | None, sleep: Callable[[float], None]) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._sleep, self._lock, self._next = sleep, threading.Lock(), 0.0

    def wait(self) -> None:
        """Return when the next request may go."""
        if not self._gap:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._gap
        if start > now:
            self._sleep(start - now)


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds; None for none, a date, or nonsense."""
    try:
        seconds = float(header) if header is not None else math.nan
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _remedy(status: int) -> str:
    return {
        400: "; a text may be too long: lower embed.max_characters, or embed.batch_size",
        401: f"; set the key in the environment variable {KEY}",
        403: f"; the key of {KEY} may not use this model",
        404: "; check the model's name and the URL, which ends before /embeddings",
        413: "; lower embed.batch_size or embed.max_characters",
    }.get(status, "")


def _identity(argument: str) -> dict[str, str]:
    endpoint = Endpoint.named(argument)
    return {"name": f"{PREFIX}{endpoint.model}@{endpoint.url}"}


def _make(argument: str, config: EmbedConfig) -> EndpointEncoder:
    return EndpointEncoder(
        Endpoint.named(argument),
        batch_size=config.batch_size,
        at_once=config.requests_at_once,
        per_minute=config.requests_per_minute,
        price=config.price_per_million_tokens,
    )


ENDPOINT = EncoderKind("openai:MODEL@URL", _identity, _make)
