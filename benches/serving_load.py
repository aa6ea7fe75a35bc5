"""Ask a server for lists at a steady rate, or as fast as it answers; prints one JSON object.

Requests are sent when they are due, whether earlier ones were answered or not, and each one's time runs from when it
was due: a server that stops for a second is slow for every request of that second. Plain asyncio over connections that
stay open, in a process of its own; it shares the machine's cores with the server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Connection:
    """One connection that stays open: a request, an answer, the next."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, body: bytes) -> int:
        """The status of the answer, which is read whole."""
        head = f"POST /recommend HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length"))
        await self.reader.readexactly(length)
        return int(lines[0].split()[1])


def bodies(users: list[str], items: list[str], k: int) -> Iterator[bytes]:
    """Known users and histories in turn."""
    rng = random.Random(0)
    while True:
        yield json.dumps({"users": [rng.choice(users)], "k": k}).encode()
        yield json.dumps({"histories": [rng.choices(items, k=rng.randint(1, 20))], "k": k}).encode()


async def load(port: int, rate: float, seconds: float, connections: int, asked: Iterator[bytes]) -> dict[str, float]:
    """Times and failures; `rate` 0: as fast as the answers come."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(*await asyncio.open_connection("127.0.0.1", port)))
    times: list[float] = []
    failed = n_asked = 0

    async def one(due: float) -> None:
        nonlocal failed, n_asked
        n_asked += 1
        connection = await free.get()
        try:
            status = await connection.ask(next(asked))
            failed += status != 200
            times.append(time.perf_counter() - due)
            free.put_nowait(connection)
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
            free.put_nowait(Connection(*await asyncio.open_connection("127.0.0.1", port)))

    async def again(end: float) -> None:
        while (now := time.perf_counter()) < end:
            await one(now)

    began = time.perf_counter()
    if rate:
        tasks = []
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due)))
        await asyncio.gather(*tasks)
    else:
        await asyncio.gather(*(again(began + seconds) for _ in range(connections)))
    took = time.perf_counter() - began
    p50, p99 = np.percentile(np.array(times) * 1000, [50, 99]).tolist() if times else (float("nan"),) * 2
    return {
        "per_second": len(times) / took,
        "p50_ms": p50,
        "p99_ms": p99,
        "failed": failed,
        "asked": len(times) + failed,
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("ids", type=Path, help="a JSON object with lists of users and items")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as fast as answers come")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=32)
    given = parser.parse_args()
    ids = json.loads(given.ids.read_text())
    asked = bodies(ids["users"], ids["items"], 10)
    print(json.dumps(asyncio.run(load(given.port, given.rate, given.seconds, given.connections, asked))))


if __name__ == "__main__":
    main()
