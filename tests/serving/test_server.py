"""A real server under eight clients: every answer right, bad bodies refused, the model swapped, a graceful end."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_esr
from llm_esr.serving.http.server import serve

CLIENTS, REQUESTS = 8, 30
BAD = [
    (b"{", 400, "no_json"),
    (b'{"users": ["nobody"]}', 404, "unknown_user"),
    (b'{"histories": [[1e999]]}', 422, "bad_request"),
    (b'{"users": "u1"}', 422, "bad_request"),
    (b'{"histories": [' + b'["i1"],' * 300 + b"[]]}", 422, "too_much"),
    (b" " * 20_001, 413, "too_large"),
]

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")


@dataclass
class Running:
    """A server, and the model that it serves."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    model: llm_esr.Recommender

    def ask(self, method: str, path: str, body: bytes | None = None, chunked: bool = False) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, iter([body]) if chunked else body, encode_chunked=chunked)
            answer = connection.getresponse()
            content = answer.read()
            text = answer.headers["content-type"].startswith("text/plain")
            return answer.status, content.decode() if text else json.loads(content)
        finally:
            connection.close()

    def until(self, true: Any, seconds: float = 60) -> Any:
        """Poll /health until it is as wanted."""
        end = time.monotonic() + seconds
        while not true(health := self.ask("GET", "/health")[1]):
            assert time.monotonic() < end, health
            time.sleep(0.05)
        return health


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    top = tmp_path_factory.mktemp("server")
    shutil.copytree(tiny_folder, top / "data")
    data = llm_esr.Dataset.open(top / "data")
    model = llm_esr.train(data, config="llm-esr", name="small", out=top / "model", epochs=1, width=8, progress=False)
    command = [sys.executable, "-m", "llm_esr", "serve", str(top / "model"), "--port", "0", "--max-body", "20000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"serving small/42 \(\d+ users, \d+ items\) at http://127.0.0.1:(\d+)", line)
        assert found, line + process.stdout.read()
        yield Running(process, int(found[1]), top / "model", model)
    finally:
        process.kill()
        process.wait()


def body_of(number: int, server: Running) -> dict[str, Any]:
    """A request that differs from its neighbours in kind, length and owner."""
    data = server.model.data
    users = [data.user_ids[(7 * number) % data.n_users], data.user_ids[(11 * number + 1) % data.n_users]]
    histories = [[data.item_ids[(number * step) % data.n_items] for step in (1, 3, 5)], [data.item_ids[number % 9]]]
    kinds: list[dict[str, Any]] = [{"users": users}, {"histories": histories}, {"users": users, "keep_seen": True}]
    return kinds[number % 3] | {"k": 1 + number % 7}


def all_at_once(work: Any) -> list[Any]:
    """What eight threads give; a failure of one is a failure of the test."""
    results: list[Any] = [None] * CLIENTS

    def run(client: int) -> None:
        try:
            results[client] = work(client)
        except BaseException as error:
            results[client] = error

    crew = [threading.Thread(target=run, args=(client,)) for client in range(CLIENTS)]
    for one in crew:
        one.start()
    for one in crew:
        one.join(120)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def test_eight_clients_get_the_recommenders_lists_among_malformed_bodies(server: Running) -> None:
    def work(client: int) -> list[tuple[int, Any]]:
        answers = []
        for number in range(client * REQUESTS, (client + 1) * REQUESTS):
            content, status, kind = BAD[number % len(BAD)]
            if number % 4 == 0:
                found, answer = server.ask("POST", "/recommend", content, chunked=number % 8 == 0)
                assert (found, answer["error"]["kind"]) == (status, kind), (content[:40], answer)
            asked = body_of(number, server)
            answers.append((number, server.ask("POST", "/recommend", json.dumps(asked).encode())))
        return answers

    answered = [one for client in all_at_once(work) for one in client]
    assert len(answered) == CLIENTS * REQUESTS
    for number, (status, answer) in answered:
        assert status == 200 and answer["model"] == "small/42", answer
        expected = server.model.recommend(**body_of(number, server))
        items = [item for one in answer["lists"] for item in one["items"]]
        # Batches of other sizes differ in the last bits, so that near ties may change places.
        np.testing.assert_allclose([item["score"] for item in items], expected["score"].to_numpy(), atol=1e-4)
        same = np.mean([item["item_id"] == name for item, name in zip(items, expected["item_id"], strict=True)])
        assert same > 0.6


def test_metrics_count_what_was_asked(server: Running) -> None:
    def count() -> float:
        status, page = server.ask("GET", "/metrics")
        assert status == 200
        found = re.search(r'llm_esr_requests_total\{path="/recommend",status="404"\} (\S+)', page)
        assert 'llm_esr_request_seconds_bucket{le="0.05",path="/metrics"}' in page or not found
        return float(found[1]) if found else 0.0

    before = count()
    server.ask("POST", "/recommend", b'{"users": ["nobody"]}')
    assert count() == before + 1


def test_other_routes_answer_in_json(server: Running) -> None:
    status, answer = server.ask("POST", "/similar", b'{"items": ["i3"], "k": 2, "by": "trained"}')
    assert status == 200 and [one["similar_to"] for one in answer["lists"]] == ["i3"]
    assert len(answer["lists"][0]["items"]) == 2
    assert server.ask("GET", "/nowhere")[0] == 404
    status, answer = server.ask("DELETE", "/recommend")
    assert status == 405 and answer["error"]["kind"] == "no_route"
    status, page = server.ask("GET", "/openapi.json")
    assert status == 200 and {"/recommend", "/similar", "/health", "/metrics"} <= page["paths"].keys()
    assert "histories" in json.dumps(page["paths"]["/recommend"]["post"]["requestBody"])


def test_a_connection_that_sends_rubbish_or_goes_away_harms_nobody(server: Running) -> None:
    for content in (b"\x00\xff\x00\r\n\r\n", b"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
            raw.sendall(content)
    assert server.ask("GET", "/health")[0] == 200


def test_the_model_is_swapped_while_clients_ask(server: Running) -> None:
    before = server.ask("GET", "/health")[1]["loaded"]
    time.sleep(1.1)  # `loaded` counts seconds
    done = threading.Event()

    def work(client: int) -> int:
        if client == 0:
            server.process.send_signal(signal.SIGHUP)
            server.until(lambda health: health["loaded"] != before)
            done.set()
            return 1
        asked = 0
        while not done.is_set():
            status, answer = server.ask("POST", "/recommend", json.dumps(body_of(asked, server)).encode())
            assert status == 200, answer
            asked += 1
        return asked

    assert min(all_at_once(work)) > 0
    record = server.folder / "model.json"
    text = record.read_text()
    record.write_text("{")
    try:
        server.process.send_signal(signal.SIGHUP)
        health = server.until(lambda health: health["last_reload_failed"])
        assert "model.json is damaged" in health["last_reload_failed"]
        assert server.ask("POST", "/recommend", json.dumps(body_of(1, server)).encode())[0] == 200
    finally:
        record.write_text(text)


def test_it_ends_gracefully(server: Running) -> None:
    """The last test of the file: what is under way is answered, and the exit code is 0."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        content = json.dumps(body_of(2, server)).encode()
        head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        raw.sendall(head + content[:-1])
        server.ask("GET", "/health")  # the head has been read by now
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        raw.sendall(content[-1:])
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
    assert server.process.wait(60) == 0


def test_a_port_that_is_taken_is_said_in_words_before_a_model_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"127.0.0.1:{port} cannot be listened at .Address already in use"):
            serve(tmp_path / "no model", port=port)
