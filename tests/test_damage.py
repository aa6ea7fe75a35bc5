"""Files that results depend on are read as they were written, or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import llm_esr
from llm_esr.files import checksums
from llm_esr.pipeline.doctor import doctor
from llm_esr.scoring import build_untrained
from llm_esr.serving import Recommender
from llm_esr.simulation import simulate


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    interactions, items = simulate(5, 60, 130)
    llm_esr.run(interactions, items=items, out=folder, models=["llm-esr"], epochs=1, config={"model": {"width": 8}},
                progress=False)  # fmt: skip
    return folder


def use(folder: Path) -> list[object]:
    """Everything that a served list and its evaluation depend on."""
    model = Recommender.load(folder)
    vectors = [model.data.item_embeddings, model.data.user_embeddings, model.data.similar_users,
               model.data.similar_users_scores, model.data.similar_items, model.data.similar_items_scores,
               *build_untrained("co-occurrence", model.data).table]  # fmt: skip
    return [model.recommend(users=model.data.user_ids[:5], k=3).rows(), *(np.array(one).tobytes() for one in vectors)]


FILES = ("data/items.npy", "data/offsets.npy", "data/splits.npy", "data/timestamps.npy", "data/users.parquet",
         "data/items.parquet", "data/item_embeddings.npy", "data/user_embeddings.npy", "data/similar_users.npy",
         "data/similar_users_scores.npy",
         "data/similar_items.npy", "data/similar_items_scores.npy", "models/llm-esr/42/model.safetensors",
         "models/llm-esr/42/config.yaml", "data/dataset.json", "data/item_embeddings.json", "data/similar_items.json",
         "models/llm-esr/42/model.json", "data/tables/co-occurrence-ids.npy", "data/tables/co-occurrence-values.npy",
         "data/tables/co-occurrence-values.json")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_or_a_cut_is_refused_with_the_file(whole: Path, tmp_path: Path, name: str) -> None:
    expected = use(whole)
    rng = np.random.default_rng(0)
    size = (whole / name).stat().st_size
    for trial in range(12):
        folder = tmp_path / str(trial)
        shutil.copytree(whole, folder)
        raw = bytearray((folder / name).read_bytes())
        if trial < 8:
            raw[int(rng.integers(size)) if trial else size - 1] ^= 1 << int(rng.integers(8))
        else:
            raw = raw[: int(rng.integers(size))]
        (folder / name).write_bytes(raw)
        with pytest.raises((ValueError, OSError)) as caught:
            assert use(folder) == expected, "read differently without a word"
            raise AssertionError("read in spite of the damage")
        assert Path(name).name in str(caught.value)
        assert any(finding.bad for finding in doctor(folder))
        shutil.rmtree(folder)


def test_a_file_is_read_whole_once_and_again_when_it_changed(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    read: list[str] = []
    own = checksums.checksum
    monkeypatch.setattr(checksums, "checksum", lambda path: read.append(Path(path).name) or own(path))
    use(folder)
    assert read.count("items.npy") == read.count("model.safetensors") == 1
    use(folder)
    assert read.count("items.npy") == read.count("model.safetensors") == 1
    monkeypatch.setattr(checksums, "LARGEST_VERIFIED", 10)
    shutil.copytree(folder, tmp_path / "again")
    read.clear()
    use(tmp_path / "again")
    assert not read
