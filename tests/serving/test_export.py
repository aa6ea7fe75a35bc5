"""An exported folder is whole, scores as the model does by the code of docs/serving.md, and replaces nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import BLEND, model_on

import llm_esr
from llm_esr.files import checksum
from llm_esr.serving import Recommender
from llm_esr.serving.export import encoders

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


@pytest.fixture(scope="module")
def data(tiny_folder: Path) -> llm_esr.Dataset:
    return llm_esr.Dataset.open(tiny_folder)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


@pytest.mark.parametrize("blend", [None, BLEND], ids=["alone", "blended"])
@pytest.mark.parametrize("folder", ["tiny_folder", "cold_folder"])
def test_the_code_of_the_page_gives_the_recommendations(
    folder: str, request: pytest.FixtureRequest, in_folder: Path, blend: dict[str, float] | None
) -> None:
    data = llm_esr.Dataset.open(request.getfixturevalue(folder))
    assert (data.training_counts[1:].min() == 0) == (folder == "cold_folder")
    model = model_on(data, blend)
    assert llm_esr.export_model(model, "export") == Path("export")
    scoring, blending = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(scoring, str(PAGE), "exec"), names)
    exec(compile(blending, str(PAGE), "exec"), names)
    found = model.recommend(histories=[["i3", "i9"]], k=10)
    assert names["best"] == found["item_id"].to_list()
    kept = [names["number"][name] - 1 for name in names["best"]]
    if blend is None:  # the page's softmax moves all scores alike
        shift = names["scores"][kept[0]] - found["score"][0]
        np.testing.assert_allclose(names["scores"][kept] - shift, found["score"].to_numpy(), atol=2e-5)
    else:
        np.testing.assert_allclose(names["scores"][kept], found["score"].to_numpy(), atol=2e-5)


def test_the_record_describes_every_file(data: llm_esr.Dataset, in_folder: Path) -> None:
    llm_esr.export_model(model_on(data, {"ease": 2.0}, backbone="bert4rec"), "export")
    about = json.loads(Path("export/export.json").read_text())
    assert about["files"] == {
        path.name: checksum(path) for path in Path("export").iterdir() if path.name != "export.json"
    }
    assert set(about["files"]) == {"encoder.onnx", "items.safetensors", "item_ids.json", "blend.safetensors"}
    assert about["mask_token"] == data.n_items + 1
    assert about["max_len"] == 6
    assert about["blend"]["ease"] == {"weight": 2.0, "kind": "table", "decay": 0.9, "newest": 20, "floor": None}
    assert json.loads(Path("export/item_ids.json").read_text()) == data.item_ids


def test_torch_opens_its_own_format(data: llm_esr.Dataset, in_folder: Path) -> None:
    model = model_on(data, backbone="gru4rec", text_profile=0.0, max_len=3)
    model.model.train()
    llm_esr.export_model(model, "export", to="torch")
    assert model.model.training
    encoder = torch.export.load("export/encoder.pt2").module()
    users = encoder(torch.tensor([[3, 9, 4], [5, 0, 0]]), torch.tensor([3, 1]))
    items, offsets = np.array([3, 9, 4, 5], np.int32), np.array([0, 3, 4])
    torch.testing.assert_close(users, model.network.user_vectors(items, offsets), atol=1e-5, rtol=0)


def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    data: llm_esr.Dataset, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_on(data)
    with pytest.raises(ValueError, match=r"to tea: expected onnx, torch or hub"):
        llm_esr.export_model(model, "export", to="tea")
    with pytest.raises(ValueError, match=r"with_histories=True needs to"):
        llm_esr.export_model(model, "export", with_histories=True)
    untrained = Recommender(None, data, "popularity", None, model.config)
    with pytest.raises(ValueError, match="popularity is a scorer without a network"):
        llm_esr.export_model(untrained, "export")
    with pytest.raises(ValueError, match=r"prefixes reads the sequences of all users.*blend=False"):
        llm_esr.export_model(model_on(data, {"prefixes": 1.0}), "export")
    monkeypatch.setattr(encoders, "_LARGEST", 1000)
    with pytest.raises(ValueError, match=r"an ONNX file holds at most 2 GiB; take to='torch'"):
        llm_esr.export_model(model, "export")
    assert not Path("export").exists()
    assert list(in_folder.iterdir()) == []


def test_only_an_export_is_replaced_and_only_when_asked(
    data: llm_esr.Dataset, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        encoders.FORMATS, "onnx", encoders.Format("encoder.onnx", lambda _, path: path.write_text("x"), "nothing")
    )
    model = model_on(data)
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds files that are no export"):
            llm_esr.export_model(model, "mine", overwrite=overwrite)
    llm_esr.export_model(model, "export")
    with pytest.raises(ValueError, match=r"holds an export; .*overwrite=True"):
        llm_esr.export_model(model, "export")
    llm_esr.export_model(model, "export", overwrite=True)
    assert Path("mine/letter.txt").read_text() == "dear"
