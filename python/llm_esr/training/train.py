"""`train`: from a data folder to a finished model folder, skipping what is fresh and resuming what is not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llm_esr.config import Config, config_with, dump_config, load_config, model_name
from llm_esr.doors import door
from llm_esr.files import FORMAT, atomic_file, checksum, given_path, key_of, write_json
from llm_esr.files.checkpoint import drop_checkpoints
from llm_esr.files.lock import lock_folder
from llm_esr.files.temporaries import tidy
from llm_esr.loading.staging import device_named
from llm_esr.models.storage import load_model, save_weights
from llm_esr.training.build import build_loader, build_model
from llm_esr.training.callbacks import Callback, TerminalProgress
from llm_esr.training.environment import describe
from llm_esr.training.freshness import continued_keys, is_fresh, key_in, made_from_of
from llm_esr.training.loggers import TensorBoard
from llm_esr.training.loss_choice import say_choice, settle_loss
from llm_esr.training.other_models import open_start, refuse_own_folder, take_weights, train_first
from llm_esr.training.plan import check_plan
from llm_esr.training.terms import TermData, build_terms, check_shared
from llm_esr.training.trainer import Trainer
from llm_esr.training.validation import build_validation
from llm_esr.world import World, open_world

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.models import SequentialEncoder
    from llm_esr.serving import Recommender

_PLAIN = ("train", "model", "distill", "runtime")  # sections whose settings `train` takes by their plain name


@door
def train(
    data: Dataset | str | Path,
    *,
    config: Config | str | Path | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    overwrite: bool = False,
    resume: bool = True,
    progress: bool = True,
    **settings: Any,
) -> Recommender:
    """Train a model on a prepared data set.

    A finished training of the same settings and data is not repeated; an unfinished one goes on where its last
    checkpoint stands.

    In processes that `torchrun` started, all of which call this, they share each step: see docs/gpu.md.

    Args:
        data: a `Dataset` or its folder. Views and losses that read texts need `embed` and `index` before.
        config: a `Config`, a preset's name or a YAML file; default: the preset `default`.
        name: the model's name in tables; default: the preset's or the file's.
        out: the model folder; default: `models/<name>/<seed>` beside the data folder (inside it, if the data
            folder is not called `data`).
        callbacks: see `llm_esr.training.Callback`.
        overwrite: replace a model, finished or not, that was made with other settings. An unfinished one goes on where
            only `epochs`, `patience` or the section `runtime` differ.
        resume: go on from a checkpoint; False: begin anew.
        progress: show a bar and a line an epoch.
        settings: single settings by their plain name, such as `epochs=20`, `backbone="sasrec"`, `width=128`, on top of
            `config`.

    Returns:
        The trained model, ready for `evaluate` and `recommend`.

    Raises:
        ValueError: settings that do not fit each other or the data, or a model with other settings.
        FileNotFoundError: vectors or neighbours that the settings need.
        RankFailedError: another of several processes failed.

    """
    from llm_esr.data import Dataset  # noqa: PLC0415

    with open_world() as world:
        data = data if isinstance(data, Dataset) else Dataset.open(data)
        name = name or ("llm-esr" if config is None or isinstance(config, Config) else model_name(config))
        config = config_with(config if isinstance(config, Config) else load_config(config), settings, _PLAIN)
        folder = given_path(out) if out is not None else default_folder(data, name, config.train.seed)
        return _trained(world, data, config, name, folder, callbacks, overwrite, resume, progress)


def _trained(
    world: World,
    data: Dataset,
    config: Config,
    name: str,
    folder: Path,
    callbacks: Sequence[Callback],
    overwrite: bool,
    resume: bool,
    progress: bool,
) -> Recommender:
    from llm_esr.serving import Recommender  # noqa: PLC0415
    from llm_esr.serving.blends import make_blend, read_blend  # noqa: PLC0415

    asked, config = config, settle_loss(config, data.n_items)
    choice = say_choice(config, data.n_items) if asked.train.loss == "auto" else None
    device = torch.device(world.device(str(device_named(config.runtime.device, "runtime.device"))))
    world.meet_on(device, config.runtime.rank_timeout)
    world.agree(
        {
            "data set": data.fingerprint,
            "settings": key_of(config.model_dump(mode="json")),
            "model folder": str(folder.resolve()),
            "version": f"{describe()['llm_esr']} with torch {torch.__version__}",
        }
    )
    refuse_own_folder(config, folder)
    train_first(
        config,
        folder,
        lambda other, preset, found: _trained(
            world, data, other, preset, found, callbacks, overwrite=False, resume=resume, progress=progress
        ),
    )
    made_from = made_from_of(data, config, folder)
    if world.of_first(lambda: is_fresh(folder, made_from, overwrite, resume=resume)):
        if world.is_first:
            # What a process that was killed after its last record could not take away.
            drop_checkpoints(folder / "checkpoint")
            tidy(folder)
    else:
        check_plan(data, config)
        listening: list[Callback] = []
        if world.is_first:
            listening = _callbacks(config, folder, callbacks, f"{name} {choice}" if choice else None, progress)
        with lock_folder(folder, "trained") if world.is_first else nullcontext():
            # Another process may have finished it in between.
            if not world.of_first(lambda: is_fresh(folder, made_from, overwrite, resume=resume)):
                _train(world, device, data, config, name, folder, made_from, choice, listening, resume)
    model = load_model(folder, data.folder, str(device))
    recommender = Recommender(model, data, name=name, seed=config.train.seed, config=config, folder=folder)
    assert recommender.network is not None
    blend = make_blend(folder, data, config.blend.scorers, recommender.network) if world.is_first else None
    world.wait()
    if not world.is_first:
        blend = read_blend(folder)
    return Recommender(model, data, name, config.train.seed, config, folder, blend)


def default_folder(data: Dataset, name: str, seed: int) -> Path:
    """`models/<name>/<seed>` of the run that the data folder belongs to."""
    run = data.folder.parent if data.folder.name == "data" else data.folder
    return run / "models" / name / str(seed)


def _train(
    world: World,
    device: torch.device,
    data: Dataset,
    config: Config,
    name: str,
    folder: Path,
    made_from: dict[str, Any],
    choice: str | None,
    callbacks: list[Callback],
    resume: bool,
) -> None:
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    # Everything that may be refused comes before anything that replaces what is there.
    model, projection = build_model(data, config)
    start = open_start(data, config, folder)
    if start is not None:
        take_weights(model, start)
    loader = build_loader(data, config, world)
    terms = build_terms(config, TermData(device, loader, data, start, folder, world))
    if world.several:
        check_shared(terms, world.world_size)
    validate = build_validation(data, config, world)
    record: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "seed": config.train.seed,
        "key": world.of_first(lambda: key_in(folder, made_from)),
        "continued_keys": world.of_first(lambda: continued_keys(folder, made_from)),
        "made_from": made_from,
        "n_items": data.n_items,
        "data": os.path.relpath(data.folder.resolve(), folder.resolve()),
        "environment": describe(),
        "choice": choice,
        "finished": False,
    }
    if world.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        # First the record that says "unfinished": no moment has a finished record beside another configuration.
        write_json(folder / "model.json", record)
        with atomic_file(folder / "config.yaml", "w") as file:
            file.write(dump_config(config))
        if projection is not None:
            projection.save(folder / "projection.safetensors")
    world.wait()
    trainer = Trainer(
        model.to(device),
        loader,
        config,
        folder,
        validate=validate,
        name=name,
        callbacks=callbacks,
        terms=terms,
        world=world,
    )
    model = trainer.fit(record["key"], resume=resume, same_as=record.pop("continued_keys"))
    if world.is_first:
        _finish(trainer, model, folder, record)
    world.wait()


def _finish(trainer: Trainer, model: SequentialEncoder, folder: Path, record: dict[str, Any]) -> None:
    """Write the weights, then the record that says "finished", and drop what would only resume."""
    save_weights(model, folder)
    # `epoch`, counted from 0, is what earlier versions wrote.
    best = {"best_epoch": trainer.best_epoch + 1, "ndcg@10": trainer.best_value} if trainer.best is not None else None
    files = {name: checksum(folder / name) for name in ("model.safetensors", "config.yaml")}
    done = {"finished": True, "epochs": trainer.epoch, "validation": best, "files": files}
    write_json(folder / "model.json", record | done)
    # The weights are out; what is left of the checkpoints would only resume a training that is over.
    drop_checkpoints(folder / "checkpoint")


def _callbacks(
    config: Config, folder: Path, own: Sequence[Callback], note: str | None, progress: bool
) -> list[Callback]:
    callbacks = [TerminalProgress(note=note)] if progress else []
    if config.runtime.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard"))  # type: ignore[arg-type]
    return [*callbacks, *own]
