"""The training loop: fetch, forward, backward, clip, step, average, log; validate once an epoch; stop early."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from llm_esr.attention.choice import takes_right_padded
from llm_esr.config import Config
from llm_esr.doors import Terminated
from llm_esr.files.checkpoint import (
    drop_checkpoints,
    load_newest,
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    save_checkpoint,
    with_prefix,
)
from llm_esr.loading import Batch, BatchLoader
from llm_esr.loading.staging import Packed
from llm_esr.models import SequentialEncoder
from llm_esr.training.averaging import AveragedModel
from llm_esr.training.callbacks import Callback
from llm_esr.training.environment import describe, warn_of_difference
from llm_esr.training.memory import kept_memory
from llm_esr.training.metrics_log import MetricsLog
from llm_esr.training.optimizer import build_optimizer, clip_gradients, lazy_table
from llm_esr.training.row_forward import RowInputs, row_inputs
from llm_esr.training.shared_step import add_gradients, by_share, draw_apart, load_random_of, random_of_all
from llm_esr.training.signals import Signals
from llm_esr.training.step import forward_of, losses_of, total_loss
from llm_esr.training.terms import Term, check_shared, checked
from llm_esr.training.validation import Validate
from llm_esr.training.weights import Weights
from llm_esr.world import World


@dataclass(frozen=True)
class StepReport:
    """What a callback learns after a step.

    Attributes:
        epoch: counted from 0.
        step_in_epoch: steps of the epoch that are done.
        steps_in_epoch: all of them.
        mean_loss: the total, mean over those steps; NaN on an accelerator, where reading it would wait for the device.
        rate: steps a second.

    """

    epoch: int
    step_in_epoch: int
    steps_in_epoch: int
    mean_loss: float
    rate: float


@dataclass(frozen=True)
class EpochReport:
    """What a callback learns after an epoch.

    Attributes:
        epoch: counted from 0.
        loss: the total, mean over the epoch's steps.
        losses: each term by its name, not weighted, mean over the epoch's steps.
        rate: steps a second.
        validation: NDCG@10, where the epoch was validated.
        improved: whether that is the best so far.

    """

    epoch: int
    loss: float
    losses: dict[str, float]
    rate: float
    validation: float | None
    improved: bool


class Trainer:
    """Trains one model.

    Args:
        model: on the device it trains on.
        loader: batches; its epoch and step are the training's.
        config: sections `train`, `checkpoint` and `runtime` are read.
        terms: the loss terms; the total is their weighted sum, everything else goes by their names.
        folder: where `checkpoint/` and `metrics.jsonl` go.
        validate: gives the validation NDCG@10 of a model; None: train all epochs.
        name: for progress lines.
        callbacks: see `Callback`; only rank 0 has them.
        world: the processes that share each step. Rank 0 writes.

    Raises:
        ValueError: several ranks, and a term that needs the whole step.

    """

    def __init__(
        self,
        model: SequentialEncoder,
        loader: BatchLoader,
        config: Config,
        folder: Path,
        *,
        terms: Sequence[Term],
        validate: Validate | None = None,
        name: str = "model",
        callbacks: Sequence[Callback] = (),
        world: World | None = None,
    ) -> None:
        self.world = world or World()
        self.model, self.loader, self.config, self.folder, self.name = model, loader, config, folder, name
        self.terms = checked(terms)
        self.validate = validate
        self.callbacks = list(callbacks) if self.world.is_first else []
        if self.world.several:
            check_shared(self.terms, self.world.world_size)
            self.world.spread([weight.detach() for weight in model.parameters()])
        table, decay = lazy_table(model, config), config.train.averaging
        self.table = table
        self.optimizer = build_optimizer(model, config, table)
        self.averaged = AveragedModel(model, decay, table) if decay else None
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=config.train.precision == "float16")
        self.log = MetricsLog(folder / "metrics.jsonl", writes=self.world.is_first)
        self.best: dict[str, Tensor] | None = None
        self.best_value = -math.inf
        self.best_epoch = -1
        self.epoch = 0
        self.step = 0
        self.by_rows = goes_by_rows(model, config)
        self.stop = False
        # One device has no double precision.
        precise = torch.float32 if model.device.type == "mps" else torch.float64
        self._sums = torch.zeros(1 + len(self.terms), dtype=precise, device=model.device)  # the total, then the terms
        self._nothing = torch.zeros((), device=model.device)  # of a term that has no value in a step
        self._steps_summed = 0
        self.signals = Signals()  # to this rank
        self._leaving = False  # for a signal to any rank
        self._saved = time.monotonic()
        self._time_to_save = False  # as rank 0 says

    def fit(self, key: str = "", *, resume: bool = True, same_as: Collection[str] = ()) -> SequentialEncoder:
        """Train until the last epoch or until patience ends; the model comes back with its best weights.

        Args:
            key: names what is trained; a checkpoint of another key is not resumed.
            resume: whether to go on from a checkpoint in the folder.
            same_as: further keys whose checkpoints are resumed.

        Raises:
            KeyboardInterrupt: after Ctrl-C, once the running step is done and saved; `Terminated` after SIGTERM.

        """
        if not (resume and self._resume({key, *same_as})):
            draw_apart(self.config.train.seed, self.world)
            if self.world.is_first:
                # Another training's checkpoints would outrank this one's by their step numbers.
                drop_checkpoints(self.folder / "checkpoint")
            self.log.cut(0)
        try:
            self._each("on_train_begin")
            keep = self.config.runtime.keep_memory and self.model.device.type == "cpu"
            self._saved = time.monotonic()
            with (
                _deterministic(self.model.device),
                kept_memory(wanted=keep),
                self.signals.heard(at_once=not self.world.several),
            ):
                while self.epoch < self.config.train.epochs and not self.stop:
                    self._train_epoch(key)
                    self._end_epoch()
                    self._agree()
                    self.epoch += 1
                    self.loader.set_epoch(self.epoch)
                    if self._leaves:
                        self._leave(key)
            self.model.load_state_dict(self.best if self.best is not None else self._evaluated.state_dict())
            self._each("on_train_end")
        finally:
            self._each("close")
        return self.model.eval()

    @property
    def _evaluated(self) -> SequentialEncoder:
        model = self.averaged.model if self.averaged is not None else self.model
        assert isinstance(model, SequentialEncoder)
        return model

    def _train_epoch(self, key: str) -> None:
        self.model.train()
        terms = [term for term in self.terms if self.epoch >= term.from_epoch]
        weights = Weights(self.model, lambda: self._evaluated, self.optimizer)
        for term in terms:
            term.before_epoch(self.epoch, weights)
        if self.world.several:
            self._spread_weights()
        most_steps = min((term.most_steps for term in terms if term.most_steps is not None), default=math.inf)
        self._started, first = time.monotonic(), self._steps_summed
        with closing(self.batches(terms)) as batches:
            for batch, packed in batches:
                if batch.step >= most_steps:
                    break
                self._train_step(batch, terms, packed)
                if self.callbacks:
                    self._report_step(first)
                if self._leaves:
                    self._leave(key)
                if self._save_is_due():
                    self.save(key)
        self._rate = (self._steps_summed - first) / max(time.monotonic() - self._started, 1e-9)

    def _save_is_due(self) -> bool:
        # Clocks differ, and a checkpoint is a meeting of all ranks: rank 0 has said whether it is time.
        by_time = self._time_to_save if self.world.several else self._save_is_due_by_time()
        return by_time or self.step % self.config.checkpoint.every_steps == 0

    def _save_is_due_by_time(self) -> bool:
        minutes = self.config.runtime.checkpoint_minutes
        return minutes is not None and time.monotonic() - self._saved >= 60 * minutes

    def batches(self, terms: list[Term]) -> Generator[tuple[Batch, Packed[RowInputs] | None]]:
        """The epoch's batches from where the loader stands; over rows with all that a step reads, packed ahead."""
        if not self.by_rows:
            return ((batch, None) for batch in self.loader)
        device = self.model.device
        return self.loader.prepared(lambda batch: Packed(row_inputs(batch, self.model, terms), device))

    def _spread_weights(self) -> None:
        """Rank 0's weights for all: what a term rewrites on a GPU may differ in the last bits from rank to rank."""
        averaged = {} if self.averaged is None else self.averaged.tensors()
        self.world.spread(
            [weight.detach() for weight in self.model.parameters()]
            + [weight for name, weight in averaged.items() if name.startswith("averaged/")]
        )

    def _agree(self) -> None:
        """Whether to go on after an epoch, the same on all ranks: a signal to any, a callback of rank 0."""
        stop = self.stop and self.world.is_first
        told = [self.signals.interrupted, self.signals.terminated, stop]
        self._leaving, terminated, self.stop = map(bool, self.world.sums(np.array(told, np.int64)).tolist())
        self.signals.terminated |= terminated

    @property
    def _leaves(self) -> bool:
        """Whether the training stops here for a signal, to this process or, as all have agreed, to any."""
        return self._leaving if self.world.several else self.signals.interrupted

    def _leave(self, key: str) -> NoReturn:
        self.save(key)
        self.world.wait()  # torchrun ends all where it sees one leave: not before the file is whole
        kind = Terminated if self.signals.terminated else KeyboardInterrupt
        raise kind(f"stopped after step {self.step} and saved; the same command goes on from there")

    def _train_step(self, batch: Batch, terms: list[Term], packed: Packed[RowInputs] | None = None) -> None:
        for term in terms:
            term.before_step(batch, lambda: self._evaluated)
        inputs = None if packed is None else packed.sent()
        with self._autocast():
            forward = forward_of(self.model, batch, terms, inputs)
            losses = losses_of(forward, terms)
            somebody_learns = False
            if self.world.several:
                by_time = self.world.is_first and self._save_is_due_by_time()
                told = [self.signals.interrupted, self.signals.terminated, by_time]
                losses, somebody_learns, told = by_share(losses, forward, terms, self.world, told)
                self._leaving, terminated, self._time_to_save = told
                self.signals.terminated |= terminated  # what came to this process meanwhile stays
            total = None if somebody_learns and not losses else total_loss(losses, terms)
        self.optimizer.zero_grad(set_to_none=True)
        scaled = self.scaler.scale(self._nothing if total is None else total)
        if total is not None:
            scaled.backward()  # type: ignore[no-untyped-call]
        values = self._values(self._nothing if total is None else total, losses)
        if self.world.several:
            values = values.float()
            trained = [weight for weight in self.model.parameters() if weight.requires_grad]
            add_gradients(trained, self.table, values, self.world)
        if self.config.train.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.model.parameters(), self.config.train.clip_norm)
        if self.averaged is not None:
            self.averaged.before_step()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged is not None:
            self.averaged.update()
        self.step += 1
        self._add(values)

    def _values(self, total: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """The total and each term's loss, 0 where it has none, [1 + terms]."""
        return torch.stack([total, *(losses.get(term.name, self._nothing) for term in self.terms)]).detach()

    def _add(self, values: Tensor) -> None:
        # Reading a value waits for an accelerator; there the epoch's mean is looked at instead.
        if self.model.device.type == "cpu" and not torch.isfinite(values[0]):
            self._diverged(values.tolist())
        self._sums += values.to(self._sums.dtype)
        self._steps_summed += 1

    def _diverged(self, values: list[float]) -> NoReturn:
        names = [term.name for term in self.terms]
        bad = [name for name, value in zip(names, values[1:], strict=True) if not math.isfinite(value)]
        where = f" ({', '.join(bad)})" if bad and len(names) > 1 else ""
        raise ValueError(
            f"the loss became {values[0]}{where} by step {self.step} (epoch {self.epoch + 1}); lower "
            "train.learning_rate or set train.clip_norm"
        )

    def _end_epoch(self) -> None:
        if self._steps_summed == 0:
            raise ValueError("no user has enough training items: there is nothing to train on")
        loss, *means = (self._sums / self._steps_summed).tolist()
        if not math.isfinite(loss):
            self._diverged([loss, *means])
        losses = {term.name: mean for term, mean in zip(self.terms, means, strict=True)}
        value = None
        improved = False
        settings = self.config.train
        last = self.epoch + 1 == settings.epochs
        if self.validate is not None and ((self.epoch + 1) % settings.evaluate_every == 0 or last):
            value = self.validate(self._evaluated)
            improved = value > self.best_value
            if improved:
                self.best_value, self.best_epoch = value, self.epoch
                self.best = {k: v.detach().clone() for k, v in self._evaluated.state_dict().items()}
            elif self.epoch - self.best_epoch >= settings.patience:
                self.stop = True
        report = EpochReport(self.epoch, loss, losses, self._rate, value, improved)
        self.log.append(
            epoch=self.epoch, step=self.step, loss=loss, **losses,
            learning_rate=settings.learning_rate,
            steps_per_second=round(report.rate, 3), validation_ndcg_10=value,
        )  # fmt: skip
        self._sums.zero_()
        self._steps_summed = 0
        self._each("on_epoch_end", report)

    def _report_step(self, first: int) -> None:
        done = self._steps_summed
        rate = (done - first) / max(time.monotonic() - self._started, 1e-9)
        # Reading the sum waits for the device: on an accelerator that is done at the end of the epoch alone.
        mean = float(self._sums[0]) / done if self.model.device.type == "cpu" else math.nan
        self._each("on_step_end", StepReport(self.epoch, done, len(self.loader), mean, rate))

    def save(self, key: str) -> None:
        """Write a checkpoint of this very step; all ranks call it, and rank 0 writes."""
        random = random_of_all(self.model.device, self.world)
        if not self.world.is_first:
            return
        tensors = module_tensors("model", self.model)
        if self.averaged is not None:
            tensors |= self.averaged.tensors()
        if self.best is not None:
            tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        tensors |= optimizer_tensors(self.optimizer) | random | {"sums": self._sums}
        for term in self.terms:
            tensors |= {f"terms/{term.name}/{name}": tensor for name, tensor in term.state().items()}
        state = {
            "key": key,
            "loader": self.loader.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "steps_summed": self._steps_summed,
            "best_value": self.best_value if self.best is not None else None,
            "best_epoch": self.best_epoch,
            "averaging_updates": self.averaged.updates if self.averaged is not None else 0,
            "scaler": self.scaler.state_dict(),
            "log_length": self.log.length,
            "environment": describe(),
        }
        save_checkpoint(self.folder / "checkpoint", self.step, tensors, state)
        self._saved = time.monotonic()

    def _resume(self, keys: Collection[str]) -> bool:
        found = self.world.checkpoint_of_first(lambda: load_newest(self.folder / "checkpoint"))
        if found is None or found[1]["key"] not in keys:
            return False
        tensors, state = found
        if self.world.is_first:
            warn_of_difference(state["environment"])
        self.model.load_state_dict(with_prefix("model", tensors))
        if self.averaged is not None:
            self.averaged.load(tensors, state["averaging_updates"])
        self.best = {k: v.to(self.model.device) for k, v in with_prefix("best", tensors).items()} or None
        self.best_value = -math.inf if state["best_value"] is None else state["best_value"]
        self.best_epoch = state["best_epoch"]
        for term in self.terms:
            term.load_state(with_prefix(f"terms/{term.name}", tensors), self.model.device)
        load_optimizer(self.optimizer, tensors)
        load_random_of(self.model.device, tensors, self.config.train.seed, state["step"], self.world)
        self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        self.epoch, self.step, self._steps_summed = state["epoch"], state["step"], state["steps_summed"]
        self._sums = tensors["sums"].to(self._sums)
        self.log.cut(state["log_length"])
        # As at the end of the last epoch: a training that was stopped right there trains no epoch more.
        settings = self.config.train
        validated = self.epoch > 0 and self._steps_summed == 0 and self.epoch % settings.evaluate_every == 0
        waited = self.epoch - 1 - self.best_epoch
        self.stop = self.best is not None and validated and waited >= settings.patience
        return True

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.train.precision == "float32":
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=getattr(torch, self.config.train.precision))

    def _each(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)


def goes_by_rows(model: SequentialEncoder, config: Config) -> bool:
    """Whether the steps of a training go over right-padded rows; see `runtime.step`."""
    wanted = config.runtime.step
    return model.reads_right_padded and (wanted == "rows" or (wanted == "auto" and takes_right_padded(model.device)))


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """The same bits from the same seed; on accelerators some kernels have no deterministic form."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
