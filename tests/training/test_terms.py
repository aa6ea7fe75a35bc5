"""Loss terms: the total is their weighted sum, and everything that reports a training goes by their names."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from step_losses import step_losses

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.training import Callback, EpochReport, Term, TermData, Trainer, build_loader, build_model, build_terms
from llm_esr.training.averaging import AveragedModel
from llm_esr.training.forward import Forward
from llm_esr.training.step import compute_losses, total_loss

SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "negatives.count=16", "distill.similar_users=3",
         "train.epochs=2", "index.similar_users=10"]  # fmt: skip


def small(*overrides: str) -> Config:
    return load_config("dual-view", [*SMALL, *overrides])


def trainer_of(data: llm_esr.Dataset, config: Config, folder: Path, terms: list[Term] | None = None) -> Trainer:
    model, loader = build_model(data, config)[0].train(), build_loader(data, config)
    if terms is None:
        terms = build_terms(config, TermData(model.device, loader, data))
    return Trainer(model, loader, config, folder, terms=terms)


class Length(Term):
    """How long the students' states are: a term that the package knows nothing of."""

    name = "length"

    def __init__(self, value: float = 1.0, from_epoch: int = 0) -> None:
        self.weight, self.from_epoch = value, from_epoch

    def __call__(self, forward: Forward) -> torch.Tensor:
        return forward.hidden_TC.square().mean()


def names(*overrides: str) -> list[str]:
    return [term.name for term in build_terms(small(*overrides), TermData(torch.device("cpu")))]


def test_only_the_terms_with_a_weight_are_built() -> None:
    assert names() == ["ranking", "distillation"]
    assert names("distill.weight=0") == ["ranking"]
    assert names("train.item_regularisation=0.1") == ["ranking", "distillation", "item_regularisation"]


def test_the_total_is_the_weighted_sum_of_the_terms(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = small("distill.weight=0.5", "train.item_regularisation=0.25", "model.dropout=0")
    batch = next(iter(build_loader(data, config)))
    losses = step_losses(build_model(data, config)[0], batch, config)
    weighted = losses["ranking"] + 0.5 * losses["distillation"] + 0.25 * losses["item_regularisation"]
    assert torch.allclose(losses["total"], weighted)


def test_a_term_of_a_users_own_is_trained_and_logged_by_its_name(tiny_folder: Path, tmp_path: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small("distill.weight=0", "train.averaging=0")
    reports: list[EpochReport] = []

    class Listener(Callback):
        def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
            reports.append(report)

    given = TermData(torch.device("cpu"))
    with_it = trainer_of(data, config, tmp_path / "with", [*build_terms(config, given), Length(10.0)])
    with_it.callbacks.append(Listener())
    with_it.fit()
    without = trainer_of(data, config, tmp_path / "without")
    without.fit()
    line = json.loads((tmp_path / "with" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["length"] == reports[-1].losses["length"] > 0
    assert line["loss"] == pytest.approx(line["ranking"] + 10 * line["length"], rel=1e-5)
    batch = next(iter(build_loader(data, config)))
    with torch.no_grad():
        lengths = [float(Length()(Forward(trainer.model, batch))) for trainer in (with_it, without)]
    assert lengths[0] < lengths[1], "the term is part of what is minimised"


def test_a_term_that_starts_later_is_zero_until_then(tiny_folder: Path, tmp_path: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small("distill.from_epoch=1")
    trainer_of(data, config, tmp_path).fit()
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert first["distillation"] == 0 and second["distillation"] > 0
    assert first["loss"] == pytest.approx(first["ranking"])


def test_a_term_without_a_value_counts_nothing(tiny_folder: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small("distill.weight=0")

    class Silent(Length):
        name = "silent"

        def __call__(self, forward: Forward) -> None:  # type: ignore[override]
            return None

    terms = [*build_terms(config, TermData(torch.device("cpu"))), Silent()]
    model = build_model(data, config)[0]
    losses = compute_losses(model, next(iter(build_loader(data, config))), terms)
    assert list(losses) == ["ranking"] and total_loss(losses, terms) is losses["ranking"]


def test_terms_of_one_name_or_of_the_logs_own_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small()

    class Loss(Length):
        name = "loss"

    for terms in ([Length(), Length()], [Loss()], []):
        with pytest.raises(ValueError, match="terms: expected one or more of different names"):
            trainer_of(data, config, tmp_path, list(terms))


def test_a_step_without_any_loss_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small()
    with pytest.raises(ValueError, match="no loss term has a value in this step"):
        trainer_of(data, config, tmp_path, [Length(from_epoch=5)]).fit()


def test_the_evaluated_model_is_brought_up_to_date_only_for_a_term_that_asks(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bringing lazily averaged rows up to date rounds anew and passes over the whole table."""
    data = llm_esr.Dataset.open(tiny_folder)
    trainer = trainer_of(data, small("train.table_updates=lazy", "train.averaging=0.9"), tmp_path)
    asked: list[int] = []
    usual = AveragedModel.model.fget
    monkeypatch.setattr(AveragedModel, "model", property(lambda self: asked.append(trainer.step) or usual(self)))
    trainer.fit()
    assert asked == [trainer.step], "at the end alone, never in a step"


def test_a_diverging_term_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small("distill.weight=0")
    terms = [*build_terms(config, TermData(torch.device("cpu"))), Length(math.inf)]

    class Infinite(Length):
        def __call__(self, forward: Forward) -> torch.Tensor:
            return super().__call__(forward) * math.inf

    terms[-1] = Infinite(1.0)
    with pytest.raises(ValueError, match=r"the loss became inf \(length\) by step 1"):
        trainer_of(data, config, tmp_path, terms).fit()
