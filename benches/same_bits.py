"""`make sameness BEFORE=<commit>`: whether two trees of this repository compute the same bits.

Both read the same simulated tables and train every preset for two epochs through the command line, each with its own
Python. Compared are the data arrays, the weights, the losses, the metrics and every batch. A refactoring says "same"
for each preset; what differs first is named, and the exit status is 1.

Only the standard library and NumPy are imported here. The trees are asked in processes of their own, by names that
stay: the console script, `llm_esr.simulate`, `llm_esr.config.load_config`, `llm_esr.data.Dataset` and
`llm_esr.training.build_loader`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "runs" / "sameness"
SEED = 42
EPOCHS = 2
ALIASES = {"default": "llm-esr"}
DATA_ARRAYS = (
    "offsets", "items", "timestamps", "splits", "item_embeddings", "user_embeddings", "similar_users",
    "similar_items", "similar_items_scores",
)  # fmt: skip
LOSSES = ("loss", "ranking", "distillation", "validation_ndcg_10")
# One thread each, and no accelerator: sums must not depend on what else runs here.
FIXED = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
FIXED |= {"CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200", "NO_COLOR": "1"}
# What an outer make hands on, and what belongs to another tree's environment.
OUTER = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "VENV", "VIRTUAL_ENV", "UV_CONSTRAINT", "PYTHONHOME")
# An attribute of a batch, under the names that it had or may get. What is digested carries none of these names.
BATCH_ARRAYS = (
    ("users",), ("showings", "masking_passes", "masking_pass", "passes"), ("teacher_index",), ("negatives",),
    ("collision", "collisions"),
)  # fmt: skip
SEQUENCE_ARRAYS = ("items", "positions", "targets", "offsets", "slots")


class DifferenceError(Exception):
    """What differs first."""


# What no preset does: stored teachers, lazy updates, augmentation, the items' regularisation.
FILES = [
    str(ROOT / "benches" / "quality" / f"{name}.yaml")
    for name in ("dual-view-stored-teachers", "sasrec-lazy-table", "sasrec-augmented", "ablations/item-regularisation")
]


@dataclass(frozen=True)
class Tree:
    """A checkout, the Python that runs it, and the folder for what it makes."""

    name: str
    folder: Path
    python: Path
    work: Path

    @property
    def run(self) -> Path:
        return self.work / "run"

    @property
    def presets(self) -> set[str]:
        """Names under which its presets train."""
        found = [path.stem for path in (self.folder / "python" / "llm_esr").glob("**/presets/*.yaml")]
        if not found:
            raise SystemExit(f"the tree {self.name}, {self.folder}, has no presets/*.yaml under python/llm_esr")
        return {ALIASES.get(name, name) for name in found}

    def call(self, *arguments: str | Path, log: str) -> str:
        """Run its Python and return what it printed.

        Raises:
            DifferenceError: it failed.

        """
        path = [str(self.folder / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {k: v for k, v in os.environ.items() if k not in OUTER}
        environment |= FIXED | {"PYTHONPATH": os.pathsep.join(path)}
        done = subprocess.run(
            [self.python, *arguments], cwd=self.work, env=environment, capture_output=True, text=True, check=False
        )
        (self.work / f"{log}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise DifferenceError(
                f"{log} failed in the tree {self.name}: {last} (all of it: {self.work / f'{log}.log'})"
            )
        return done.stdout

    def train(self, preset: str, tables: Path) -> None:
        """Train and evaluate one preset through the console script that pyproject.toml names."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))
        module, _, function = project["project"]["scripts"]["llm-esr"].partition(":")
        start = f"import sys; from {module} import {function} as main; sys.argv[0] = 'llm-esr'; sys.exit(main())"
        tables_given = ("run", tables / "events.parquet", "--items", tables / "items.parquet", "--out", self.run)
        settings = ("--encoder", "lsa", "--models", preset, "--epochs", str(EPOCHS), "--seeds", str(SEED))
        self.call("-c", start, *tables_given, *settings, log=f"run {name_of(preset)}")

    def digest(self, preset: str) -> list[dict[str, str]]:
        """Digests of each array of each batch that the preset's loader gives."""
        own = Path(__file__).resolve()
        digests: list[dict[str, str]] = json.loads(
            self.call(own, "--digest", preset, self.run / "data", log=f"batches {name_of(preset)}").splitlines()[-1]
        )
        return digests

    def model(self, preset: str) -> Path:
        return self.run / "models" / name_of(preset) / str(SEED)

    def check(self) -> None:
        """That the package is this tree's, and its extension no older than the Rust code."""
        code = "import llm_esr, llm_esr._native as n; print(llm_esr.__file__); print(n.__file__)"
        package, extension = self.call("-c", code, log="import").splitlines()[-2:]
        if not Path(package).resolve().is_relative_to(self.folder.resolve()):
            raise SystemExit(f"the tree {self.name} is {self.folder}, but its Python imports {package}")
        newest = max(path.stat().st_mtime for path in (self.folder / "rust").glob("**/*.rs"))
        if Path(extension).stat().st_mtime < newest:
            print(f"warning: {extension} is older than the Rust code of the tree {self.name}; is it built?")


def main() -> None:
    """Compare the two trees and say so, a line a preset."""
    given = arguments()
    if given.digest:
        print(json.dumps(digest_batches(*given.digest)))
        return
    began = time.monotonic()
    before_folder = given.before_tree.resolve() if given.before_tree else checkout(given.before)
    before = tree("before", before_folder, given.python_before)
    now = tree("now", given.now_tree.resolve(), given.python_now)
    print(f"before: {described(before)}\nnow:    {described(now)}")
    tables = WORK / "tables"
    write_tables(before, tables, given.users, given.items)
    presets = sorted(before.presets | now.presets)
    if given.presets:
        wanted = given.presets.split(",")
        if unknown := set(wanted) - set(presets):
            raise SystemExit(f"no preset {', '.join(sorted(unknown))}; there are: {', '.join(presets)}")
        presets = wanted
    files = [str(Path(file).resolve()) for file in given.files.split(",") if file]
    same = failures = 0
    compared = False
    for preset in [*presets, *files]:
        if preset not in before.presets and preset not in files:
            print(f"new      {preset:<15} the tree before has no such preset; nothing to compare")
            continue
        try:
            if preset not in now.presets and preset not in files:
                raise DifferenceError("the tree now has no such preset")
            both(lambda tree, preset=preset: tree.train(preset, tables), before, now)
            if not compared:
                compared = True
                failures += report("data", lambda: compare_data(before, now))
            print_same(name_of(preset), compare_preset(preset, before, now))
            same += 1
        except DifferenceError as difference:
            failures += 1
            print(f"DIFFERS  {name_of(preset):<15} {difference}", flush=True)
    if compared:
        failures += report("popularity", lambda: [f"metrics {compare_rows('popularity', before, now)} rows"])
    print(f"{same} presets the same, {failures} differences; {time.monotonic() - began:.0f} s")
    sys.exit(1 if failures or not same else 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", nargs="?", help="the commit to compare with; checked out and built under runs/")
    parser.add_argument("--before-tree", type=Path, metavar="DIR", help="an existing checkout in place of a commit")
    parser.add_argument("--now-tree", type=Path, metavar="DIR", default=ROOT, help="default: this repository")
    parser.add_argument("--python-before", type=Path, metavar="FILE", help="default: its .venv/bin/python")
    parser.add_argument("--python-now", type=Path, metavar="FILE", help="default: its .venv/bin/python")
    parser.add_argument("--presets", help="comma-separated; default: all that either tree has")
    parser.add_argument("--files", default=",".join(FILES), help="YAML files that both trees train, comma-separated")
    # The demo's 3,000 users and 2,000 items take three times as long and show nothing more.
    parser.add_argument("--users", type=int, default=1000, help="users of the simulated shop (default: %(default)s)")
    parser.add_argument("--items", type=int, default=800, help="items of its catalogue (default: %(default)s)")
    parser.add_argument("--digest", nargs=2, metavar=("PRESET", "DATA"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.digest and (given.before is None) == (given.before_tree is None):
        parser.error("name the commit to compare with (make sameness BEFORE=<commit>), or --before-tree DIR")
    return given


def name_of(preset: str) -> str:
    """Under which a preset or a YAML file trains."""
    return Path(preset).stem if preset.endswith(".yaml") else preset


def checkout(commit: str) -> Path:
    """A git worktree of the commit under runs/, kept for the next time."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run(
        [*git, "rev-parse", "--verify", f"{commit}^{{commit}}"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise SystemExit(f"{commit} is no commit of {ROOT}; `git log` lists them")
    name = found.stdout.strip()
    folder = WORK / "trees" / name[:12]
    if not (folder / "Makefile").exists():
        subprocess.run([*git, "worktree", "prune"], check=True)
        subprocess.run([*git, "worktree", "add", "--detach", "--quiet", str(folder), name], check=True)
    return folder


def tree(name: str, folder: Path, python: Path | None) -> Tree:
    """A tree that can be asked; without a Python of its own or a given one it is built."""
    if python is None and not (folder / ".venv" / ".native").exists():
        print(f"building {folder} (make setup)", flush=True)
        environment = {k: v for k, v in os.environ.items() if k not in OUTER}
        subprocess.run(["make", "--no-print-directory", "setup"], cwd=folder, env=environment, check=True)
    work = WORK / name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    made = Tree(name, folder, (python or folder / ".venv" / "bin" / "python").absolute(), work)
    try:
        made.check()
    except DifferenceError as failure:
        raise SystemExit(str(failure)) from None
    return made


def described(tree: Tree) -> str:
    """Its folder and commit, and whether files differ from the commit."""
    git = ["git", "-C", str(tree.folder)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return f"{tree.folder} at {commit.stdout.strip() or '?'}{' with changes' if changed.stdout.strip() else ''}"


def write_tables(tree: Tree, folder: Path, users: int, items: int) -> None:
    """The simulated tables that both trees read."""
    folder.mkdir(parents=True, exist_ok=True)
    code = (
        "import sys; from llm_esr import simulate; "
        f"tables = simulate(seed={SEED}, n_users={users}, n_items={items}); "
        "[table.write_parquet(path) for table, path in zip(tables, sys.argv[1:], strict=True)]"
    )
    tree.call("-c", code, folder / "events.parquet", folder / "items.parquet", log="simulate")


def both(work: Any, before: Tree, now: Tree) -> tuple[Any, Any]:
    """The work of both trees, side by side."""
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(work, before), pool.submit(work, now)
        return one.result(), two.result()


def report(name: str, compare: Any) -> int:
    """Print a line; return how many differences it tells."""
    try:
        print_same(name, compare())
    except DifferenceError as difference:
        print(f"DIFFERS  {name:<15} {difference}", flush=True)
        return 1
    return 0


def print_same(name: str, found: Sequence[str]) -> None:
    print(f"same     {name:<15} {', '.join(found)}", flush=True)


def compare_data(before: Tree, now: Tree) -> list[str]:
    """The arrays of the data folders."""
    folders = [tree.run / "data" for tree in (before, now)]
    for name in DATA_ARRAYS:
        paths = [folder / f"{name}.npy" for folder in folders]
        for path, tree in zip(paths, (before, now), strict=True):
            if not path.exists():
                raise DifferenceError(f"the tree {tree.name} wrote no data/{name}.npy")
        compare_arrays(f"data/{name}.npy", *(np.load(path, mmap_mode="r", allow_pickle=False) for path in paths))
    return [f"{len(DATA_ARRAYS)} arrays"]


def compare_arrays(name: str, one: Any, two: Any) -> None:
    """Bit for bit: NaNs too, and -0 is not 0."""
    for what, was, came in (("type", one.dtype, two.dtype), ("shape", one.shape, two.shape)):
        if was != came:
            raise DifferenceError(f"{name} has {what} {was} before and {came} now")
    first, second = (np.ascontiguousarray(array).reshape(-1) for array in (one, two))
    bits = f"V{first.itemsize}"
    unequal = np.flatnonzero(first.view(bits) != second.view(bits))
    if len(unequal):
        at = int(unequal[0])
        values = f"{first[at]!r} before, {second[at]!r} now"
        raise DifferenceError(f"{name} differs in {len(unequal)} of {first.size} values, first at {at}: {values}")


def compare_preset(preset: str, before: Tree, now: Tree) -> list[str]:
    """What was compared; from the cheapest cause to the last effect, so that what differs first explains most."""
    batches = compare_batches(*both(lambda tree: tree.digest(preset), before, now))
    losses = compare_losses(preset, before, now)
    files = [before.model(preset) / "projection.safetensors", now.model(preset) / "projection.safetensors"]
    if files[0].exists() != files[1].exists():
        raise DifferenceError("projection.safetensors was written by one tree alone")
    if files[0].exists():
        compare_tensors(*files)
    weights = compare_tensors(*(tree.model(preset) / "model.safetensors" for tree in (before, now)))
    rows = compare_rows(name_of(preset), before, now)
    return [weights, f"metrics {rows} rows", f"losses {losses}", f"batches {batches}"]


def read_tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Names, types, shapes and bytes of a safetensors file."""
    if not path.exists():
        raise DifferenceError(f"there is no {path}")
    body = path.read_bytes()
    start = 8 + int.from_bytes(body[:8], "little")
    header = json.loads(body[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        begin, end = about["data_offsets"]
        tensors[name] = (about["dtype"], tuple(about["shape"]), body[start + begin : start + end])
    return tensors


def compare_tensors(one: Path, two: Path) -> str:
    """Tensors of equal names bit for bit; under other names, the same number of equal ones."""
    before, now = read_tensors(one), read_tensors(two)
    common = [name for name in before if name in now]
    for name in common:
        (dtype, shape, body), other = before[name], now[name]
        if (dtype, shape) != other[:2]:
            raise DifferenceError(f"{one.name}: {name} is {dtype} {shape} before and {other[0]} {other[1]} now")
        if body != other[2]:
            raise DifferenceError(f"{one.name}: {name}, {dtype} {shape}, has other bytes")
    gone = Counter(before[name] for name in before if name not in now)
    came = Counter(now[name] for name in now if name not in before)
    if gone != came:
        lost = [name for name in before if name not in now and before[name] not in came]
        new = [name for name in now if name not in before and now[name] not in gone]
        words = f"{', '.join(lost[:3]) or 'none'} before, {', '.join(new[:3]) or 'none'} now"
        raise DifferenceError(f"{one.name}: tensors that the other tree has under no name: {words}")
    renamed = gone.total()
    return f"weights {len(before)} tensors" + (f" ({renamed} renamed)" if renamed else "")


def compare_losses(preset: str, before: Tree, now: Tree) -> int:
    """The losses of each epoch that both trees log under one name; returns how many."""
    logs = []
    for tree in (before, now):
        lines = (tree.model(preset) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        logs.append([line for line in map(json.loads, lines) if "epoch" in line and "loss" in line])
    if len(logs[0]) != EPOCHS or len(logs[1]) != EPOCHS:
        raise DifferenceError(
            f"metrics.jsonl has {len(logs[0])} epochs before and {len(logs[1])} now, expected {EPOCHS}"
        )
    compared = 0
    for was, came in zip(*logs, strict=True):
        for name in LOSSES:
            if name in was and name in came:
                compared += 1
                if repr(was[name]) != repr(came[name]):
                    raise DifferenceError(
                        f"{name} of epoch {was['epoch']} is {was[name]!r} before and {came[name]!r} now"
                    )
    return compared


def compare_rows(model: str, before: Tree, now: Tree) -> int:
    """All rows of metrics.json that belong to a model; returns how many."""
    both_rows = []
    for tree in (before, now):
        if not (tree.run / "metrics.json").exists():
            raise DifferenceError(f"the tree {tree.name} wrote no metrics.json")
        rows = json.loads((tree.run / "metrics.json").read_text(encoding="utf-8"))["rows"]
        both_rows.append([json.dumps(row, sort_keys=True) for row in rows if row["model"] == model])
    if len(both_rows[0]) != len(both_rows[1]) or not both_rows[0]:
        raise DifferenceError(
            f"metrics.json has {len(both_rows[0])} rows of {model} before and {len(both_rows[1])} now"
        )
    for was, came in zip(*both_rows, strict=True):
        if was != came:
            raise DifferenceError(f"metrics.json: {was} before, {came} now")
    return len(both_rows[0])


def compare_batches(before: list[dict[str, str]], now: list[dict[str, str]]) -> int:
    """Digests of all batches; returns how many."""
    for was, came in zip(before, now, strict=False):
        for name in was:
            if was[name] != came[name]:
                raise DifferenceError(f"batch of {was['where']}: the array {name} differs")
    if len(before) != len(now):
        raise DifferenceError(f"{len(before)} batches before, {len(now)} now")
    return len(before)


def digest_batches(preset: str, folder: str) -> list[dict[str, str]]:
    """Every batch of the preset's loader, array by array; runs in the tree's own process."""
    from llm_esr.config import load_config
    from llm_esr.data import Dataset
    from llm_esr.training import build_loader

    loader = build_loader(Dataset.open(folder), load_config(preset, [f"train.seed={SEED}"]))
    digests = []
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        for step, batch in enumerate(loader):
            digests.append({"where": f"epoch {epoch} step {step}"} | digest_batch(batch))
    return digests


def digest_batch(batch: Any) -> dict[str, str]:
    found = {names[0]: digest(named(batch, names)) for names in BATCH_ARRAYS}
    for group in ("students", "teachers"):
        sequences = named(batch, (group,))
        for name in SEQUENCE_ARRAYS:
            found[f"{group}.{name}"] = digest(None if sequences is None else named(sequences, (name,)))
    return found


def named(holder: Any, names: Sequence[str]) -> Any:
    """The attribute under the first of the names that there is."""
    for name in names:
        if hasattr(holder, name):
            return getattr(holder, name)
    raise SystemExit(
        f"{type(holder).__name__} has none of {', '.join(names)}; add its new name to {Path(__file__).name}"
    )


def digest(array: Any) -> str:
    if array is None:
        return "none"
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()).hexdigest()


if __name__ == "__main__":
    main()
