"""MELT: what the two branches learn, what is written into tail rows, and how tail users are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interruption import StopAt
from safetensors.torch import load_file

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.loading.contexts import Contexts
from llm_esr.models import SequentialEncoder
from llm_esr.training import TermData, build_loader, build_model, build_terms, train
from llm_esr.training.averaging import AveragedModel
from llm_esr.training.optimizer import build_optimizer
from llm_esr.training.terms.item_transfer import ItemTransfer
from llm_esr.training.terms.user_transfer import UserTransfer
from llm_esr.training.transfer.curriculum import item_weights, user_weights
from llm_esr.training.transfer.dealing import Dealing
from llm_esr.training.transfer.groups import HeadAndTail
from llm_esr.training.transfer.tail_rows import context_means, fit_item_map, write_rows
from llm_esr.training.weights import Weights

SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "train.epochs=2", "train.start_from=null"]


def small(*overrides: str, preset: str = "melt") -> Config:
    return load_config(preset, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def data(tiny_folder: Path) -> llm_esr.Dataset:
    return llm_esr.Dataset.open(tiny_folder)


@pytest.fixture(scope="module")
def sasrec(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer") / "sasrec"
    train(tiny_folder, config=small("train.epochs=1", preset="sasrec"), out=folder, progress=False)
    return folder


def weights_of(model: SequentialEncoder, config: Config) -> Weights:
    return Weights(model, lambda: model, build_optimizer(model, config, None))


def terms_of(data: llm_esr.Dataset, config: Config) -> list[Any]:
    return build_terms(config, TermData(torch.device("cpu"), build_loader(data, config), data))


@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
@pytest.mark.parametrize("views", ["one", "side-by-side", "sum"])
def test_the_mean_of_contexts_is_that_of_contexts_encoded_one_by_one(
    data: llm_esr.Dataset, backbone: str, views: str
) -> None:
    settings = [f"model.backbone={backbone}", "model.max_len=5"]
    settings += [] if views == "one" else ["model.views=[semantic, collaborative]", f"model.fusion={views}"]
    config = small(*settings)
    assert config.model.prefixes_agree == (backbone != "bert4rec")
    model = build_model(data, config)[0].double().eval()
    contexts = Contexts(data, max_len=5)
    items = 1 + np.flatnonzero(np.diff(contexts.offsets)[1:])[::3]
    with torch.no_grad():
        means = context_means(model, contexts, items)
        for mean, item in zip(means, items, strict=True):
            read = [contexts.read([number]) for number in contexts.of(np.array([item]))]
            alone = torch.stack([model.last_states(model.sequences(*one))[0] for one in read])
            torch.testing.assert_close(mean, alone.mean(dim=0), rtol=1e-9, atol=1e-9)


def test_the_item_map_starts_from_least_squares(data: llm_esr.Dataset) -> None:
    config = small()
    model = build_model(data, config)[0].eval()
    assert model.transfer is not None and model.item_table is not None
    contexts, groups = Contexts(data, max_len=12), HeadAndTail.of(data, config)
    items = groups.head_items
    fit_item_map(weights_of(model, config), contexts, items, enhanced=True)
    x = context_means(model, contexts, items).double().numpy()
    y = model.item_table.weight[torch.from_numpy(items)].detach().double().numpy()
    centred = x - x.mean(axis=0)
    penalty = np.sqrt(0.01 * (centred**2).sum() / 8)
    solved = np.linalg.lstsq(
        np.concatenate([centred, penalty * np.eye(8)]),
        np.concatenate([y - y.mean(axis=0), np.zeros((8, 8))]),
        rcond=None,
    )[0]
    with torch.no_grad():
        made = model.transfer.items(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(made, centred @ solved + y.mean(axis=0), atol=1e-5)


def test_rows_are_written_into_the_averaged_model_too_and_adam_forgets_them(data: llm_esr.Dataset) -> None:
    for table_updates in ("dense", "lazy"):
        config = small(f"train.table_updates={table_updates}", "train.loss=sampled-softmax")
        model = build_model(data, config)[0]
        assert model.item_table is not None
        table = model.item_table.weight
        averaged = AveragedModel(model, 0.9, table if table_updates == "lazy" else None)
        optimizer = build_optimizer(model, config, None)
        table.grad = torch.ones_like(table)
        optimizer.step()
        averaged.update()
        items, rows, before = np.array([3, 7]), torch.full((2, 8), 2.0), table.detach().clone()
        mean = averaged.model

        def evaluated(mean: Any = mean) -> SequentialEncoder:
            return mean  # type: ignore[no-any-return]

        write_rows(Weights(model, evaluated, optimizer), items, rows, keep=0.25, reset_moments=True)
        expected = 0.75 * 2 + 0.25 * before[items]
        for one in (model, mean):
            assert torch.allclose(one.item_table.weight[items], expected)
        untouched = np.setdiff1d(np.arange(len(table)), items)
        assert torch.equal(table[untouched], before[untouched])
        state = optimizer.state[table]
        assert not state["exp_avg"][items].any() and not state["exp_avg_sq"][items].any()
        assert state["exp_avg"][untouched].all() and float(state["step"]) == 1


def test_short_histories_are_scored_with_the_user_map_added(data: llm_esr.Dataset) -> None:
    for backbone in ("sasrec", "bert4rec", "gru4rec"):
        model = build_model(data, small(f"model.backbone={backbone}"))[0].eval()
        assert model.transfer is not None
        with torch.no_grad():
            torch.nn.init.normal_(model.transfer.users.weight)
            sequences = model.sequences(np.arange(1, 10, dtype=np.int32), np.array([0, 2, 5, 9]))
            plain = model.last_states(sequences)
            assert torch.equal(model.encode(sequences), plain)
            model.transfer.tail_user.fill_(3.5)
            added = plain + model.transfer.users(plain)
            torch.testing.assert_close(model.encode(sequences), torch.stack([added[0], added[1], plain[2]]))


def test_a_model_with_maps_of_no_weight_trains_as_the_plain_one_bit_for_bit(
    tiny_folder: Path, sasrec: Path, tmp_path: Path
) -> None:
    start = f"train.start_from={sasrec}"
    train(tiny_folder, config=small(start, preset="sasrec"), out=tmp_path / "plain", progress=False)
    none = ["transfer.user_weight=0", "transfer.item_weight=0"]
    train(tiny_folder, config=small(start, *none), out=tmp_path / "melt", progress=False)
    plain, melt = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "melt"))
    assert {name for name in melt if name not in plain} == {
        "transfer.tail_user", "transfer.users.weight", "transfer.users.bias", "transfer.items.weight",
        "transfer.items.bias",
    }  # fmt: skip
    assert all(torch.equal(plain[name], melt[name]) for name in plain)


@pytest.mark.parametrize("preset", ["melt", "melt-paper"])
def test_a_resume_in_mid_epoch_gives_the_same_bits_and_refreshes_once(
    tiny_folder: Path, tmp_path: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("train.epochs=3", "train.evaluate_every=1", "transfer.head_share=0.3",
                   "train.validation_candidates=20", preset=preset)  # fmt: skip
    refreshed: list[int] = []
    refresh = ItemTransfer.refresh

    def counted(self: ItemTransfer, weights: Weights) -> None:
        refreshed.append(self.refreshed_epoch)
        refresh(self, weights)

    monkeypatch.setattr(ItemTransfer, "refresh", counted)
    whole = train(tiny_folder, config=config, out=tmp_path / "whole", progress=False)
    assert refreshed == [0, 1, 2]
    refreshed.clear()
    steps = whole.folder / "metrics.jsonl"
    in_second = int(steps.read_text().splitlines()[0].split('"step": ')[1].split(",")[0]) + 2
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=config, out=tmp_path / "cut", progress=False, callbacks=[StopAt(in_second)])
    train(tiny_folder, config=config, out=tmp_path / "cut", progress=False)
    assert refreshed == [0, 1, 2]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_tail_rows_move_only_where_there_are_contexts(data: llm_esr.Dataset) -> None:
    config = small()
    model = build_model(data, config)[0]
    (term,) = (term for term in terms_of(data, config) if isinstance(term, ItemTransfer))
    assert model.item_table is not None
    before = model.item_table.weight.detach().clone()
    term.before_epoch(0, weights_of(model, config))
    moved = (model.item_table.weight != before).any(dim=1).numpy()
    tail = term.groups.tail_items
    assert np.flatnonzero(moved).tolist() == tail[term.contexts.counts(tail) > 0].tolist()
    after = model.item_table.weight.detach().clone()
    term.before_epoch(0, weights_of(model, config))
    assert torch.equal(model.item_table.weight, after)
    never = small("transfer.refresh_from=null", "transfer.fit_items=false")
    (term,) = (term for term in terms_of(data, never) if isinstance(term, ItemTransfer))
    term.before_epoch(0, weights_of(model, never))
    assert torch.equal(model.item_table.weight, after)


def test_the_groups_are_those_that_evaluation_prints(data: llm_esr.Dataset) -> None:
    config = small()
    groups = HeadAndTail.of(data, config)
    limits = llm_esr.evaluation.groups.thresholds(
        llm_esr.evaluation.groups.GroupCounts.of(data, "test", "training", None), config.evaluate
    )
    assert groups.tail_items.tolist() == (1 + np.flatnonzero(groups.counts[1:] < limits.tail_item)).tolist()
    assert groups.head_users.tolist() == np.flatnonzero(groups.lengths >= limits.tail_user).tolist()


def test_the_weights_of_the_curriculum_are_those_that_the_specification_lists() -> None:
    # t = 6, L = 50, E = 180
    lengths, counts = np.array([7, 10, 20, 50, 400]), np.array([7, 20, 56, 500])
    for epoch, users, items in (
        (0, [0, 0.109, 0.457, 1, 1], [0, 0.397, 1, 1]),
        (90, [0.707, 0.780, 0.952, 0.707, 0.707], None),
        (179, [1, 0.995, 0.893, 0.009, 0.009], [1, 0.921, 0.040, 0.040]),
    ):
        np.testing.assert_allclose(user_weights(lengths, 6, 50, epoch / 180), users, atol=6e-4)
        if items is not None:
            np.testing.assert_allclose(item_weights(counts, 6, epoch / 180), items, atol=6e-4)


@pytest.mark.parametrize("n", [0, 3, 7, 100])
def test_members_are_spread_over_all_steps_each_once_an_epoch(n: int) -> None:
    members = np.arange(5, 5 + n)
    dealing = Dealing(members, 7, "all", owner=1, seed=3)
    for epoch in (0, 1, 0):
        dealt = [dealing.of(epoch, step).tolist() for step in range(7)]
        assert sorted(member for one in dealt for member in one) == members.tolist()
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    assert dealing.most_steps is None
    with pytest.raises(ValueError, match=r"transfer\.steps shortest .* there is 1; lower train\.batch_size"):
        Dealing(members, 1, "shortest", owner=1, seed=3)


def test_what_cannot_be_is_refused_or_left_out_with_a_word(data: llm_esr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"model\.transfer needs the collaborative view"):
        small("model.views=[semantic]")
    with pytest.raises(
        ValueError, match=r"tail users have up to \d+ items and the model reads 4.* raise model.max_len"
    ):
        terms_of(data, small("model.max_len=4"))
    short = ["transfer.head_share=0.9"]
    with pytest.raises(ValueError, match=r"transfer\.recent below-tail: .*expected 2 or more"):
        terms_of(data, small(*short, "transfer.recent=below-tail"))
    alike = llm_esr.Dataset.open(data.folder)
    alike.__dict__["training_lengths"] = np.full(data.n_users, 3)  # so nobody is head
    with pytest.warns(UserWarning, match="training without the user branch"):
        terms = terms_of(alike, small())
    assert not any(isinstance(term, UserTransfer) for term in terms)


def test_a_part_that_is_switched_off_is_not_built(data: llm_esr.Dataset) -> None:
    def names(*overrides: str) -> list[str]:
        return [term.name for term in terms_of(data, small(*overrides))]

    assert names() == ["ranking", "user_transfer", "item_transfer"]
    assert names("transfer.user_weight=0") == ["ranking", "item_transfer"]
    assert names("transfer.item_weight=0") == ["ranking", "user_transfer"]
    assert names("model.transfer=false") == ["ranking"]
