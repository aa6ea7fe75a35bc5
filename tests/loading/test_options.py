"""The options of a loader: what makes a state another one's, and what is refused."""

from __future__ import annotations

from dataclasses import asdict, fields
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from llm_esr.config import Config, load_config, preset_names
from llm_esr.config.sections.training import NegativesConfig, TrainConfig
from llm_esr.loading import BatchLoader, LoaderOptions
from llm_esr.loading.options import LoaderSettings

ALL: dict[str, Any] = {"similar_users": 4, "n_negatives": 7, "smoothing": 0.3, "batch_size": 16, "max_len": 9}
MASKED: dict[str, Any] = ALL | {"mask_probability": 0.6, "append_mask": True, "sequence": "without-last"}
PADDED: dict[str, Any] = ALL | {
    "sequence": "without-last", "targets": "last", "layout": "padded", "padding_tokens": True,
}  # fmt: skip


def test_keyword_arguments_are_the_fields_of_the_options() -> None:
    assert list(LoaderSettings.__annotations__) == [field.name for field in fields(LoaderOptions)]


def test_names_are_those_of_the_configuration() -> None:
    hints = get_type_hints(LoaderOptions)
    for section, names in ((NegativesConfig, ("distribution", "catalogue")), (TrainConfig, ("sequence", "targets"))):
        for name in names:
            assert get_args(hints[name]) == get_args(section.model_fields[name].annotation), name


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_has_options(preset: str) -> None:
    config: Config = load_config(preset)
    options = LoaderOptions.from_config(config)
    assert (options.batch_size, options.max_len) == (config.train.batch_size, config.model.max_len)
    assert (options.mask_probability is not None) == (config.model.backbone == "bert4rec")


def test_options_and_keyword_arguments_make_the_same_loader(shop: Any) -> None:
    one = BatchLoader(shop, LoaderOptions(max_len=7, seed=3), negatives="own")
    other = BatchLoader(shop, max_len=7, seed=3, negatives="own")
    assert (one.seed, one.batch_size) == (3, 80)
    assert one.options == other.options and one.state_dict() == other.state_dict()


def test_every_option_that_changes_makes_another_state(shop: Any) -> None:
    state = BatchLoader(shop).state_dict()
    changes: dict[str, Any] = {"max_len": 7, "layout": "padded", "sequence": "without-last", "targets": "last",
                               "negatives": "own", "n_negatives": 3, "catalogue": "training",
                               "distribution": "popularity", "shuffle": False}  # fmt: skip
    for name, value in changes.items():
        assert asdict(LoaderOptions())[name] != value
        with pytest.raises(ValueError, match="settings"):
            BatchLoader(shop, **{name: value}).load_state_dict(state)


def test_an_option_that_is_none_is_refused(shop: Any) -> None:
    with pytest.raises(TypeError, match="no option sead"):
        BatchLoader(shop, sead=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"batch_size": 15}, "batch size 16.*15"),
        ({"seed": 1}, "seed"),
        ({"max_len": 3}, "settings"),
        ({"smoothing": 0.0}, "settings"),
        ({"sequence": "without-last"}, "settings"),
        ({"targets": "last"}, "settings"),
        ({"mask_probability": 0.6}, "settings"),
    ],
)
def test_another_loaders_state_is_refused(shop: Any, change: dict[str, Any], named: str) -> None:
    state = BatchLoader(shop, **ALL).state_dict()
    with pytest.raises(ValueError, match=named):
        BatchLoader(shop, **ALL | change).load_state_dict(state)


@pytest.mark.parametrize("change", [{"padding_tokens": False}, {"targets": "every"}, {"sequence": "whole"}])
def test_a_state_of_padded_batches_is_theirs_alone(shop: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="settings"):
        BatchLoader(shop, **PADDED | change).load_state_dict(BatchLoader(shop, **PADDED).state_dict())


@pytest.mark.parametrize("change", [{"mask_probability": 0.5}, {"append_mask": False}])
def test_a_state_of_masked_batches_is_theirs_alone(shop: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="settings"):
        BatchLoader(shop, **MASKED | change).load_state_dict(BatchLoader(shop, **MASKED).state_dict())


def test_a_state_of_another_data_set_is_refused(shop: Any, make_folder: Any) -> None:
    data = make_folder([[1, 2, 3], [2, 3]], 5)
    options = {"batch_size": 16, "seed": 42}
    state = BatchLoader(shop, **options).state_dict()
    with pytest.raises(ValueError, match="data set"):
        BatchLoader(data, **options).load_state_dict(state)
    with pytest.raises(ValueError, match="epoch"):
        BatchLoader(data, **options).load_state_dict({"format": 1})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"max_len": 0}, "max_len"),
        ({"max_len": 2.5}, "max_len"),
        ({"seed": -1}, "seed"),
        ({"n_negatives": 0}, "n_negatives"),
        ({"negatives": "some"}, "'shared', 'own', 'in-batch' or None"),
        ({"layout": "dense"}, "'packed' or 'padded'"),
        ({"distribution": "zipf"}, "'uniform' or 'popularity'"),
        ({"catalogue": "half"}, "'training' or 'all'"),
        ({"distribution": "popularity", "exponent": -1.0}, "exponent"),
        ({"smoothing": 1.5}, "smoothing"),
        ({"smoothing": -0.5}, "smoothing"),
        ({"smoothing": 0.5, "smoothing_temperature": 0.0}, "smoothing_temperature"),
        ({"rank": 2, "world_size": 2}, "rank"),
        ({"world_size": 0}, "world_size"),
        ({"similar_users": 7}, "6 similar users a user, 7 are asked for"),
    ],
)
def test_settings_out_of_range_are_named(shop: Any, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BatchLoader(shop, **options)


@pytest.mark.parametrize(
    ("name", "array", "named"),
    [
        ("offsets", np.array([0, 3, 2, 5]), "user 1"),
        ("offsets", np.array([0, 3, 4]), "expected 0 to 5"),
        ("offsets", np.array([0, 3, 5], np.int32), "int64"),
        ("items", np.array([1, 2, 9, 1, 2], np.int32), "id 9, expected 1 to 4"),
        ("items", np.array([1, 2, 0, 1, 2], np.int32), "id 0"),
        ("items", np.array([1.0, 2, 3, 1, 2]), "int32"),
        ("splits", np.array([[4, 4], [2, 2]]), "user 0"),
        ("splits", np.array([[2, 1], [2, 2]]), "user 0"),
        ("splits", np.array([[2, 2]]), r"\[2, 2\]"),
        ("similar_users", np.array([[2], [0]], np.int32), "id 2"),
        ("similar_users", np.array([[0]], np.int32), "1 rows"),
        ("similar_items", np.array([[5]] * 4, np.int32), "id 5"),
        ("similar_items", np.array([[1]] * 3, np.int32), "4 items"),
        ("similar_items_scores", np.full((4, 1), np.nan, np.float32), "nan|NaN"),
        ("similar_items_scores", np.ones((4, 2), np.float32), "shape"),
    ],
)
def test_damaged_files_are_named(make_folder: Any, name: str, array: np.ndarray, named: str) -> None:
    near = {"similar_items": [[1]] * 4, "scores": [[1.0]] * 4, "similar_users": [[1], [0]]}
    data = make_folder([[1, 2, 3], [1, 2]], 4, **near)
    data.save(name, array)
    with pytest.raises(ValueError, match=named) as error:
        BatchLoader(data, similar_users=1, smoothing=0.5)
    assert f"{name}.npy" in str(error.value)


def test_missing_neighbours_name_the_stage_that_makes_them(make_folder: Any) -> None:
    data = make_folder([[1, 2, 3], [1, 2]], 4)
    with pytest.raises(FileNotFoundError, match=r"similar_users\.npy.*llm_esr\.index"):
        BatchLoader(data, similar_users=1)
    with pytest.raises(FileNotFoundError, match=r"similar_items\.npy.*llm_esr\.index"):
        BatchLoader(data, smoothing=0.5)
    nowhere = SimpleNamespace(folder=data.folder / "nowhere", n_items=4, fingerprint="")
    with pytest.raises(FileNotFoundError, match=r"offsets\.npy"):
        BatchLoader(nowhere)  # type: ignore[arg-type]
