"""Two trainings into one folder: the second one refuses; what a killed one left is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_esr.config import load_config
from llm_esr.files.lock import lock_folder
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
