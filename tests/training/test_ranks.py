"""Several processes that torchrun started train what one would, and end together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from interruption import StopAt
from rank_pair import RankPair
from row_step_case import SETTINGS, terms_of
from safetensors.torch import load_file

import llm_esr
from llm_esr.cli import main
from llm_esr.config import load_config
from llm_esr.loading import BatchLoader
from llm_esr.loading.staging import send
from llm_esr.models import SequentialEncoder
from llm_esr.pipeline import evaluate_folder
from llm_esr.training import Term, build_loader, build_model
from llm_esr.training.forward import Forward
from llm_esr.training.row_forward import row_inputs
from llm_esr.training.shared_step import by_share, draw_apart
from llm_esr.training.step import forward_of, losses_of, total_loss
from llm_esr.training.terms import check_shared
from llm_esr.world import World

COMMON = [*SETTINGS, "train.patience=99", "blend.scorers=[]", "runtime.rank_timeout=60"]
CASES = {
    "sasrec": ("sasrec", "train.clip_norm=0.01"),
    "llm-esr": ("llm-esr",),
    "dual-view": ("dual-view",),
    "stored teachers": ("dual-view", "distill.teachers=stored", "distill.refresh_steps=3"),
    "a lazy table": (
        "sasrec",
        "train.table_updates=lazy",
        "train.averaging=0.9",
        "train.loss=sampled-softmax",  # else every step meets all items
        "negatives.count=4",
    ),
    "rows": ("dual-view", "runtime.step=rows"),
}
# Presets, and whether their steps go over rows.
SHARED = [("sasrec", False), ("llm-esr", True), ("dual-view", False), ("dual-view", True), ("corrected", True),
          ("melt", False), ("melt-paper", True), ("bert4rec", False), ("gru4rec", True)]  # fmt: skip
WHOLE_STEP = {
    "negatives.kind in-batch": ("sasrec", "train.loss=sampled-softmax", "negatives.kind=in-batch"),
    "train.loss bce with negatives.kind shared": ("sasrec", "train.loss=bce"),
    "distill.form cl": ("dual-view", "distill.form=cl"),
    "align.loss": ("llmemb",),
    "train.item_regularisation": ("dual-view", "train.item_regularisation=0.1"),
}


@pytest.fixture(scope="module")
def pair() -> Iterator[RankPair]:
    pair = RankPair()
    yield pair
    pair.close()


@pytest.fixture
def in_double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def settings_of(folder: Path, preset: str, *settings: str) -> list[str]:
    """Settings for 20 steps or a few more, whose last batch of an epoch has one student: a rank has none of it."""
    data, given = llm_esr.Dataset.open(folder), [*COMMON, *settings]
    students = build_loader(data, load_config(preset, given)).n_students
    size = next(size for size in range(10, students) if students % size == 1)
    steps = -(-students // size)
    return [*given, f"train.batch_size={size}", f"train.epochs={-(-20 // steps)}"]


def assert_same_model(one: Path, two: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert first.keys() == second.keys()
    for name, weights in first.items():
        # A key's bias moves all scores of a row alike, so its gradient is rounding, which Adam brings to full steps.
        if not name.endswith("key.bias"):
            assert (weights - second[name]).abs().max() <= 1e-5, name
    logs = [list(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())) for folder in (one, two)]
    for line, other in zip(*logs, strict=True):
        assert {**line, "steps_per_second": 0} == pytest.approx({**other, "steps_per_second": 0}, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_to_the_weights_of_one_process(
    case: str, pair: RankPair, tiny_folder: Path, tmp_path: Path
) -> None:
    preset, *settings = CASES[case]
    settings = settings_of(tiny_folder, preset, *settings)
    one, two = tmp_path / "one" / "models" / "m" / "42", tmp_path / "two" / "models" / "m" / "42"
    answers = pair.do(data=str(tiny_folder), config=preset, settings=settings, out=str(two))
    assert "error" not in answers[0] | answers[1], answers
    llm_esr.train(tiny_folder, config=load_config(preset, settings), out=one, progress=False)
    assert json.loads((one / "model.json").read_text())["epochs"] >= 2
    assert_same_model(one, two)
    assert evaluate_folder(one).rows == evaluate_folder(two).rows
    assert answers[0]["lists"] == answers[1]["lists"] and len(answers[0]["lists"]) == 5
    assert not answers[1]["written"] and any(name.endswith("metrics.jsonl") for name in answers[0]["written"])
    assert not list(two.glob(".*")), "a lock or a temporary"


def test_the_last_batch_of_these_trainings_leaves_a_rank_without_students(tiny_folder: Path) -> None:
    config = load_config("sasrec", settings_of(tiny_folder, "sasrec"))
    ranks = [
        BatchLoader(llm_esr.Dataset.open(tiny_folder), batch_size=config.train.batch_size, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    assert sorted(len(list(rank)[-1].users) for rank in ranks) == [0, 1]


def test_a_checkpoint_goes_from_two_ranks_to_one_and_back(pair: RankPair, tiny_folder: Path, tmp_path: Path) -> None:
    settings = settings_of(tiny_folder, "dual-view")
    config = load_config("dual-view", settings)
    order: dict[str, Any] = {"data": str(tiny_folder), "config": "dual-view", "settings": settings}
    moved, whole = tmp_path / "models" / "moved", tmp_path / "models" / "whole"
    stopped = pair.do(**order, out=str(moved), at={6: ["SIGINT", [1]]})
    assert [one["error"] for one in stopped] == ["KeyboardInterrupt"] * 2
    assert sorted("stopped after step 7" in one["message"] for one in stopped) == [False, True]
    assert [path.name for path in (moved / "checkpoint").iterdir()] == ["7.safetensors"]
    with pytest.raises(KeyboardInterrupt):
        llm_esr.train(tiny_folder, config=config, out=moved, progress=False, callbacks=[StopAt(12)])
    assert "error" not in pair.do(**order, out=str(moved))[0]
    llm_esr.train(tiny_folder, config=config, out=whole, progress=False)
    assert_same_model(whole, moved)


def test_with_dropout_a_resumed_training_of_two_ranks_has_the_same_bits(
    pair: RankPair, tiny_folder: Path, tmp_path: Path
) -> None:
    settings = [*settings_of(tiny_folder, "sasrec"), "model.dropout=0.3"]
    order: dict[str, Any] = {"data": str(tiny_folder), "config": "sasrec", "settings": settings}
    resumed, whole = tmp_path / "models" / "resumed", tmp_path / "models" / "whole"
    pair.do(**order, out=str(whole))
    assert [one["error"] for one in pair.do(**order, out=str(resumed), at={5: ["SIGTERM", [0, 1]]})] == [
        "Terminated"
    ] * 2
    assert "error" not in pair.do(**order, out=str(resumed))[1]
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(weights, second[name]) for name, weights in first.items())


def test_ranks_share_the_users_of_an_evaluation_and_get_all_figures(
    pair: RankPair, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "models" / "sasrec" / "42"
    llm_esr.train(tiny_folder, config="sasrec", width=8, epochs=1, out=out, progress=False)
    answers = pair.do(folder=str(out))
    assert answers[0]["rows"] == answers[1]["rows"] == evaluate_folder(out).rows


def test_a_callback_of_rank_0_ends_the_training_of_all(pair: RankPair, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "models" / "m"
    settings = settings_of(tiny_folder, "sasrec")
    answers = pair.do(data=str(tiny_folder), config="sasrec", settings=settings, out=str(out), last_epoch=1)
    assert "error" not in answers[0] | answers[1]
    assert json.loads((out / "model.json").read_text())["epochs"] == 2


@pytest.mark.parametrize("failing", [0, 1])
def test_the_error_of_a_rank_is_said_once_and_the_other_names_it(
    failing: int, pair: RankPair, tiny_folder: Path, tmp_path: Path
) -> None:
    order: dict[str, Any] = {"data": str(tiny_folder), "config": "sasrec", "settings": COMMON}
    answers = pair.do(**order, out=str(tmp_path / "models" / "m"), at={2: ["raise", [failing]]})
    assert (answers[failing]["error"], answers[failing]["message"]) == ("ValueError", f"rank {failing} has had enough")
    other = answers[1 - failing]
    assert other["error"] == "RankFailedError" and other["message"].startswith(f"rank {failing} of 2 on ")


def test_what_all_ranks_refuse_one_of_them_says(pair: RankPair, tiny_folder: Path, tmp_path: Path) -> None:
    preset, *settings = WHOLE_STEP["negatives.kind in-batch"]
    out = tmp_path / "models" / "m"
    answers = pair.do(data=str(tiny_folder), config=preset, settings=[*COMMON, *settings], out=str(out))
    assert sorted(one["error"] for one in answers) == ["RankFailedError", "ValueError"]
    assert not out.exists()


def test_a_rank_that_does_not_come_is_waited_for_so_long_and_no_longer(
    pair: RankPair, tiny_folder: Path, tmp_path: Path
) -> None:
    order: dict[str, Any] = {"data": str(tiny_folder), "config": "sasrec", "out": str(tmp_path / "models" / "m")}
    answers = pair.do(**order, settings=[*COMMON, "runtime.rank_timeout=1"], at={2: ["sleep", [1]]})
    assert "rank 0 of 2" in answers[0]["message"] and "waited 1 s for the others" in answers[0]["message"]
    assert answers[1]["error"] == "RankFailedError"


def test_a_rank_that_is_killed_leaves_no_other_waiting(tiny_folder: Path, tmp_path: Path, pair: RankPair) -> None:
    # The last test of the pair, which it ends.
    order: dict[str, Any] = {"data": str(tiny_folder), "config": "sasrec", "settings": COMMON}
    answers = pair.do(**order, out=str(tmp_path / "models" / "m"), at={2: ["SIGKILL", [1]]})
    assert answers[1]["error"] == "killed"
    assert answers[0]["error"] == "RankFailedError" and "a rank was killed" in answers[0]["message"]


class Share(World):
    """One of two ranks, without the other: it takes the sums that it is given, once it has told its own numbers."""

    world_size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.told: Any = None
        self.total: Any = None

    def sums(self, values: Any) -> Any:
        self.told = values
        return values if self.total is None else self.total


def gradients_of(
    data: llm_esr.Dataset, config: llm_esr.Config, model: SequentialEncoder, step: int, by_rows: bool, world: World
) -> dict[str, torch.Tensor]:
    terms = terms_of(data, config, world=world)
    batch = next(batch for batch in build_loader(data, config, world) if batch.step == step)
    inputs = send(row_inputs(batch, model, terms), model.device) if by_rows else None
    forward = forward_of(model, batch, terms, inputs)
    losses = losses_of(forward, terms)
    if world.several:
        losses = by_share(losses, forward, terms, world, [])[0]
    model.zero_grad()
    if losses:
        total_loss(losses, terms).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize(("preset", "by_rows"), SHARED)
def test_the_gradients_of_the_shares_add_up_to_those_of_the_step(
    preset: str, by_rows: bool, tiny_folder: Path, in_double_precision: None
) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), load_config(preset, settings_of(tiny_folder, preset))
    model, shares = build_model(data, config)[0].double().train(), [Share(0), Share(1)]
    for step in (0, len(build_loader(data, config)) - 1):  # in the last one a rank has no student
        whole = gradients_of(data, config, model, step, by_rows, World())
        for share in shares:
            share.total = None
            gradients_of(data, config, model, step, by_rows, share)
        told = [share.told for share in shares]
        for share in shares:
            share.total = sum(told)
        parts = [gradients_of(data, config, model, step, by_rows, share) for share in shares]
        assert whole.keys() == parts[0].keys() | parts[1].keys()
        for name, gradient in whole.items():
            found = sum(part[name] for part in parts if name in part)
            assert (gradient - found).abs().max() <= 1e-11 * max(1.0, float(gradient.abs().max())), name


@pytest.mark.parametrize("setting", WHOLE_STEP)
def test_a_loss_over_the_whole_step_is_refused_with_its_setting(setting: str, tiny_folder: Path) -> None:
    preset, *settings = WHOLE_STEP[setting]
    terms = terms_of(llm_esr.Dataset.open(tiny_folder), load_config(preset, [*COMMON, *settings]))
    with pytest.raises(ValueError, match=f"{setting}.* 2 ranks share the step"):
        check_shared(terms, 2)


class Nameless(Term):
    name = "own"

    def __call__(self, forward: Forward) -> torch.Tensor:
        return forward.hidden_TC.mean()


def test_a_term_that_does_not_say_what_it_is_a_mean_of_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the loss term own .*Term\.count"):
        check_shared([Nameless()], 2)


def test_each_rank_draws_numbers_of_its_own_and_rank_0_those_of_one_process() -> None:
    drawn = []
    for rank in (None, 0, 1, 2, 1):
        torch.manual_seed(5)
        if rank is not None:
            world = World()
            world.rank = rank
            draw_apart(42, world)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1] and drawn[2] == drawn[4] and len(set(drawn)) == 3


def test_a_run_is_refused_under_torchrun(
    tiny_tables: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="run takes one process, and torchrun started 2"):
        llm_esr.run(tiny_tables[0], out=tmp_path / "run")
    with pytest.raises(SystemExit) as left:
        main(["index", str(tmp_path)])
    assert left.value.code == 2
    assert "index takes one process, and WORLD_SIZE is 2" in capsys.readouterr().err
