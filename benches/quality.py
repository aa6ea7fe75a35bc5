"""`make quality`: the runs behind docs/quality.md, and that page, which is made from their metrics.json alone.

A run is one `llm-esr` line or two. What is finished is skipped, so that the script can be stopped and started again.
`--render` writes the page from what is there; `--only NAME` takes some of the runs.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_esr.evaluation import read_rows, render
from llm_esr.files import atomic_file, read_json, write_json

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "quality"
PAGE = ROOT / "docs" / "quality.md"
SHARED = ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class Experiment:
    """A run folder, the lines that fill it, and what is said above its tables."""

    name: str
    title: str
    about: str
    lines: tuple[str, ...]
    needs: Path | None = None
    # Models from best to worst, as they are claimed to be.
    order: tuple[str, ...] = ()
    # Rows of the paper to hold the table against: model, then HR@10/NDCG@10 for each group of the table.
    published: tuple[tuple[str, ...], ...] = ()

    @property
    def folder(self) -> Path:
        return RUNS / self.name

    @property
    def possible(self) -> bool:
        return self.needs is None or self.needs.exists()


BEAUTY = SHARED / "beauty5"
# The tables of two sets with texts, as `run` takes them.
WITH_TEXTS = (
    (
        "beauty5",
        "Amazon Beauty, 5-core",
        "{data}/interactions.parquet --items {data}/items.parquet --order-column order "
        "--item-embeddings {data}/item_embeddings.npy --user-embeddings {data}/user_embeddings.npy",
    ),
    (
        "steam100k",
        "Steam, a sample",
        "{data}/interactions.csv.gz --items {data}/items.csv.gz --item-embeddings {data}/item_embeddings.npy",
    ),
)
# How LLM-ESR's paper evaluates: 100 sampled candidates, its groups, its ties and its slip.
PAPER_PROTOCOL = (
    "--set evaluate.k=[10] --set evaluate.candidates=100 --set evaluate.group_rule=paper --set evaluate.ties=strict "
    "--set evaluate.tail_item_skips_first=true"
)
FASHION_GROUPS = "--set evaluate.tail_item_below=4 --set evaluate.tail_user_below=3"
YELP_GROUPS = "--set evaluate.tail_item_below=13 --set evaluate.tail_user_below=12"

EXPERIMENTS = (
    Experiment(
        name="demo",
        title="Simulated data, three seeds",
        about="The built-in shop of `llm-esr demo`: simulated, with item vectors by `lsa`, which is no LLM. The data "
        "stay the same; the seeds are those of the trainings.",
        lines=("demo --seeds 42,43,44 --out {out}",),
        order=("llm-esr", "sasrec", "popularity"),
    ),
    Experiment(
        name="beauty5",
        title="Amazon Beauty, 5-core",
        about="22,363 users, 12,101 items; MiniLM vectors of titles and attributes. The best published id-only figure "
        "on this set with the same masking is .0611 (BSARec, rerun by others).",
        lines=(
            "run {data}/interactions.parquet --items {data}/items.parquet --order-column order "
            "--item-embeddings {data}/item_embeddings.npy --user-embeddings {data}/user_embeddings.npy "
            "--models neighbours,sasrec,llm-esr --seeds 42,43,44 --out {out}",
        ),
        needs=BEAUTY,
        order=("llm-esr", "llm-esr, no blend", "sasrec", "popularity"),
    ),
    Experiment(
        name="steam100k",
        title="Steam, a sample",
        about="10,369 users, 3,593 items; MiniLM vectors of titles, genres and tags.",
        lines=(
            "run {data}/interactions.csv.gz --items {data}/items.csv.gz --item-embeddings {data}/item_embeddings.npy "
            "--models neighbours,sasrec,llm-esr --seeds 42,43,44 --out {out}",
        ),
        needs=SHARED / "steam100k",
        order=("llm-esr", "llm-esr, no blend", "sasrec", "popularity"),
    ),
    *(
        Experiment(
            name=f"methods-{name}",
            title=f"Methods side by side: {title}",
            about="Every network at half the width of its preset, 64, with learning rate .001, so that three seeds of "
            "five methods can be trained on two cores. `sasrec-continued` is the control of `melt`: the same further "
            "epochs without what MELT adds. `llmemb` reads the vectors of MiniLM as it is, 384 wide (paper: a tuned "
            "LLaMA-7B, 4,096 wide).",
            lines=(
                f"run {tables} --models sasrec,benches/quality/sasrec-continued.yaml,melt,llmemb,llm-esr "
                "--seeds 42,43,44 --set model.width=64 --set train.learning_rate=0.001 --out {out}",
            ),
            needs=SHARED / name,
        )
        for name, title, tables in WITH_TEXTS
    ),
    *(
        Experiment(
            name=f"paper-{name}",
            title=f"The shape of the paper's table: {title}",
            about="The presets that compute what the authors computed, bug for bug, in the protocol of LLM-ESR's "
            "paper (100 sampled candidates, tail by the 80 % rule), one seed. `paper-sasrec-alone` is SASRec on item "
            "ids, `melt-paper` and `llmemb-paper` go on from a trained SASRec of their own, `paper-sasrec` is LLM-ESR "
            "as published and `without-distillation` the same without similar users; `llm-esr-fast` is what this "
            "package recommends, at width 64. Figures of this protocol do not compare with those of the full ranking.",
            lines=(
                f"run {tables} --models benches/quality/paper-sasrec-alone.yaml,"
                "benches/quality/ablations/without-distillation.yaml,paper-sasrec,llmemb-paper,llm-esr-fast "
                f"{PAPER_PROTOCOL} --out {{out}}",
                f"run --models melt-paper --epochs 100 --set train.patience=40 {PAPER_PROTOCOL} --out {{out}}",
            ),
            needs=SHARED / name,
        )
        for name, title, tables in WITH_TEXTS
    ),
    Experiment(
        name="fashion",
        title="The paper's Fashion set, SASRec alone",
        about="9,094 users, 4,722 items, the paper's own file; no texts are to be had, so item ids alone. The paper's "
        "protocol: 100 sampled candidates, its groups, its ties and its slip (`docs/paper-mode.md`). "
        "`paper-sasrec-alone` is the authors' computation, `corrected-sasrec-alone` the same network with their "
        "defects mended, `sasrec` this package's baseline.",
        lines=(
            "run {data}/inter.txt.gz --models benches/quality/paper-sasrec-alone.yaml,"
            "benches/quality/corrected-sasrec-alone.yaml,sasrec --seeds 42,43,44 "
            f"{PAPER_PROTOCOL} {FASHION_GROUPS} --out {{out}}",
        ),
        needs=SHARED / "fashion_paper",
        published=(
            ("published: SASRec alone", ".4956/.4429", ".0454/.0235", ".6748/.6099", ".3967/.3390", ".6239/.5777"),
            ("published: most popular items", ".503/.372", ".000", "", "", ""),
        ),
    ),
    Experiment(
        name="fashion-melt",
        title="The paper's Fashion set, MELT as published",
        about="`melt-paper` is the authors' MELT, bug for bug (docs/melt.md), `melt-paper-backbone` the SASRec that it "
        "goes on from; the protocol of LLM-ESR's paper. 100 epochs each in place of 201 and 180, best validation kept. "
        "The first refresh writes noise into every tail row, and 100 epochs of a set whose users have two items do "
        "not make up for it.",
        lines=(
            "run {data}/inter.txt.gz --models melt-paper --seeds 42,43,44 --epochs 100 --set train.patience=40 "
            f"{PAPER_PROTOCOL} {FASHION_GROUPS} --out {{out}}",
        ),
        needs=SHARED / "fashion_paper",
    ),
    Experiment(
        name="yelp",
        title="The paper's Yelp set, SASRec alone and MELT",
        about="15,720 users, 11,383 items, the paper's own file; no texts are to be had. The protocol of LLM-ESR's "
        "paper. `paper-sasrec-alone` is the authors' SASRec on item ids, bug for bug; `melt-paper-backbone` the SASRec "
        "that MELT's authors start from and `melt-paper` their MELT.",
        lines=(
            "run {data}/inter.txt.gz --models benches/quality/paper-sasrec-alone.yaml --seeds 42,43,44 "
            f"{PAPER_PROTOCOL} {YELP_GROUPS} --out {{out}}",
            "run --models melt-paper --seeds 42,43,44 --epochs 100 --set train.patience=40 "
            f"{PAPER_PROTOCOL} {YELP_GROUPS} --out {{out}}",
        ),
        needs=SHARED / "yelp_paper",
        published=(
            ("published: SASRec alone", ".5940/.3597", ".1142/.0495", ".7353/.4511", ".5893/.3578", ".6122/.3672"),
            ("published: most popular items", ".529/.307", "", "", "", ""),
        ),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=[e.name for e in EXPERIMENTS], help="may be repeated")
    parser.add_argument("--render", action="store_true", help="train nothing; write the page from what is there")
    given = parser.parse_args(arguments)
    chosen = [e for e in EXPERIMENTS if not given.only or e.name in given.only]
    if not given.render:
        for experiment in chosen:
            if experiment.possible:
                perform(experiment)
            else:
                print(f"{experiment.name}: skipped, {experiment.needs} is not there", file=sys.stderr)
    write_page(EXPERIMENTS)
    print(f"wrote {PAGE.relative_to(ROOT)}")


def perform(experiment: Experiment) -> None:
    """Run an experiment's lines and note machine, commands and date beside its figures."""
    lines = [line.format(out=_short(experiment.folder), data=_short(experiment.needs)) for line in experiment.lines]
    began = time.monotonic()
    for line in lines:
        print(f"$ llm-esr {line}", file=sys.stderr)
        command = Path(sys.executable).parent / "llm-esr"
        subprocess.run([str(command), *shlex.split(line)], cwd=ROOT, check=True)
    note = experiment.folder / "quality.json"
    before = read_json(note) if note.exists() else {}
    seconds = before.get("seconds", 0) + time.monotonic() - began
    write_json(
        note,
        {
            "commands": [f"llm-esr {line}" for line in lines],
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": machine(),
            "seconds": round(seconds),
            # What a person adds to a run whose models were trained elsewhere.
            "note": before.get("note"),
        },
    )


def machine() -> str:
    """Processor, cores and versions, in a line."""
    import torch

    from llm_esr import __version__

    names = [platform.processor() or platform.machine()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
    where = f"{names[0]}, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        where += f", {torch.cuda.get_device_name()}"
    return f"{where}; Python {platform.python_version()}, torch {torch.__version__}, llm-esr {__version__}"


def write_page(experiments: Sequence[Experiment]) -> None:
    """docs/quality.md, from the metrics.json of each run; a section whose run is not here stays as it was."""
    before = _sections_of(PAGE.read_text()) if PAGE.exists() else {}
    parts = [
        "# Quality\n\nMade by `make quality` from the `metrics.json` of each run; do not edit. Every table has the "
        "popularity baseline in it, and head and tail apart.\n"
    ]
    for experiment in experiments:
        if (experiment.folder / "metrics.json").exists():
            parts.append(_section(experiment))
        elif experiment.title in before:
            parts.append(before[experiment.title])
    with atomic_file(PAGE, "w") as file:
        file.write("\n".join(parts).rstrip() + "\n")


def _sections_of(page: str) -> dict[str, str]:
    """The sections of a page by their titles, each with its heading."""
    return {part.split("\n", 1)[0]: f"## {part}".rstrip() + "\n" for part in page.split("\n## ")[1:]}


def _section(experiment: Experiment) -> str:
    rows = read_rows(experiment.folder / "metrics.json")
    lines = [f"## {experiment.title}", "", experiment.about, ""]
    note = experiment.folder / "quality.json"
    if note.exists():
        noted = read_json(note)
        commands = "\n".join(noted["commands"])
        lines += [f"```\n{commands}\n```", "", f"{noted['date']}, {noted['machine']}.", ""]
        lines += [noted["note"], ""] if noted.get("note") else []
    lines += [
        render(rows, "markdown"),
        *_published(experiment),
        *_trainings(experiment.folder),
        *_claims(experiment, rows),
    ]
    return "\n".join(lines)


def _published(experiment: Experiment) -> list[str]:
    if not experiment.published:
        return []
    heads = ("model", "overall", "tail item", "head item", "tail user", "head user")
    lines = [heads, ("---", *["---:"] * 5), *experiment.published]
    return ["HR@10/NDCG@10 as published:", "", *("| " + " | ".join(line) + " |" for line in lines), ""]


def _trainings(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob("models/*/*/model.json")):
        record = read_json(path)
        if record.get("finished"):
            best = record.get("validation") or {}
            # Models of before count `epoch` from 0.
            epoch = best.get("best_epoch", best["epoch"] + 1 if "epoch" in best else None)
            at = f", best after {epoch}" if epoch is not None else ""
            minutes = f", {record['seconds'] / 60:.0f} minutes" if "seconds" in record else ""
            version = record.get("environment", {}).get("torch")
            found.append(f"{record['name']}/{record['seed']}: {record['epochs']} epochs{at}{minutes}, torch {version}")
    return ["Trainings: " + "; ".join(found) + ".", ""] if found else []


def _claims(experiment: Experiment, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Whether the models stand in the order that is claimed, in the mean over seeds."""
    lines = []
    for group in ("all", "tail_item") if experiment.order else ():
        means = {model: _mean(rows, model, group) for model in experiment.order}
        known = [model for model in experiment.order if means[model] is not None]
        chain = " > ".join(f"{model} {means[model]:.4f}" for model in known)
        values = [means[model] for model in known]
        holds = all(better > worse for better, worse in itertools.pairwise(values))
        lines.append(f"- {group.replace('_', ' ')}, mean NDCG@10: {chain}: {'holds' if holds else '**does not hold**'}")
    return [*lines, ""] if lines else []


def _mean(rows: Sequence[dict[str, Any]], model: str, group: str) -> float | None:
    wanted = {"model": model, "group": group, "metric": "ndcg", "k": 10, "split": "test", "protocol": "full"}
    values = [row["value"] for row in rows if all(row[key] == value for key, value in wanted.items())]
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None


def _short(path: Path | None) -> str:
    return "" if path is None else os.path.relpath(path, ROOT)


if __name__ == "__main__":
    main()
