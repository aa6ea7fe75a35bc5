"""`serve`: a model behind HTTP, until a signal ends it; SIGHUP swaps the model."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import uvicorn

from llm_esr.serving.http.app import Server, make_app, watch
from llm_esr.serving.http.limits import Limits
from llm_esr.serving.http.served_model import ServedModel, load_served

_STOPS_WITHIN = 30  # seconds that requests have to finish when the server stops


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    blend: bool = True,
    exact: bool = False,
    threads: int | None = None,
    watched: float | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve a model until SIGINT or SIGTERM; requests that are under way are answered.

    Args:
        folder: a run's or a model's, as of `Recommender.load`.
        host: the address to listen at; `0.0.0.0`: all.
        port: its port; 0: a free one.
        limits: what a request may ask for.
        blend: as of `Recommender.load`.
        exact: as of `Recommender.load`.
        threads: of the scoring; default: one less than there are cores, which is left to the requests.
        watched: seconds between two looks whether another model lies in the folder; None: SIGHUP alone swaps it.
        say: told where the server listens.

    Raises:
        ValueError: a port that is taken or not allowed, or a number that is none.
        FileNotFoundError: no model there.

    """
    limits = limits or Limits()
    if watched is not None and not watched > 0:
        raise ValueError(f"--watch {watched}: expected seconds above 0")
    listening = _listen(host, port)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # there is nothing to swap yet
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 2) - 1))
    where = f"http://{host}:{listening.getsockname()[1]}"

    def ready(model: ServedModel) -> None:
        size = f"{model.data.n_users:,} users, {model.data.n_items:,} items"
        say(f"serving {model.name} ({size}) at {where}; its pages: {where}/docs")

    server = Server(lambda: load_served(folder, limits, blend=blend, exact=exact), limits, ready)
    config = uvicorn.Config(
        make_app(server), log_level="warning", access_log=False, timeout_keep_alive=30,
        timeout_graceful_shutdown=_STOPS_WITHIN,
    )  # fmt: skip
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(_Quiet(config), server, listening, folder, watched))


class _Quiet(uvicorn.Server):
    """Ends without raising the signal again: a server that was asked to stop, and did, has not failed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM stop the server."""
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster loop, where there is one."""
    try:
        import uvloop  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _run(
    http: uvicorn.Server, server: Server, listening: socket.socket, folder: Path, watched: float | None
) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(server.reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, reload)
    if watched is not None:
        tasks.add(loop.create_task(watch(server, folder, watched)))
    try:
        await http.serve(sockets=[listening])
    finally:
        for task in list(tasks):
            task.cancel()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ValueError: the address cannot be listened at.

    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"--port {port}: expected 0 to 65535; 0 takes a free one")
    try:
        return socket.create_server(
            (host, port), backlog=1024, family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        raise ValueError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}); name another with --host and --port"
        ) from None
