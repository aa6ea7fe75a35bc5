"""Encoders behind an endpoint, against a server that answers by a script: well, badly, late and not at all."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

import llm_esr
from llm_esr.config import EmbedConfig
from llm_esr.semantics.encoders import encoder_identity, make_encoder
from llm_esr.semantics.encoders.endpoint import Endpoint, EndpointEncoder, EndpointError
from llm_esr.semantics.encoders.kept_vectors import KeptVectors

pytest.importorskip("httpx", reason="the extra openai is not installed")

WIDTH = 8
Step = Callable[["Handler", list[str]], None]


def vector(text: str) -> list[float]:
    """A vector that a text alone decides."""
    digest = hashlib.sha256(text.encode()).digest()
    return [digest[i] / 255 + 0.01 for i in range(WIDTH)]


def unit(texts: list[str]) -> NDArray[np.float32]:
    vectors = np.asarray([vector(text) for text in texts])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def rows_of(texts: list[str]) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(texts)]


class Server(ThreadingHTTPServer):
    """Answers each request by the next step of its script, and well when the script is over."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Step] = []
        self.asked: list[list[str]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body["input"])
            self.server.keys.append(self.headers.get("Authorization"))
            step = self.server.script.pop(0) if self.server.script else well
        step(self, body["input"])

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


def well(handler: Handler, texts: list[str]) -> None:
    handler.say(200, json.dumps({"data": rows_of(texts)}).encode())


def status(code: int, body: bytes = b'{"error": {"message": "not now"}}', **headers: str) -> Step:
    return lambda handler, texts: handler.say(code, body, **headers)


def raw(body: bytes) -> Step:
    return lambda handler, texts: handler.say(200, body)


def changed(change: Callable[[list[dict[str, Any]]], Any]) -> Step:
    """A good answer, changed."""
    return lambda handler, texts: handler.say(200, json.dumps({"data": change(rows_of(texts))}).encode())


def hang_up(handler: Handler, texts: list[str]) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def cut_short(handler: Handler, texts: list[str]) -> None:
    body = json.dumps({"data": rows_of(texts)}).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def late(handler: Handler, texts: list[str]) -> None:
    time.sleep(0.6)
    well(handler, texts)


def false_gzip(handler: Handler, texts: list[str]) -> None:
    handler.say(200, b"no gzip", Content_Encoding="gzip")


def with_embedding(value: Any) -> Step:
    return changed(lambda rows: [{**rows[0], "embedding": value}, *rows[1:]])


# After each of these one more try is answered well.
MENDED: dict[str, Step] = {
    "408": status(408),
    "409": status(409),
    "425": status(425),
    "429": status(429),
    "429 that says how long": status(429, Retry_After="3"),
    "429 with a date": status(429, Retry_After="Mon, 30 Nov 2026 12:00:00 GMT"),
    "429 with nonsense": status(429, Retry_After="soon"),
    "429 for ever": status(429, Retry_After="1e9"),
    "500": status(500),
    "500 without a body": status(500, b""),
    "500 in HTML": status(500, b"<html>oops</html>"),
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "529": status(529),
    "hung up": hang_up,
    "cut short": cut_short,
    "late": late,
    "false gzip": false_gzip,
    "empty": raw(b""),
    "no JSON": raw(b"<html></html>"),
    "truncated JSON": raw(b'{"data": [{"index": 0, "embedding": [0.1'),
    "deep JSON": raw(b"[" * 100_000),
    "a list": raw(b"[]"),
    "no data": raw(b"{}"),
    "data that is no list": raw(b'{"data": 7}'),
    "too few": changed(lambda rows: rows[:-1]),
    "too many": changed(lambda rows: [*rows, rows[0]]),
    "an index twice": changed(lambda rows: [{**row, "index": 0} for row in rows]),
    "an index too high": changed(lambda rows: [{**row, "index": row["index"] + 1} for row in rows]),
    "entries that are numbers": changed(lambda rows: [7 for _ in rows]),
    "no embedding": changed(lambda rows: [{"index": row["index"]} for row in rows]),
    "several widths": with_embedding([0.5] * (WIDTH + 1)),
    "empty vectors": changed(lambda rows: [{**row, "embedding": []} for row in rows]),
    "NaN": with_embedding([float("nan")] * WIDTH),
    "infinity": with_embedding([float("inf")] * WIDTH),
    "numbers too large": with_embedding([1e300] * WIDTH),
    "words": with_embedding(["one"] * WIDTH),
    "nested": with_embedding([[0.5]] * WIDTH),
    "base64": with_embedding("AAAA"),
}
# These no other try would mend.
REFUSED = {
    "400": (status(400), r"status 400: not now; .*embed\.max_characters"),
    "401": (status(401), r"status 401: not now; .*OPENAI_API_KEY"),
    "403": (status(403), r"status 403"),
    "404": (status(404), r"status 404: .*model's name"),
    "413": (status(413), r"status 413: .*embed\.batch_size"),
    "302": (status(302, b"", Location="http://127.0.0.1:1/"), r"status 302: no reason given"),
}


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def encoder(server: Server, waits: list[float] | None = None, **settings: Any) -> EndpointEncoder:
    sleep = waits.append if waits is not None else (lambda seconds: None)
    return EndpointEncoder(Endpoint("tiny", server.url), timeout=0.4, sleep=sleep, **settings)


TEXTS = ["one", "two", "three"]


@pytest.mark.parametrize("name", MENDED)
def test_another_try_mends_it(server: Server, name: str) -> None:
    server.script = [MENDED[name]]
    waits: list[float] = []
    assert np.allclose(encoder(server, waits).encode(TEXTS), unit(TEXTS), atol=1e-6)
    assert len(server.asked) == 2 and len(waits) == 1
    if name == "429 that says how long":
        assert waits == [3.0]
    elif name == "429 for ever":
        assert waits == [60.0]
    else:
        assert 1 <= waits[0] <= 1.5


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_try_would_mend_is_refused_at_once(server: Server, name: str) -> None:
    step, message = REFUSED[name]
    server.script = [step]
    with pytest.raises(EndpointError, match=message):
        encoder(server).encode(TEXTS)
    assert len(server.asked) == 1


def test_an_endpoint_that_stays_down_is_given_up_after_waits_that_double(server: Server) -> None:
    server.script = [status(503)] * 6
    waits: list[float] = []
    with pytest.raises(EndpointError, match=r"status 503: not now, 6 times; the same command asks for what is missing"):
        encoder(server, waits).encode(TEXTS)
    assert [int(wait / 2**i) for i, wait in enumerate(waits)] == [1] * 5


def test_answers_come_back_in_the_order_of_the_texts(server: Server) -> None:
    server.script = [changed(lambda rows: rows[::-1])]
    texts = [f"text {i}" for i in range(50)]
    found = encoder(server, batch_size=7, at_once=3).encode([*texts, "text 3"])
    assert np.allclose(found, unit([*texts, "text 3"]), atol=1e-6)
    assert sorted(len(asked) for asked in server.asked) == [1, *[7] * 7]


def test_a_width_that_changes_between_answers_is_no_answer(server: Server) -> None:
    model = encoder(server)
    model.fit(TEXTS)
    assert model.width == WIDTH
    server.script = [changed(lambda rows: [{**row, "embedding": [0.5] * 4} for row in rows])] * 6
    with pytest.raises(EndpointError, match=rf"width 4 after others of width {WIDTH}"):
        model.encode(["another"])


def test_the_key_goes_to_the_endpoint_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.script = [status(401, b'{"error": {"message": "bad key sk-secret"}}')]
    model = encoder(server)
    with pytest.raises(EndpointError, match=r"bad key \[key\]"):
        model.encode(TEXTS)
    assert server.keys == ["Bearer sk-secret"]
    assert "secret" not in model.label
    with pytest.raises(ValueError, match="would travel unencrypted"):
        EndpointEncoder(Endpoint("tiny", "http://elsewhere.example/v1"))


def test_requests_keep_the_pace_that_was_asked_for(server: Server) -> None:
    waits: list[float] = []
    encoder(server, waits, batch_size=1, at_once=1, per_minute=60).encode(TEXTS)
    assert len(waits) == 2 and all(0 < wait <= 2 for wait in waits) and waits[1] > waits[0]


@pytest.mark.parametrize(
    "name",
    ["", "@http://x", "m@", "m@ftp://x", "m@http://", "m@http://x:99999999", "m@http://u:p@x/v1", "m@https://x?k=1"],
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected (one of|openai:MODEL@URL)|holds a user or a query"):
        encoder_identity(f"openai:{name}")


def test_names() -> None:
    assert encoder_identity("openai:m") == {"name": "openai:m@https://api.openai.com/v1"}
    made = make_encoder("openai:m@http://localhost:1/v1/", EmbedConfig())
    assert made.label == "openai:m@http://localhost:1/v1"


def test_the_cost_is_said_beforehand(server: Server, tmp_path: Path) -> None:
    model = encoder(server, batch_size=2, price=0.5)
    line = model.cost(["a" * 4_000_000, "b" * 4_000_000, "b" * 4_000_000])
    assert "2 texts, about 2,000,000 tokens, 1 requests; about 1.00 at 0.5 a million" in line


def test_what_was_answered_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(10)]
    server.script = [well, well, *[status(503)] * 6]
    path = tmp_path / "rows"
    first = encoder(server, batch_size=2, at_once=1)
    with pytest.raises(EndpointError), KeptVectors(path, first.label) as first.kept:
        first.encode(texts)
    # A kill in the midst of a record.
    path.write_bytes(path.read_bytes()[:-3])
    server.asked.clear()
    again = encoder(server, batch_size=2, at_once=1)
    with KeptVectors(path, again.label) as again.kept:
        assert len(again.kept) == 3
        again.fit(texts)
        assert again.width == WIDTH and server.asked == []
        assert np.allclose(again.encode(texts), unit(texts), atol=1e-6)
    assert sorted(text for asked in server.asked for text in asked) == texts[3:]
    assert not path.exists()


def test_vectors_of_another_maker_or_a_damaged_file_are_asked_for_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    vectors = unit(TEXTS)
    with pytest.raises(KeyError), KeptVectors(path, "one") as kept:
        kept.add(TEXTS, vectors)
        assert np.array_equal(kept.of(["two"]), vectors[1:2])
        raise KeyError
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        found = KeptVectors(path, "one")
        for row, text in enumerate(TEXTS):
            assert text not in found or np.array_equal(found.of([text])[0], vectors[row])
        if found._file is not None:
            found._file.close()
    path.write_bytes(whole)
    assert len(KeptVectors(path, "another")) == 0


def test_a_data_set_is_embedded_through_an_endpoint_and_resumed_to_the_row(server: Server, tmp_path: Path) -> None:
    interactions = pl.DataFrame({"user_id": ["u"] * 6, "item_id": [f"i{i}" for i in range(6)]})
    items = pl.DataFrame({"item_id": [f"i{i}" for i in range(6)], "title": [f"item {i}" for i in range(6)]})
    data = llm_esr.prepare(interactions, items=items, out=tmp_path / "data")
    name = f"openai:tiny@{server.url}"
    settings = {"batch_size": 2, "requests_at_once": 1, "progress": False}
    server.script = [well, status(401)]
    with pytest.raises(EndpointError, match="401"):
        llm_esr.embed(data, name, **settings)
    assert data.item_embeddings is None
    server.asked.clear()
    data = llm_esr.embed(data, name, **settings)
    assert sum(map(len, server.asked)) == 4
    assert data.item_embeddings is not None and data.item_embeddings.shape == (6, WIDTH)
    server.asked.clear()
    llm_esr.embed(data, name, **{**settings, "batch_size": 3})
    assert server.asked == []
    assert not list((tmp_path / "data").glob("encoding*"))
