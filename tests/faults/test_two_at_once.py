"""Two writers of one folder: the second one refuses; what a killed one left is free. A reader sees old or new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llm_esr.config import load_config
from llm_esr.data import Dataset, prepare
from llm_esr.evaluation import read_rows
from llm_esr.files.lock import lock_folder
from llm_esr.retrieval import index
from llm_esr.semantics import embed
from llm_esr.training import train

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks are those of POSIX")

HOLD = """
import sys, time
from pathlib import Path
from llm_esr.files.lock import lock_folder
with lock_folder(Path(sys.argv[1]), "trained"):
    print("held", flush=True)
    time.sleep(60)
"""
SMALL = ["model.width=8", "train.epochs=1"]


def test_the_second_refuses_and_a_killed_one_is_no_owner(tiny_folder: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        said = rf"{tmp_path} is being trained by process {first.pid} on .* since 20.*; wait until it has finished"
        with pytest.raises(ValueError, match=said):
            train(tiny_folder, config=load_config("sasrec", SMALL), out=tmp_path, progress=False)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    train(tiny_folder, config=load_config("sasrec", SMALL), out=tmp_path, progress=False)
    assert not (tmp_path / ".lock").exists() and (tmp_path / "model.safetensors").exists()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "held\n"
        try:
            yield
        finally:
            owner.kill()


def test_every_writer_of_a_data_folder_refuses_and_goes_on_when_it_is_free(
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    out = tmp_path / "data"
    stages = {
        "prepared": lambda: prepare(tiny_tables[0], items=tiny_tables[1], out=out),
        "embedded": lambda: embed(out, progress=False),
        "indexed": lambda: index(out, progress=False),
    }
    for doing, stage in stages.items():
        before = {path.name: path.read_bytes() for path in out.glob("*")}
        with (
            held(out),
            pytest.raises(ValueError, match=r"is being trained by process \d+ on .*; wait until it has finished"),
        ):
            stage()
        assert {p.name: p.read_bytes() for p in out.glob("*") if p.name != ".lock"} == before, doing
        stage()  # the lock file of the one that was killed lies there still
    assert not list(tmp_path.rglob(".*"))


def test_a_lock_file_that_was_replaced_is_not_taken_away(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "prepared"):
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").write_text("of the next owner")
    assert (tmp_path / ".lock").read_text() == "of the next owner"


def test_figures_of_many_processes_are_all_kept(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom llm_esr.evaluation import merge_rows\n"
        "for n in range(15):\n"
        "    row = dict(model=f'{sys.argv[2]}-{n}', seed=1, split='test', protocol='full', group='all', metric='ndcg',"
        " k=10, value=1.0, low=0.0, high=1.0, users=1)\n"
        "    merge_rows(Path(sys.argv[1]) / 'metrics.json', [row])\n"
    )
    crew = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(number)]) for number in range(3)]
    assert [one.wait(120) for one in crew] == [0] * 3
    assert len(read_rows(tmp_path / "metrics.json")) == 3 * 15
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_reader_beside_prepare_sees_one_data_set_or_the_other(
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    events, items = tiny_tables
    halves = (events, events.filter(pl.int_range(pl.len()) % 2 == 0))

    def content(data: Dataset) -> tuple[bytes, bytes]:
        return np.array(data.items).tobytes(), np.array(data.offsets).tobytes()

    whole = {content(prepare(half, items=items, out=tmp_path / str(n))) for n, half in enumerate(halves)}
    out = tmp_path / "shared"
    prepare(events, items=items, out=out)
    done = threading.Event()
    seen: list[tuple[bytes, bytes]] = []
    faults: list[Exception] = []

    def read() -> None:
        while not done.is_set():
            try:
                seen.append(content(Dataset.open(out)))
            except Exception as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(24):
        prepare(halves[n % 2], items=items, out=out, overwrite=True)
    done.set()
    reader.join()
    assert not faults, faults[:1]
    assert set(seen) == whole


def test_what_is_read_late_says_that_the_folder_was_replaced(
    tiny_tables: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    events, items = tiny_tables
    before = prepare(events, items=items, out=tmp_path / "data")
    prepare(events.head(150), items=items, out=tmp_path / "data", overwrite=True)
    with pytest.raises(ValueError, match="was replaced by another data set while it was open; open it again"):
        before.user_table()


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lock_folder(tmp_path, "trained"):
        raise RuntimeError
    with lock_folder(tmp_path, "trained"):
        pass
    assert not list(tmp_path.iterdir())


def test_many_at_once_are_one_after_another(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom llm_esr.files.lock import lock_folder\n"
        "folder, inside = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "for _ in range(40):\n"
        "    try:\n"
        "        with lock_folder(folder, 'trained'):\n"
        "            inside.mkdir()\n            time.sleep(0.002)\n            inside.rmdir()\n"
        "    except ValueError:\n        time.sleep(0.001)\n"
    )
    folder = tmp_path / "f"
    folder.mkdir()
    crew = [subprocess.Popen([sys.executable, "-c", script, str(folder), str(tmp_path / "inside")]) for _ in range(4)]
    began = time.monotonic()
    assert [one.wait(120) for one in crew] == [0] * 4, time.monotonic() - began
