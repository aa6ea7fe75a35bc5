"""The alignment with a trained model's item vectors: its value, what it leaves alone, and whom it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from interruption import StopAt
from safetensors.torch import load_file

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.files import checksum, read_json, write_json
from llm_esr.models import load_model
from llm_esr.training import TermData, build_loader, build_model, train
from llm_esr.training.forward import Forward
from llm_esr.training.plan import check_plan
from llm_esr.training.terms.alignment import Alignment, build

SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "train.epochs=2"]
BACKBONES = ("sasrec", "gru4rec", "bert4rec")


def small(*overrides: str, preset: str = "llmemb") -> Config:
    return load_config(preset, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def anchor(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anchor") / "sasrec"
    train(tiny_folder, config=small(preset="sasrec"), out=folder, progress=False)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def loss_of(kind: str, ids: list[int], anchors: np.ndarray, vectors: np.ndarray, tau: float) -> float:
    """The formulas of docs/llmemb.md, row by row."""
    if kind == "soft-targets":
        logits = anchors @ vectors.T / tau
        targets = softmax((anchors @ anchors.T + vectors @ vectors.T) / 2 * tau)
        both = -(targets * np.log(softmax(logits))).sum(1) - (targets.T * np.log(softmax(logits.T))).sum(1)
        return float(both.mean() / 2)
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (anchors, vectors)]
    total = 0.0
    for first, second in (unit, unit[::-1]):
        for i, item in enumerate(ids):
            kept = [j for j, other in enumerate(ids) if j == i or other != item]
            scores = [math.exp(first[i] @ second[j] / tau) for j in kept]
            total -= math.log(scores[kept.index(i)] / sum(scores))
    return total / len(ids) / 2


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec"])
@pytest.mark.parametrize("over", ["targets", "distinct", "inputs"])
@pytest.mark.parametrize("kind", ["soft-targets", "infonce"])
def test_the_loss_is_that_of_the_formula(kind: str, over: str, backbone: str, tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    # Padding as tokens: neither it nor a mask token is an item.
    config = small(f"align.over={over}", f"align.loss={kind}", "align.temperature=0.7", "model.padding=tokens",
                   "train.layout=padded", f"model.backbone={backbone}", "train.loss=sampled-softmax")  # fmt: skip
    model, batch = build_model(data, config)[0].double(), next(iter(build_loader(data, config)))
    anchors = np.random.default_rng(0).normal(size=(data.n_items, 8))
    term = Alignment(config, torch.from_numpy(anchors))
    met = batch.students.items if over == "inputs" else batch.students.targets
    ids = [int(item) for item in met if 0 < item <= data.n_items]
    assert len(set(ids)) < len(ids) < len(batch.students.items), "items repeat, and some tokens are not aligned"
    ids = sorted(set(ids)) if over == "distinct" else ids
    vectors = model.item_matrix().detach().numpy()
    rows = np.array(ids) - 1
    expected = loss_of(kind, ids, anchors[rows], vectors[rows], 0.7)
    for whole in (False, True):  # whether the step has the vectors of all items or of those it meets
        found = term(Forward(model, batch, whole_catalogue=whole))
        assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("fusion", "view"), [("side-by-side", "semantic"), ("sum", None)])
def test_with_two_views_the_semantic_one_is_aligned_or_their_sum(fusion: str, view: str, tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = small("model.views=[collaborative,semantic]", f"model.fusion={fusion}")
    model, batch = build_model(data, config)[0], next(iter(build_loader(data, config)))
    anchors = torch.randn(data.n_items, 8, generator=torch.Generator().manual_seed(0))
    term = Alignment(config, anchors)
    items = torch.from_numpy(np.unique(batch.students.targets[batch.students.targets > 0])).long()
    vectors = model.item_vectors(items) if view is None else model.views[view](items)
    expected = loss_of("soft-targets", [], anchors[items - 1].numpy(), vectors.detach().numpy(), 2.0)
    assert float(term(Forward(model, batch, whole_catalogue=True)).detach()) == pytest.approx(expected, rel=1e-5)


def test_a_step_without_targets_has_no_alignment(tiny_folder: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small()
    model, batch = build_model(data, config)[0], next(iter(build_loader(data, config)))
    batch.students.targets[:] = 0
    term = Alignment(config, torch.ones(data.n_items, 8))
    assert float(term(Forward(model, batch, whole_catalogue=True)).detach()) == 0


def test_weight_0_is_the_semantic_model_alone_to_the_last_bit(tiny_folder: Path, anchor: Path, tmp_path: Path) -> None:
    for name, settings in (
        ("off", ["align.weight=0", f"align.anchor={anchor}"]),
        ("alone", ["align.anchor=null"]),
        ("on", [f"align.anchor={anchor}", "align.weight=1"]),
    ):
        train(tiny_folder, config=small(*settings), out=tmp_path / name, progress=False)
    alone = weights(tmp_path / "alone")
    assert all(torch.equal(tensor, alone[name]) for name, tensor in weights(tmp_path / "off").items())
    assert any(not torch.equal(tensor, alone[name]) for name, tensor in weights(tmp_path / "on").items())


def test_neither_the_anchors_nor_the_texts_change(tiny_folder: Path, anchor: Path, tmp_path: Path) -> None:
    files = [anchor / "model.safetensors", tiny_folder / "item_embeddings.npy"]
    before = [checksum(file) for file in files]
    config = small(f"align.anchor={anchor}")
    data = llm_esr.Dataset.open(tiny_folder)
    term = build(config, TermData(torch.device("cpu"), None, data, folder=tmp_path))
    assert term is not None and not term.anchors_ID.requires_grad
    table = load_model(anchor).views["collaborative"].table.weight[1:-1]
    assert torch.equal(term.anchors_ID, table)
    found = train(data, config=config, out=tmp_path / "m", progress=False)
    assert [checksum(file) for file in files] == before
    assert not {"table", "anchors_ID"} & {name.split(".")[-1] for name in weights(tmp_path / "m")}
    lines = (tmp_path / "m" / "metrics.jsonl").read_text()
    assert lines.count('"alignment"') == 2 and found.model.config.views == ["semantic"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_training_that_was_cut_gives_the_same_bits(
    backbone: str, tiny_folder: Path, anchor: Path, tmp_path: Path
) -> None:
    config = small(f"model.backbone={backbone}", f"align.anchor={anchor}", "checkpoint.every_steps=4")
    train(tiny_folder, config=config, out=tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=config, out=tmp_path / "cut", callbacks=[StopAt(6)], progress=False)
    train(tiny_folder, config=config, out=tmp_path / "cut", progress=False)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert ("views.semantic.mask" in one) == (backbone == "bert4rec")


def test_the_anchor_of_a_preset_is_trained_first_with_the_same_width_and_seed(
    tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "models" / "llmemb" / "7"
    train(tiny_folder, config=small("train.seed=7", "train.epochs=1"), out=out, progress=False)
    trained = read_json(tmp_path / "models" / "sasrec" / "7" / "model.json")
    assert trained["finished"] and trained["made_from"]["model"]["width"] == 8
    made_from = read_json(out / "model.json")["made_from"]
    assert made_from["align"]["anchor"] == checksum(tmp_path / "models" / "sasrec" / "7" / "model.safetensors")


def test_other_anchors_make_another_model(tiny_folder: Path, anchor: Path, tmp_path: Path) -> None:
    config = small(f"align.anchor={tmp_path / 'sasrec'}", "train.epochs=1")
    train(tiny_folder, config=small("train.seed=7", preset="sasrec"), out=tmp_path / "sasrec", progress=False)
    train(tiny_folder, config=config, out=tmp_path / "m", progress=False)
    train(tiny_folder, config=small(preset="sasrec"), out=tmp_path / "sasrec", overwrite=True, progress=False)
    with pytest.raises(ValueError, match=r"align\.anchor .*the data changed"):
        train(tiny_folder, config=config, out=tmp_path / "m", progress=False)
    moved = small(f"align.anchor={anchor}", "train.epochs=1")  # the same weights elsewhere
    train(tiny_folder, config=moved, out=tmp_path / "m", overwrite=True, progress=False)
    train(tiny_folder, config=config, out=tmp_path / "m", progress=False)


def test_an_anchor_that_cannot_be_one_is_refused_before_anything_is_written(
    tiny_folder: Path, anchor: Path, tmp_path: Path
) -> None:
    def refused(match: str, *settings: str, kind: type[Exception] = ValueError) -> None:
        with pytest.raises(kind, match=match):
            train(tiny_folder, config=small(*settings), out=tmp_path / "m", progress=False)
        assert not (tmp_path / "m").exists()

    refused("8 wide and model.width is 16; give both models the same width", f"align.anchor={anchor}", "model.width=16")
    refused("nowhere does not exist", "align.anchor=nowhere", kind=FileNotFoundError)
    interactions, items = llm_esr.simulate(seed=3, n_users=60, n_items=120)
    other = llm_esr.prepare(interactions, items=items, out=tmp_path / "other")
    train(other, config=small(preset="sasrec"), out=tmp_path / "of_others", progress=False)
    refused(r"align\.anchor: .* was trained on other data", f"align.anchor={tmp_path / 'of_others'}")
    record = read_json(tmp_path / "of_others" / "model.json")
    write_json(tmp_path / "of_others" / "model.json", record | {"finished": False})
    refused(r"align\.anchor: the training in .* is not finished", f"align.anchor={tmp_path / 'of_others'}")


def test_two_views_side_by_side_are_too_wide_for_anchors(tiny_folder: Path, tmp_path: Path) -> None:
    dual = ["distill.weight=0", "distill.similar_users=3", "index.similar_users=10", "train.epochs=1"]
    train(tiny_folder, config=small(*dual, preset="dual-view"), out=tmp_path / "dual", progress=False)
    with pytest.raises(ValueError, match=r"are 16 wide and model\.width is 8; .* one view alone"):
        train(tiny_folder, config=small(f"align.anchor={tmp_path / 'dual'}"), out=tmp_path / "m", progress=False)


def test_a_model_is_not_replaced_by_what_is_aligned_with_it(tiny_folder: Path, anchor: Path) -> None:
    with pytest.raises(ValueError, match=r"align\.anchor: .* is where this training goes; .*another name"):
        train(tiny_folder, config=small(f"align.anchor={anchor}"), out=anchor, overwrite=True, progress=False)


def test_settings_that_cannot_be_aligned_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"align\.anchor needs the semantic view, .*got model\.views \['collaborative'"
    ):
        small("model.views=[collaborative]")
    small("model.views=[collaborative]", "align.anchor=null")
    small("model.views=[collaborative]", "model.fusion=sum")
    for setting in ("weight=-1", "temperature=0", "over=users", "loss=mse"):
        with pytest.raises(ValueError, match=rf"align\.{setting.split('=')[0]}"):
            small(f"align.{setting}")
    with pytest.raises(ValueError, match=r"TermData\.data and folder"):
        build(small(), TermData(torch.device("cpu")))


def test_the_pairs_of_an_alignment_count_in_the_plan(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    with pytest.raises(ValueError, match=r"for the alignment's pairs \(train\.batch_size, align\.over\)"):
        check_plan(data, small("align.over=targets", "train.batch_size=60"), memory=600_000)
    check_plan(data, small("align.over=distinct", "train.batch_size=60"), memory=600_000)


def test_a_mask_tokens_own_vector_is_what_the_model_reads_there(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    model = build_model(data, small("model.backbone=bert4rec"))[0]
    view, mask = model.views["semantic"], torch.tensor([data.n_items + 1])
    assert 0 < view.mask.abs().max() < 0.1 and view.mask.requires_grad
    assert torch.equal(model.item_vectors(mask)[0], view.mask)
    zeros = torch.zeros(1, view.table.shape[1])
    plain = build_model(data, small("model.backbone=bert4rec", "model.semantic_mask=adapter"))[0].views["semantic"]
    assert torch.allclose(plain(mask), plain.second(plain.first(zeros)))
    ids = torch.arange(data.n_items + 1)
    assert torch.equal(view(ids)[1:], model.item_matrix())


def test_every_item_has_its_own_row_unless_the_last_is_shifted(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    own, shifted = (build_model(data, small(f"model.last_row={row}"))[0].item_matrix() for row in ("own", "shifted"))
    assert torch.equal(own[:-1], shifted[:-1]) and not torch.allclose(own[-1], shifted[-1])
    view = build_model(data, small())[0].views["semantic"]
    assert torch.allclose(shifted[-1], view.second(view.first(torch.zeros(view.table.shape[1]))), atol=1e-6)
