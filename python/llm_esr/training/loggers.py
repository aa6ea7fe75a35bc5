"""Callbacks that pass on a training's figures: TensorBoard, Weights & Biases, MLflow. Each needs its package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_esr.training.callbacks import Callback

if TYPE_CHECKING:
    from llm_esr.training.trainer import EpochReport, Trainer


def scalars_of(report: EpochReport) -> dict[str, float]:
    """An epoch's figures by name: total loss, each term's, steps a second, NDCG@10 where it was validated."""
    found = {"train/loss": report.loss, "train/steps_per_second": report.rate}
    found |= {f"train/{name}": value for name, value in report.losses.items()}
    if report.validation is not None:
        found["validation/ndcg@10"] = report.validation
    return found


class TensorBoard(Callback):
    """Event files for TensorBoard (extra `tensorboard`)."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (an extra)
        except ImportError:
            raise ValueError(
                "runtime.tensorboard needs the extra: pip install 'llm-esr[tensorboard]', or set it to false"
            ) from None
        self.writer = SummaryWriter(str(folder))

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """Write the epoch's scalars."""
        for tag, value in scalars_of(report).items():
            self.writer.add_scalar(tag, value, trainer.step)

    def close(self, trainer: Trainer) -> None:
        """Flush."""
        self.writer.close()


class WeightsAndBiases(Callback):
    """A run of Weights & Biases (extra `wandb`), gone on with where a training is resumed.

    Args:
        project: the project's name.
        settings: further arguments of `wandb.init`, such as `entity` or `mode="offline"`.

    """

    def __init__(self, project: str = "llm-esr", **settings: Any) -> None:
        try:
            import wandb  # noqa: PLC0415 (an extra)
        except ImportError:
            raise ImportError("logging to Weights & Biases needs wandb: pip install 'llm-esr[wandb]'") from None
        self._init = wandb.init
        self.project, self.settings = project, settings
        self.run: Any = None

    def on_train_begin(self, trainer: Trainer) -> None:
        """Open the run, with the whole configuration."""
        self.run = self._init(
            project=self.project,
            name=f"{trainer.name}/{trainer.config.train.seed}",
            config=trainer.config.model_dump(mode="json"),
            **self.settings,
        )

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """Log the epoch's scalars at the optimizer's step."""
        self.run.log(scalars_of(report), step=trainer.step)

    def on_train_end(self, trainer: Trainer) -> None:
        """Note the best epoch, counted from 1 as on the terminal and in `model.json`."""
        if trainer.best is not None:
            self.run.summary.update({"best_epoch": trainer.best_epoch + 1, "best_ndcg@10": trainer.best_value})

    def close(self, trainer: Trainer) -> None:
        """Close the run."""
        if self.run is not None:
            self.run.finish()
            self.run = None


class MLflow(Callback):
    """A run of MLflow (extra `mlflow`), at whatever tracking server MLflow is set to.

    Args:
        experiment: the experiment's name.

    """

    def __init__(self, experiment: str = "llm-esr") -> None:
        try:
            import mlflow  # noqa: PLC0415 (an extra)
        except ImportError:
            raise ImportError("logging to MLflow needs mlflow: pip install 'llm-esr[mlflow]'") from None
        self._mlflow: Any = mlflow
        self.experiment = experiment
        self._open = False

    def on_train_begin(self, trainer: Trainer) -> None:
        """Open the run; settings are parameters by their whole name."""
        self._mlflow.set_experiment(self.experiment)
        self._mlflow.start_run(run_name=f"{trainer.name}/{trainer.config.train.seed}")
        self._open = True
        sections = trainer.config.model_dump(mode="json")
        settings = {f"{section}.{name}": value for section, part in sections.items() for name, value in part.items()}
        self._mlflow.log_params(settings)

    def on_epoch_end(self, trainer: Trainer, report: EpochReport) -> None:
        """Log the epoch's scalars at the optimizer's step."""
        # MLflow allows no @ in a name.
        scalars = {name.replace("@", "_at_"): value for name, value in scalars_of(report).items()}
        self._mlflow.log_metrics(scalars, step=trainer.step)

    def close(self, trainer: Trainer) -> None:
        """Close the run."""
        if self._open:
            self._mlflow.end_run()
            self._open = False
