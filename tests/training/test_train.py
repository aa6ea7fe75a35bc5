"""Training as a whole: the same bits from the same seed, after a kill too; what is fresh is not done again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from interruption import StopAt
from safetensors.torch import load_file
from step_losses import step_losses

import llm_esr
from llm_esr.config import Config, load_config, preset_names
from llm_esr.training import build_loader, build_model, train
from llm_esr.training.loss_choice import settle_loss
from llm_esr.training.teachers import LiveTeachers, StoredTeachers

SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "negatives.count=16", "distill.similar_users=3",
         "train.epochs=3", "checkpoint.every_steps=4", "runtime.threads=1", "index.similar_users=10"]  # fmt: skip


def small(preset: str = "default", *more: str) -> Config:
    return load_config(preset, [*SMALL, *more])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_trains_and_leaves_the_files_of_the_design(preset: str, tiny_folder: Path, tmp_path: Path) -> None:
    config = small(preset, "train.epochs=1", *(["train.validation_candidates=10"] if "paper" in preset else []))
    model = train(tiny_folder, config=config, name=preset, out=tmp_path / "m", progress=False)
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert {"config.yaml", "model.json", "model.safetensors", "metrics.jsonl"} <= names
    assert ("projection.safetensors" in names) == (config.model.collaborative_init == "pca")
    assert load_config(tmp_path / "m" / "config.yaml") == settle_loss(config, model.data.n_items)
    line = json.loads((tmp_path / "m" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["epoch"] == 0 and line["loss"] > 0 and 0 <= line["validation_ndcg_10"] <= 1
    assert model.name == preset


def test_the_loss_falls(tiny_folder: Path, tmp_path: Path) -> None:
    settings = ["train.epochs=12", "train.learning_rate=0.02", "train.patience=99", "model.dropout=0.1",
                "smoothing.probability=0", "model.width=16"]  # fmt: skip
    train(tiny_folder, config=small("default", *settings), out=tmp_path, progress=False)
    losses = [json.loads(line)["ranking"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny_folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(tiny_folder, config=small("default", f"train.seed={seed}"), out=tmp_path / name, progress=False)
    assert_same_bits(tmp_path / "a", tmp_path / "b")
    table = "views.collaborative.table.weight"
    assert not torch.equal(weights(tmp_path / "a")[table], weights(tmp_path / "c")[table])


def test_loader_threads_do_not_change_the_weights(tiny_folder: Path, tmp_path: Path) -> None:
    for threads in (1, 4):
        config = small("default", f"runtime.loader_threads={threads}")
        train(tiny_folder, config=config, out=tmp_path / str(threads), progress=False)
    assert_same_bits(tmp_path / "1", tmp_path / "4")


def test_ctrl_c_ends_after_the_step_and_the_same_call_goes_on_to_the_same_weights(
    tiny_folder: Path, tmp_path: Path
) -> None:
    config = small("default", "checkpoint.every_steps=1000")
    train(tiny_folder, config=config, out=tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=config, out=tmp_path / "cut", callbacks=[StopAt(9)], progress=False)
    assert [path.stem for path in (tmp_path / "cut" / "checkpoint").iterdir()] == ["9"]
    with pytest.raises(ValueError, match="not finished"):
        llm_esr.Recommender.load(tmp_path / "cut")
    train(tiny_folder, config=config, out=tmp_path / "cut", progress=False)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")
    for name in ("whole", "cut"):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [0, 1, 2]


# What each of these holds at a kill: averaged weights and borrowed rows; teachers; two showings a user; two student
# passes with binomial draws; padding as tokens.
KILLED = ["default", "dual-view", "bert4rec", "paper-sasrec", "paper-gru4rec"]
STORED = ["distill.teachers=stored", "distill.refresh_steps=4"]


def test_kill_minus_nine_in_mid_epoch_and_resume_gives_the_same_weights(tiny_folder: Path, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import os, signal, sys
        from llm_esr.config import load_config
        from llm_esr.training import Callback, train
        class Kill(Callback):
            def on_step_end(self, trainer, report):
                if trainer.step == 10:
                    os.kill(os.getpid(), signal.SIGKILL)
        # One process imports torch for all: each training is killed in a child of its own.
        for preset in sys.argv[3].split(","):
            if os.fork() == 0:
                config = load_config(preset, sys.argv[4:])
                train(sys.argv[1], config=config, out=sys.argv[2] + "/" + preset, callbacks=[Kill()], progress=False)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL, preset
    """)
    settings = ["checkpoint.every_steps=3", "train.validation_candidates=10"]
    arguments = [str(tiny_folder), str(tmp_path / "cut"), ",".join(KILLED), *SMALL, *settings]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, timeout=300)
    for preset in KILLED:
        config = small(preset, *settings)
        train(tiny_folder, config=config, out=tmp_path / "whole" / preset, progress=False)
        kept = sorted(path.stem for path in (tmp_path / "cut" / preset / "checkpoint").iterdir())
        assert kept == ["6", "9"]
        train(tiny_folder, config=config, out=tmp_path / "cut" / preset, progress=False)
        assert_same_bits(tmp_path / "whole" / preset, tmp_path / "cut" / preset)


def test_stored_teachers_resume_as_they_were_at_their_last_refresh(tiny_folder: Path, tmp_path: Path) -> None:
    config = small("dual-view", "checkpoint.every_steps=3", *STORED)
    train(tiny_folder, config=config, out=tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=config, out=tmp_path / "cut", callbacks=[StopAt(10)], progress=False)
    train(tiny_folder, config=config, out=tmp_path / "cut", progress=False)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


# Not BERT4Rec without the last item: in paper mode its teachers have no mask token, which storing appends.
@pytest.mark.parametrize(
    ("backbone", "sequence"), [("sasrec", "whole"), ("sasrec", "without-last"), ("bert4rec", "whole")]
)
def test_stored_teachers_of_the_same_weights_are_the_live_ones(sequence: str, backbone: str, tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    settings = ["model.dropout=0", f"train.sequence={sequence}", f"model.backbone={backbone}"]
    config = small("dual-view", *settings)
    model, _ = build_model(data, config)
    batch = next(iter(build_loader(data, config)))
    live, has_teacher = LiveTeachers(dropout=False).encode(model, batch)
    stored = StoredTeachers(data, config)
    stored.refresh(model)
    means, known = stored.mean_of_users(batch.users)
    assert (has_teacher == known).all()
    assert torch.allclose(means, live, atol=1e-5)


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(tiny_folder: Path, tmp_path: Path) -> None:
    config = small("default", "checkpoint.every_steps=4")
    train(tiny_folder, config=config, out=tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=config, out=tmp_path / "cut", callbacks=[StopAt(9)], progress=False)
    newest = max((tmp_path / "cut" / "checkpoint").iterdir(), key=lambda path: int(path.stem))
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=rf"{newest.name} is damaged"):
        train(tiny_folder, config=config, out=tmp_path / "cut", progress=False)
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


def test_checkpoints_of_other_settings_do_not_outrank_the_new_ones(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=small(), out=tmp_path, callbacks=[StopAt(13)], progress=False)
    other = small("default", "model.dropout=0.25")
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, config=other, out=tmp_path, overwrite=True, callbacks=[StopAt(5)], progress=False)
    assert {path.stem for path in (tmp_path / "checkpoint").iterdir()} == {"4", "5"}


def test_a_refused_training_leaves_the_finished_model_as_it_was(tiny_folder: Path, tmp_path: Path) -> None:
    train(tiny_folder, config=small(), out=tmp_path, progress=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    refused = small("default", "train.loss=bce", "negatives.count=1")
    with pytest.raises(ValueError, match=r"negatives\.kind"):
        train(tiny_folder, config=refused, out=tmp_path, overwrite=True, progress=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_diverging_training_says_so(tiny_folder: Path, tmp_path: Path) -> None:
    settings = ["train.learning_rate=1e30", "train.clip_norm=null"]
    with pytest.raises(ValueError, match=r"loss became nan.*train\.learning_rate"):
        train(tiny_folder, config=small("default", *settings), out=tmp_path, progress=False)


def test_a_finished_training_is_not_repeated_and_not_overwritten_by_accident(tiny_folder: Path, tmp_path: Path) -> None:
    train(tiny_folder, config=small(), out=tmp_path, progress=False)
    written = (tmp_path / "model.safetensors").stat().st_mtime_ns
    train(tiny_folder, config=small(), out=tmp_path, progress=False)
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == written
    other = small("default", "model.dropout=0.25")
    with pytest.raises(ValueError, match=r"model\.dropout was 0\.4, is 0\.25.*overwrite=True"):
        train(tiny_folder, config=other, out=tmp_path, progress=False)
    train(tiny_folder, config=other, out=tmp_path, overwrite=True, progress=False)
    assert load_config(tmp_path / "config.yaml") == settle_loss(other, 100)


@pytest.mark.parametrize("backbone", ["sasrec", "bert4rec", "gru4rec"])
@pytest.mark.parametrize("preset", ["default", "dual-view", "corrected"])
def test_packed_and_padded_batches_give_the_same_losses_and_gradients(
    preset: str, backbone: str, tiny_folder: Path
) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    results = []
    for layout in ("packed", "padded"):
        config = small(preset, f"train.layout={layout}", "model.dropout=0", f"model.backbone={backbone}")
        batch = next(iter(build_loader(data, config)))
        model = build_model(data, config)[0].train()
        losses = step_losses(model, batch, config, data)
        losses["total"].backward()
        results.append((losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (packed, packed_gradients), (padded, padded_gradients) = results
    assert ("distillation" in packed) == (preset != "default")
    for part in packed:
        assert torch.allclose(packed[part], padded[part], rtol=1e-5)
    for name, gradient in packed_gradients.items():
        assert torch.allclose(gradient, padded_gradients[name], atol=1e-5 * max(1, float(gradient.abs().max()))), name


def test_teachers_get_no_gradient(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    config = small("dual-view", "model.dropout=0", "distill.weight=1000")
    batch = next(iter(build_loader(data, config)))
    met = set(batch.students.items) | set(batch.students.targets) | set(batch.negatives)
    only_teachers = set(batch.teachers.items) - met
    model, _ = build_model(data, config)
    step_losses(model, batch, config)["total"].backward()
    gradient = model.views["collaborative"].table.weight.grad
    assert all(not gradient[int(item)].any() for item in only_teachers)


def test_training_stops_when_patience_ends(tiny_folder: Path, tmp_path: Path) -> None:
    config = small("default", "train.epochs=60", "train.patience=1", "train.learning_rate=1e-9")
    train(tiny_folder, config=config, out=tmp_path, progress=False)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) < 60


def test_missing_vectors_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    interactions = pl.DataFrame({"user_id": ["a"] * 4 + ["b"] * 4, "item_id": list("wxyzzyxw")})
    data = llm_esr.prepare(interactions, out=tmp_path / "data")
    with pytest.raises(FileNotFoundError, match=r"llm_esr\.embed"):
        train(data, config=small(), progress=False)


def test_an_unknown_setting_suggests_the_nearest(tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'epochs'"):
        train(tiny_folder, epoch=3, progress=False)


def test_a_world_without_a_rank_is_refused(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match=r"RANK is '', expected a number.*start with torchrun"):
        train(tiny_folder, config=small(), out=tmp_path, progress=False)


def test_tensorboard_events_are_written(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(tiny_folder, config=small("sasrec", "train.epochs=1", "runtime.tensorboard=true"), out=tmp_path,
          progress=False)  # fmt: skip
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("preset", preset_names())
def test_bfloat16_trains(preset: str, tiny_folder: Path, tmp_path: Path) -> None:
    settings = ["train.epochs=1", "train.precision=bfloat16"]
    settings += ["train.validation_candidates=10"] if "paper" in preset else []
    train(tiny_folder, config=small(preset, *settings), out=tmp_path, progress=False)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] > 0


QUALITY = Path(__file__).parents[2] / "benches" / "quality"


@pytest.mark.parametrize("file", sorted(QUALITY.rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_ablation_trains(file: Path, tiny_folder: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "train.epochs=1"]
    if "paper" in file.read_text():
        settings += ["train.validation_candidates=10"]
    train(tiny_folder, config=load_config(file, settings), out=tmp_path, progress=False)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] > 0


def test_the_stored_table_is_what_the_items_start_from(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(tiny_folder, folder)
    data = llm_esr.Dataset.open(folder)
    config = small("default", "model.collaborative_init=stored")
    with pytest.raises(FileNotFoundError, match="llm-esr convert"):
        build_model(data, config)
    table = np.random.default_rng(0).standard_normal((data.n_items, 8)).astype(np.float32)
    np.save(folder / "pca_items.npy", table)
    model, projection = build_model(data, config)
    assert torch.equal(model.views["collaborative"].table.weight[1:-1], torch.from_numpy(table))
    assert projection is None
    with pytest.raises(ValueError, match=r"model\.width"):
        build_model(data, small("default", "model.collaborative_init=stored", "model.width=16"))


def test_early_stopping_names_the_setting_that_asks_for_too_many_candidates(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.validation_candidates: .*100 candidates are more than the"):
        train(tiny_folder, config=small("paper-sasrec"), out=tmp_path, progress=False)
