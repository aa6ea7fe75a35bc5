"""Time training steps in a process of its own, so that its allocator can be set and its peak memory be read.

`python benches/step_process.py ours-paper --steps 10 --threads 2` prints one JSON object: seconds a step, the peak
memory in bytes, the losses. `authors` is the plain step; `ours-paper` the same computation, `ours-corrected` the one
with its defects mended. All see the same batches.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from our_loader import endless
from our_step import OurStep, dense, make_model, optimizer_of, step_config, step_loader, text_embeddings
from peers.authors_step import AuthorsModel
from workload import Size, Workload, full_rows, usual

from llm_esr.attention import choice
from llm_esr.training.memory import kept_memory

Step = tuple[Callable[[Any], float], Any]
WHO = ("ours-paper", "ours-corrected", "authors")


def main() -> None:
    """Time the steps and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=WHO)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of our step")
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--full-rows", action="store_true")
    parser.add_argument("--attention", choices=[*choice.BACKENDS], help="default: as suits the device")
    parser.add_argument("--waiting", action="store_true", help="load in the background; report the share of waiting")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    choice.forced = given.attention
    size = Size.from_environment()
    work = full_rows(size) if given.full_rows else usual(size)
    make = authors_steps if given.who == "authors" else our_steps
    if given.waiting:
        print(json.dumps(waiting(work, size, given)))
        return
    steps = make(given.who, work, size, given)
    # As our training loop does it; the authors' code leaves memory to the system.
    with kept_memory(wanted=given.who != "authors" and given.device == "cpu"):
        print(json.dumps(timed(steps, given)))


def timed(steps: Iterator[Step], given: argparse.Namespace) -> dict[str, Any]:
    """Seconds a step, losses, peak memory."""
    seconds, losses = [], []
    for number in range(given.warm_up + given.steps):
        step, batch = next(steps)
        _wait(given.device)
        began = time.perf_counter()
        losses.append(step(batch))
        _wait(given.device)
        if number >= given.warm_up:
            seconds.append(time.perf_counter() - began)
    found: dict[str, Any] = {"seconds": seconds, "losses": losses}
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if given.device.startswith("cuda"):
        found["peak_device"] = torch.cuda.max_memory_allocated()
    return found


def waiting(work: Workload, size: Size, given: argparse.Namespace) -> dict[str, Any]:
    """The share of the time of our steps that passes inside `next(loader)`, with one background thread."""
    config = step_config(size, mode=given.who.removeprefix("ours-"), dropout=given.dropout)
    model = make_model(size, config, text_embeddings(size, work.n_items)).to(given.device)
    step = OurStep(model, config, given.precision)
    batches = step.batches(step_loader(work, size, config, threads=1))
    for batch in itertools.islice(batches, max(given.warm_up, 1)):
        step.forward_and_back(batch)
    _wait(given.device)
    waited, began = 0.0, time.perf_counter()
    for _ in range(given.steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step.forward_and_back(batch)
    _wait(given.device)
    return {"waited": waited, "seconds": time.perf_counter() - began}


def our_steps(who: str, work: Workload, size: Size, given: argparse.Namespace) -> Iterator[Step]:
    """Our step, batch after batch."""
    config = step_config(size, mode=who.removeprefix("ours-"), dropout=given.dropout)
    model = make_model(size, config, text_embeddings(size, work.n_items)).to(given.device)
    step = OurStep(model, config, given.precision)
    return zip(itertools.repeat(step), step.batches(step_loader(work, size, config)), strict=False)


def authors_steps(who: str, work: Workload, size: Size, given: argparse.Namespace) -> Iterator[Step]:
    """The plain step on our batches; making them dense does not count."""
    table = text_embeddings(size, work.n_items)
    torch.manual_seed(0)
    model = AuthorsModel(work.n_items, table, width=size.width, max_len=size.max_len, dropout=given.dropout)
    model = model.to(given.device)
    del table
    optimizer = optimizer_of(model, fused=False)

    def step(batch: Any) -> float:
        loss = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    loader = step_loader(work, size, step_config(size, mode="paper"))
    return ((step, dense(batch, size.max_len).to(given.device)) for batch in endless(loader))


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
