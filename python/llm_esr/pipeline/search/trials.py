"""Trials of a study: the next one, what it tries, how its training is watched.

A trial's settings are a function of the seed, its place and what the trials before it found: the sampler is seeded anew
for each. So a search that was killed goes on as it would have gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_esr.config.search_space import Choices, SearchSpace
from llm_esr.pipeline.search.journal import damaged
from llm_esr.pipeline.search.result import TrialResult
from llm_esr.training import Callback

if TYPE_CHECKING:
    import optuna

    from llm_esr.training.trainer import EpochReport, Trainer

_FIRST_EPOCHS = 3  # that no trial is stopped in
_FIRST_TRIALS = 5  # that are never stopped: there is nothing to compare them with
_WHY = "why"

Measure = Callable[["Trainer", "EpochReport"], float]


def _median(epochs: int) -> optuna.pruners.BasePruner:
    from optuna.pruners import MedianPruner  # noqa: PLC0415 (an extra)

    return MedianPruner(n_startup_trials=_FIRST_TRIALS, n_warmup_steps=_FIRST_EPOCHS + 1)


def _hyperband(epochs: int) -> optuna.pruners.BasePruner:
    from optuna.pruners import HyperbandPruner  # noqa: PLC0415 (an extra)

    return HyperbandPruner(min_resource=1, max_resource=epochs)


def _none(epochs: int) -> optuna.pruners.BasePruner:
    from optuna.pruners import NopPruner  # noqa: PLC0415 (an extra)

    return NopPruner()


# What stops unpromising trials; each is made for so many epochs at most.
PRUNERS: dict[str, Callable[[int], optuna.pruners.BasePruner]] = {
    "median": _median,
    "hyperband": _hyperband,
    "none": _none,
}


class UnpromisingError(ValueError):
    """A trial that the pruner stopped: not an error, but the way out of a training."""


class Watcher(Callback):
    """Tells the study the figure after each validated epoch, and stops the training where the pruner says so.

    Args:
        trial: the trial.
        known: epochs that were told before the process was killed that this one goes on from.
        folder: the trial's model; trainings of others, which it starts from, are left alone.
        measure: the figure after an epoch.
        say: told the epoch (from 1) and the figure.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        known: dict[int, float],
        folder: Path,
        measure: Measure,
        say: Callable[[int, float], None],
    ) -> None:
        self.trial, self.known, self.folder, self.measure, self.say = trial, known, folder, measure, say

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """Tell and ask."""
        if trainer.folder != self.folder or report.validation is None:
            return
        epoch = report.epoch + 1
        if epoch not in self.known:
            self.known[epoch] = self.measure(trainer, report)
            self.trial.report(self.known[epoch], epoch)
        self.say(epoch, self.known[epoch])
        if self.trial.should_prune():
            raise UnpromisingError(f"stopped after epoch {epoch} at {self.known[epoch]:.4f}")


def next_trial(study: optuna.Study, space: SearchSpace, seed: int) -> optuna.Trial:
    """The trial that a killed process left, or a new one."""
    import optuna  # noqa: PLC0415 (an extra)

    for left in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if left.params.keys() == space.keys():
            return optuna.Trial(study, left._trial_id)  # Optuna has no public way back to a running trial
        # Killed before all was drawn: nothing was done for it, and the next one takes its place.
        study.tell(left.number, state=optuna.trial.TrialState.FAIL)
    place = len(counted(study, space))
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([seed, place]).generate_state(1)[0]))
    return study.ask(fixed_distributions={name: _distribution(part) for name, part in space.items()})


def refuse_other_trials(study: optuna.Study, space: SearchSpace, path: Path) -> None:
    """Refuse a journal whose trials are not of this space, or have a figure that is none.

    Raises:
        ValueError: such a trial; the message has its number.
    """
    wanted = {name: _distribution(part) for name, part in space.items()}
    for trial in study.get_trials(deepcopy=False):
        if any(wanted.get(name) != drawn for name, drawn in trial.distributions.items()):
            raise damaged(path, f"trial {trial.number + 1} drew from another space than the folder's")
        complete = trial.state.name == "COMPLETE"
        figures: list[Any] = [*trial.intermediate_values.values(), *((trial.values or ()) if complete else ())]
        if complete and len(trial.values or ()) != 1:
            raise damaged(path, f"trial {trial.number + 1} has not one figure")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in figures):
            raise damaged(path, f"trial {trial.number + 1} has a figure that is no number")


def counted(study: optuna.Study, space: SearchSpace) -> list[optuna.trial.FrozenTrial]:
    """The trials that are over, without those that were killed before anything was done for them."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state.is_finished() and trial.params.keys() == space.keys()]


def settings_of(trial: optuna.Trial | optuna.trial.FrozenTrial, space: SearchSpace) -> dict[str, Any]:
    """What a trial tries, as the configuration takes it."""
    found: dict[str, Any] = {}
    for name, part in space.items():
        value = trial.params[name]
        found[name] = part.values[part.labels.index(value)] if isinstance(part, Choices) else value
    return found


def finish(study: optuna.Study, trial: optuna.Trial, value: float | None, state: str, why: str = "") -> None:
    """Write down how a trial ended."""
    from optuna.trial import TrialState  # noqa: PLC0415 (an extra)

    if why:
        trial.set_user_attr(_WHY, why[:1000])
    ended = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[state]
    study.tell(trial.number, value, ended)


def results(study: optuna.Study, space: SearchSpace) -> list[TrialResult]:
    """The trials that are over."""
    found = []
    for trial in counted(study, space):
        complete = trial.state.name == "COMPLETE"
        found.append(
            TrialResult(
                number=trial.number + 1,
                state="complete" if complete else "pruned" if trial.state.name == "PRUNED" else "failed",
                value=trial.value if complete else None,
                by_epoch=dict(trial.intermediate_values),
                settings=settings_of(trial, space),
                why=str(trial.user_attrs.get(_WHY, "")),
            )
        )
    return found


def _distribution(part: Any) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: PLC0415

    if isinstance(part, Choices):
        return CategoricalDistribution(part.labels)
    if part.whole:
        return IntDistribution(int(part.low), int(part.high), log=part.log, step=int(part.step or 1))
    return FloatDistribution(part.low, part.high, log=part.log, step=part.step)
