"""Settings: presets, files, single values, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from llm_esr.config import STAGES, Config, DataConfig, dump_config, load_config, model_name, preset_names


def test_every_preset_is_valid_and_survives_a_round_trip() -> None:
    for name in preset_names():
        config = load_config(name)
        assert Config.model_validate(yaml.safe_load(dump_config(config))) == config


def test_llm_esr_is_the_default_preset_under_its_public_name() -> None:
    assert load_config("llm-esr") == load_config() == load_config("default")
    assert model_name("default") == model_name("llm-esr") == "llm-esr"


def test_the_baseline_differs_from_the_default_only_where_llm_esr_begins() -> None:
    ours, baseline = load_config("llm-esr"), load_config("sasrec")
    assert baseline.model.views == ["collaborative"]
    assert baseline.distill.weight == 0
    assert baseline.smoothing.probability == 0
    assert not baseline.needs_vectors
    for field in ("width", "max_len", "blocks", "heads", "block", "feed_forward"):
        assert getattr(ours.model, field) == getattr(baseline.model, field)
    for field in ("loss", "averaging", "batch_size", "learning_rate", "patience", "epochs"):
        assert getattr(ours.train, field) == getattr(baseline.train, field)
    assert ours.negatives == baseline.negatives


def test_every_section_belongs_to_one_stage_or_changes_no_result() -> None:
    owned = [section for sections in STAGES.values() for section in sections]
    assert len(owned) == len(set(owned))
    assert set(Config.model_fields) - set(owned) == {"checkpoint", "runtime"}


def test_layers_win_in_order_and_single_values_last(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: sasrec\nmodel: {width: 32}\ntrain: {epochs: 3}\n")
    config = load_config(file, ["train.epochs=5", "train.patience=2", "train.epochs=7"])
    assert (config.model.width, config.train.epochs, config.train.patience) == (32, 7, 2)
    assert config.model.views == ["collaborative"]
    assert model_name(file) == "mine"


def test_no_more_teachers_than_similar_users_are_indexed() -> None:
    with pytest.raises(ValueError, match=r"index\.similar_users"):
        load_config("dual-view", ["distill.similar_users=500"])


@pytest.mark.parametrize("name", ["a - b.yaml", "a, no blend.yaml"])
def test_a_model_is_not_named_like_another_row_of_a_table(name: str) -> None:
    with pytest.raises(ValueError, match="rename the file"):
        model_name(name)


def test_values_are_read_as_yaml() -> None:
    config = load_config(None, ["evaluate.k=[1, 3]", "train.learning_rate=1e-4", "train.clip_norm=null"])
    assert config.evaluate.k == [1, 3]
    assert config.train.learning_rate == pytest.approx(1e-4)
    assert config.train.clip_norm is None


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.widht=64", "did you mean 'model.width'"),
        ("mdoel.width=64", "did you mean 'model"),
        ("width=64", "section.key=value"),
        ("model.width", "section.key=value"),
        ("model.width=sixty", "model.width"),
        ("model.dropout=1.5", "model.dropout"),
        ("model.width=63", "not a multiple of model.heads"),
        ("model.views=[]", "different views, at least one"),
        ("train.loss=soft-max", "sampled-softmax"),
        ("epochs=3", "section.key=value"),
        ("evaluate.k=[5", "not a YAML value"),
        ("data.epochs=3", "did you mean 'train.epochs'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(override: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        load_config(None, [override])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_preset_name_suggests_the_nearest() -> None:
    with pytest.raises(FileNotFoundError, match="did you mean 'sasrec'"):
        load_config("sasrek")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_config("nowhere.yaml")


@pytest.mark.parametrize("name", preset_names())
def test_the_values_of_a_preset_are_those_of_its_golden_file(name: str) -> None:
    """The files are written anew by `python tests/fixtures/presets/write.py`; read the difference before committing."""
    golden = (Path(__file__).parent / "fixtures" / "presets" / f"{name}.yaml").read_text()
    assert dump_config(load_config(name)) == golden


def test_presets_in_a_circle_are_refused_with_the_chain(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"preset: {two}\n")
    two.write_text(f"preset: {one}\n")
    with pytest.raises(ValueError, match=r"circle: .*one\.yaml -> .*two\.yaml -> .*one\.yaml"):
        load_config(one)


def test_every_setting_is_described() -> None:
    for section in Config.model_fields.values():
        fields = section.annotation.model_fields  # type: ignore[union-attr]
        assert all(field.description for field in fields.values()), section.annotation


def test_an_unknown_part_of_a_model_names_the_known_ones() -> None:
    with pytest.raises(ValueError) as error:
        load_config(None, ["model.backbone=lstm"])
    assert str(error.value) == "model.backbone: expected 'sasrec', 'bert4rec' or 'gru4rec' (got 'lstm')"
    with pytest.raises(ValueError, match=r"model\.views\.1: expected 'semantic' or 'collaborative'"):
        load_config(None, ["model.views=[semantic, visual]"])


def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    file.write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="expected sections"):
        load_config(file)
    file.write_text("model: {width: [}")
    with pytest.raises(ValueError, match="not YAML"):
        load_config(file)


def test_values_are_checked_on_assignment_too() -> None:
    config = DataConfig()
    with pytest.raises(ValueError):
        config.min_user_count = -1
