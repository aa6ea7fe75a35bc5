"""What each similar user weighs among a student's teachers."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from step_losses import step_losses

import llm_esr
from llm_esr.config import Config, load_config
from llm_esr.training import TermData, build_loader, build_model, build_terms
from llm_esr.training.freshness import made_from_of
from llm_esr.training.losses import mean_teacher
from llm_esr.training.teachers import SimilarityWeights, StoredTeachers, build_teachers

SMALL = ["model.width=8", "model.max_len=12", "train.batch_size=9", "negatives.count=16", "distill.similar_users=3",
         "model.dropout=0", "index.similar_users=10"]  # fmt: skip
BY_SIMILARITY = ["distill.teacher_weights=similarity", "distill.teacher_temperature=0.2"]


def small(*overrides: str) -> Config:
    return load_config("dual-view", [*SMALL, *overrides])


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A data folder that a test may change."""
    return shutil.copytree(tiny_folder, tmp_path / "data")


def softmax_of(cosines: list[float], has: list[bool], temperature: float) -> list[float]:
    """The oracle: exponentials of those there are, over their sum."""
    exponentials = [math.exp(c / temperature) if there else 0.0 for c, there in zip(cosines, has, strict=True)]
    total = sum(exponentials)
    return [e / total if total else 0.0 for e in exponentials]


def test_weights_are_a_softmax_of_the_stored_cosines_over_the_teachers_there_are(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    assert data.similar_users_scores is not None
    rng = np.random.default_rng(0)
    users, has = rng.permutation(data.n_users)[:20], rng.random((20, 3)) < 0.7
    has[0], has[1] = False, True
    weights = SimilarityWeights(data, small(*BY_SIMILARITY))(users, has)
    expected = [
        softmax_of(data.similar_users_scores[user, :3].tolist(), row.tolist(), 0.2)
        for user, row in zip(users, has, strict=True)
    ]
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    assert weights.dtype == np.float32 and not weights[0].any()


def test_a_low_temperature_leaves_the_most_similar_user_and_a_high_one_all(tiny_folder: Path) -> None:
    data, users = llm_esr.Dataset.open(tiny_folder), np.array([2, 5])
    cosines = np.asarray(data.similar_users_scores)[users, :3]
    assert (cosines[:, 0] > cosines[:, 1] + 1e-6).all()
    has = np.ones((2, 3), np.bool_)
    cold = SimilarityWeights(data, small(*BY_SIMILARITY, "distill.teacher_temperature=1e-9"))(users, has)
    hot = SimilarityWeights(data, small(*BY_SIMILARITY, "distill.teacher_temperature=1e9"))(users, has)
    assert cold.tolist() == [[1.0, 0.0, 0.0]] * 2
    np.testing.assert_allclose(hot, 1 / 3, atol=1e-6)


def test_a_weighted_mean_teacher_is_the_weighted_sum() -> None:
    states = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    weights = np.array([[0.25, 0.75], [1.0, 0.0], [0.0, 0.0]], np.float32)
    means, has_teacher = mean_teacher(states, np.array([[0, 2], [1, -1], [-1, -1]]), weights)
    assert means.tolist() == [[4.0, 7.25], [3.0, 4.0], [0.0, 0.0]]
    assert has_teacher.tolist() == [True, True, False]


def test_even_weights_given_as_numbers_are_the_plain_mean() -> None:
    states, index = torch.randn(5, 4), np.array([[0, 1, 2], [4, 3, -1]])
    weights = np.array([[1 / 3] * 3, [0.5, 0.5, 0]], np.float32)
    torch.testing.assert_close(mean_teacher(states, index, weights)[0], mean_teacher(states, index)[0])


@pytest.mark.parametrize("settings", [[], BY_SIMILARITY])
def test_stored_and_live_teachers_weigh_alike(settings: list[str], tiny_folder: Path) -> None:
    data, config = llm_esr.Dataset.open(tiny_folder), small(*settings)
    model, _ = build_model(data, config)
    batch = next(iter(build_loader(data, config)))
    live, has_teacher = build_teachers(config, data).encode(model, batch)
    stored = build_teachers(config.model_copy(update={"distill": small(*settings, "distill.teachers=stored").distill}),
                            data)  # fmt: skip
    assert isinstance(stored, StoredTeachers)
    stored.refresh(model)
    means, known = stored.mean_of_users(batch.users)
    assert (has_teacher == known).all()
    assert torch.allclose(means, live, atol=1e-5)


def test_the_weights_reach_the_loss_of_a_step(tiny_folder: Path) -> None:
    data = llm_esr.Dataset.open(tiny_folder)
    model, _ = build_model(data, small())
    batch = next(iter(build_loader(data, small())))
    even, weighted = (step_losses(model, batch, small(*more), data) for more in ([], BY_SIMILARITY))
    assert even["distillation"] != weighted["distillation"]
    assert even["ranking"] == weighted["ranking"]
    assert batch.teachers is not None and batch.teacher_index is not None
    states = model.last_states(batch.teachers).detach().numpy()
    cosines = np.asarray(data.similar_users_scores)[batch.users, :3]
    expected = []
    for student, index in enumerate(batch.teacher_index):
        weights = softmax_of(cosines[student].tolist(), (index >= 0).tolist(), 0.2)
        teacher = sum((w * states[z] for w, z in zip(weights, index, strict=True) if z >= 0), np.zeros(states.shape[1]))
        own = model.last_states(batch.students).detach().numpy()[student]
        if (index >= 0).any():
            expected.append(((own - teacher) ** 2).mean())
    assert float(weighted["distillation"].detach()) == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_cosines_are_part_of_a_model_that_weighs_by_them(folder: Path) -> None:
    data = llm_esr.Dataset.open(folder)
    assert "similar_users_scores" not in made_from_of(data, small(), folder)
    assert "similar_users_scores" in made_from_of(data, small(*BY_SIMILARITY), folder)


def test_cosines_that_are_missing_or_of_other_users_are_refused(folder: Path) -> None:
    data, config = llm_esr.Dataset.open(folder), small(*BY_SIMILARITY)
    kept = {suffix: (folder / f"similar_users_scores{suffix}").read_bytes() for suffix in (".npy", ".json")}
    llm_esr.index(data, k=10, teacher_min_history=3, progress=False)
    for suffix, content in kept.items():
        (folder / f"similar_users_scores{suffix}").write_bytes(content)
    for ask in (
        lambda data, config: made_from_of(data, config, folder),
        lambda data, config: build_teachers(config, data),
    ):
        with pytest.raises(ValueError, match=r"cosines of other similar users .* run `llm-esr index` again"):
            ask(data, config)
    for suffix in kept:
        (folder / f"similar_users_scores{suffix}").unlink()
    with pytest.raises(FileNotFoundError, match=r"no similar_users_scores\.npy.*teacher_weights=even"):
        made_from_of(data, config, folder)


def test_weights_without_a_data_set_say_what_is_needed() -> None:
    with pytest.raises(ValueError, match=r"TermData\.data is needed"):
        build_terms(small(*BY_SIMILARITY), TermData(torch.device("cpu")))
