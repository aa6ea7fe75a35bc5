"""What one GPU makes of the package: `python benches/gpu.py`, at most four minutes, without network or build.

It runs the tests that need a card, times the step of `step_process.py` beside the authors', trains on a prepared folder
(`--data`; else a simulated shop) with steps a second, time of an epoch, the share of waiting and the time to a
validation NDCG@10 (`--ndcg`: what the CPU reached), and lists the ten operations on which the device spends most. What
does not fit into `--minutes` is left out and named. Figures go into `gpu.json` and, as a section, `gpu.md` under
`--out`. Without a GPU it says so and ends; `--device cpu --steps 2` tries the script itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch
from measuring import environment
from sections.processes import run_script
from workload import ROOT, Size, usual

import llm_esr
from llm_esr.config import load_config
from llm_esr.training import Callback, EpochReport, Trainer, build_loader, build_model
from llm_esr.training.terms import Term, TermData, build_terms
from llm_esr.training.validation import build_validation

STEPS = [
    ("authors", "float32"),
    ("ours-corrected", "float32"),
    ("ours-corrected", "bfloat16"),
    ("ours-paper", "float32"),
    ("ours-paper", "bfloat16"),
]
PRESET = "llm-esr"
TESTS = ["tests/training/test_row_step.py", "tests/attention/test_jagged.py"]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", type=Path, help="a data folder with vectors and neighbours; default: simulated")
    parser.add_argument("--steps", type=int, default=100, help="timed steps of each kind")
    parser.add_argument("--epochs", type=int, default=40, help="of the training, at most")
    parser.add_argument("--ndcg", type=float, help="the validation NDCG@10 to reach")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu")
    given = parser.parse_args(arguments)
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch finds no GPU here: nothing was measured (--device cpu --steps 2 tries the script itself)")
        return
    given.out.mkdir(parents=True, exist_ok=True)
    found = measure(given)
    (given.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (given.out / "gpu.md").write_text(section(found), encoding="utf-8")
    print(section(found))
    print(f"written: {given.out / 'gpu.json'}, {given.out / 'gpu.md'}")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Part after part, while there is time."""
    ends = time.monotonic() + 60 * given.minutes
    on_gpu = given.device.startswith("cuda")
    card = torch.cuda.get_device_name() if on_gpu else "none: the script itself was tried on the CPU"
    found: dict[str, Any] = {**environment(), "card": card, "steps": given.steps, "left_out": []}
    data = prepared(given)

    def part(name: str, work: Callable[[float], Any]) -> None:
        left = ends - time.monotonic()
        if left < 5:
            found["left_out"].append(f"{name}: no time was left")
            return
        try:
            found[name] = work(left)
        except (RuntimeError, subprocess.TimeoutExpired) as error:  # the other parts are measured all the same
            found["left_out"].append(f"{name}: {str(error).splitlines()[0][:300]}")

    if on_gpu:
        part("tests", card_tests)
    for who, precision in STEPS:
        part(f"step {who} {precision}", lambda left, w=who, p=precision: one_step(w, p, given, left))  # type: ignore[misc]
    part("counted", lambda _: counted(data, given))
    part("profile", lambda _: profile(data, given))
    part("training", lambda left: training(data, given, left))
    return found


def card_tests(left: float) -> dict[str, Any]:
    """The tests that need a card: how they ended."""
    if importlib.util.find_spec("pytest") is None:
        raise RuntimeError("pytest is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *TESTS]
    done = subprocess.run(
        [*command, "--import-mode=importlib", "-k", "gpu or cuda or CUDA"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=min(left, 80),
    )  # fmt: skip
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    return {"passed": done.returncode == 0, "said": [x for x in lines if "FAILED" in x or "ERROR" in x] + lines[-1:]}


def one_step(who: str, precision: str, given: argparse.Namespace, left: float) -> dict[str, float]:
    """Milliseconds of a step, the middle of all timed, and the peak memory."""
    usual(Size.from_environment())  # written before the process asks for it
    steps = max(given.steps // 10, 2) if who == "authors" else given.steps
    options = ["--device", given.device, "--steps", str(steps), "--warm-up", "5" if given.steps > 5 else "1"]
    found = run_script("step_process.py", [who, *options, "--precision", precision], threads=4, timeout=min(left, 40))
    seconds = sorted(found["seconds"])
    return {"ms": 1000 * seconds[len(seconds) // 2], "peak_gb": found.get("peak_device", found["peak"]) / 1e9}


def prepared(given: argparse.Namespace) -> llm_esr.Dataset:
    """The data folder to train on; a simulated shop where none is given, made once."""
    if given.data is not None:
        return llm_esr.Dataset.open(given.data)
    folder = given.out / "simulated" / "data"
    if not (folder / "similar_items.npy").exists():
        interactions, items = llm_esr.simulate(n_users=3000, n_items=1500)
        made = llm_esr.prepare(interactions, items=items, out=folder)
        llm_esr.embed(made, encoder="lsa", progress=False)
        llm_esr.index(made, progress=False)
    return llm_esr.Dataset.open(folder)


def trainer_of(data: llm_esr.Dataset, given: argparse.Namespace, folder: Path, *settings: str) -> Trainer:
    """A training of the preset on the device."""
    config = load_config(PRESET, [f"train.epochs={given.epochs}", *settings])
    loader = build_loader(data, config)
    model = build_model(data, config)[0].to(given.device)
    terms = build_terms(config, TermData(model.device, loader, data))
    return Trainer(model, loader, config, folder, terms=terms, validate=build_validation(data, config))


class Watch(Callback):
    """When each epoch ended and what its validation said; ends the training in time."""

    def __init__(self, ends: float, ndcg: float | None) -> None:
        self.began, self.ends, self.ndcg = time.monotonic(), ends, ndcg
        self.epochs: list[dict[str, float | None]] = []

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """Note the epoch."""
        now = time.monotonic()
        seconds = now - self.began
        self.epochs.append({"seconds": seconds, "steps_per_second": report.rate, "ndcg": report.validation})
        longest = seconds / len(self.epochs)
        reached = self.ndcg is not None and report.validation is not None and report.validation >= self.ndcg
        trainer.stop = trainer.stop or reached or now + 1.5 * longest > self.ends


def training(data: llm_esr.Dataset, given: argparse.Namespace, left: float) -> dict[str, Any]:
    """Train until the validation stops rising, `--ndcg` is reached or the time is over."""
    if given.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(data, given, Path(folder))
        waited = Waited(trainer)
        watch = Watch(time.monotonic() + left, given.ndcg)
        trainer.callbacks.append(watch)
        trainer.fit(resume=False)
    best = max((e["ndcg"] or 0.0 for e in watch.epochs), default=0.0)
    first = next((e["seconds"] for e in watch.epochs if given.ndcg and (e["ndcg"] or 0.0) >= given.ndcg), None)
    return {
        "data": f"{data.n_users} users, {data.n_items} items", "epochs": watch.epochs, "best_ndcg": best,
        "wanted_ndcg": given.ndcg, "seconds_to_wanted": first, "waiting_percent": 100 * waited.share(),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if given.device.startswith("cuda") else None,
    }  # fmt: skip


class Waited:
    """Adds up the time that a trainer's loop spends waiting for its next batch."""

    def __init__(self, trainer: Trainer) -> None:
        self.waited, self.all, given = 0.0, 0.0, trainer.batches

        def batches(terms: list[Term]) -> Iterator[Any]:
            source, began = given(terms), time.perf_counter()
            try:
                while True:
                    asked = time.perf_counter()
                    found = next(source, None)
                    self.waited += time.perf_counter() - asked
                    if found is None:
                        break
                    yield found
            finally:
                self.all += time.perf_counter() - began
                source.close()

        trainer.batches = batches  # type: ignore[method-assign, assignment]

    def share(self) -> float:
        """Of the time of the epochs' steps."""
        return self.waited / max(self.all, 1e-9)


def counted(data: llm_esr.Dataset, given: argparse.Namespace) -> dict[str, Any]:
    """What a step asks of the device, as the tests count it without one."""
    sys.path.insert(0, str(ROOT / "tests"))
    from step_counter import StepCounter

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(data, given, Path(folder))
        trainer.model.train()
        for batch, packed in itertools.islice(_endless(trainer), 2):
            with StepCounter(trainer.model.device.type) as counter:
                trainer._train_step(batch, trainer.terms, packed)
    return {"launches": counter.total, "copies": counter.copies, "waits": dict(counter.waits)}


def profile(data: llm_esr.Dataset, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The ten operations that take most of the device's time over some steps."""
    from torch.profiler import ProfilerActivity

    on_gpu = given.device.startswith("cuda")
    steps = min(given.steps, 20)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(data, given, Path(folder))
        trainer.model.train()
        batches = _endless(trainer)
        for batch, packed in itertools.islice(batches, 2):
            trainer._train_step(batch, trainer.terms, packed)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with torch.profiler.profile(activities=activities) as taken:
            for batch, packed in itertools.islice(batches, steps):
                trainer._train_step(batch, trainer.terms, packed)
            if on_gpu:
                torch.cuda.synchronize()
        batches.close()
    time_of = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    dearest = sorted(taken.key_averages(), key=lambda event: -getattr(event, time_of))[:10]
    found = []
    for event in dearest:
        took = getattr(event, time_of) / 1e3 / steps
        found.append({"operation": event.key[:90], "calls_a_step": event.count / steps, "ms_a_step": took})
    return found


def _endless(trainer: Trainer) -> Generator[Any]:
    for epoch in itertools.count():
        trainer.loader.set_epoch(epoch)
        yield from trainer.batches(trainer.terms)


def section(found: dict[str, Any]) -> str:
    """The figures as a section of a page."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [f"## Measured: {found['card']}", "", f"{found['date']}, {found['machine']}; {versions}.", ""]
    if "tests" in found:
        lines += [f"Tests on the card: {'; '.join(found['tests']['said'])}.", ""]
    authors = found.get("step authors float32")
    lines += ["| step | precision | ms | authors' / ours | peak GB |", "|---|---|---|---|---|"]
    for who, precision in STEPS:
        step = found.get(f"step {who} {precision}")
        if step is not None:
            ratio = f"{authors['ms'] / step['ms']:.1f}" if authors else "-"
            lines.append(f"| {who} | {precision} | {step['ms']:.2f} | {ratio} | {step['peak_gb']:.2f} |")
    training = found.get("training")
    if training is not None and training["epochs"]:
        last = training["epochs"][-1]
        memory = "" if training["peak_gb"] is None else f"; {training['peak_gb']:.2f} GB at most"
        lines += [
            "",
            f"`{PRESET}` on {training['data']}: {last['steps_per_second']:.1f} steps a second; "
            f"{len(training['epochs'])} epochs with their validations in {last['seconds']:.1f} s; "
            f"best NDCG@10 {training['best_ndcg']:.4f}; "
            f"waiting for input {training['waiting_percent']:.2f} %{memory}.",
        ]
        if training["seconds_to_wanted"] is not None:
            lines.append(f"NDCG@10 {training['wanted_ndcg']:.4f} after {training['seconds_to_wanted']:.1f} s.")
    if "counted" in found:
        step = found["counted"]
        lines += [
            "",
            f"A step: {step['launches']} operations, {step['copies']} copies, waits: {step['waits'] or 'none'}.",
        ]
    if found.get("profile"):
        lines += ["", "| dearest operations | calls a step | ms a step |", "|---|---|---|"]
        lines += [f"| `{e['operation']}` | {e['calls_a_step']:.1f} | {e['ms_a_step']:.3f} |" for e in found["profile"]]
    lines += ["", *(f"Left out: {what}." for what in found["left_out"])]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
