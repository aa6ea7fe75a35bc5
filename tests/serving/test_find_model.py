from __future__ import annotations

from types import SimpleNamespace

import pytest

from llm_esr.files import FORMAT, write_json
from llm_esr.serving.model_folders import check_data, find_model


def make_model(folder):
    folder.mkdir(parents=True)
    write_json(folder / "model.json", {"format": FORMAT})
    return folder


def test_a_run_means_its_primary_model(tmp_path):
    make_model(tmp_path / "models/sasrec/42")
    primary = make_model(tmp_path / "models/llm-esr/43")
    write_json(tmp_path / "run.json", {"format": FORMAT, "primary": {"name": "llm-esr", "seed": 43}})
    assert find_model(tmp_path) == primary


def test_a_model_folder_means_itself(tmp_path):
    folder = make_model(tmp_path / "models/sasrec/42")
    assert find_model(folder) == folder


def test_without_a_run_the_only_model_is_meant(tmp_path):
    folder = make_model(tmp_path / "models/sasrec/42")
    assert find_model(tmp_path) == find_model(tmp_path / "models") == find_model(folder.parent) == folder
    # `evaluate` notes figures in run.json; the only model is still the one that is meant.
    write_json(tmp_path / "run.json", {"format": FORMAT, "primary": None})
    assert find_model(tmp_path) == folder
    make_model(tmp_path / "models/llm-esr/42")
    with pytest.raises(ValueError, match=r"several models .* models/llm-esr/42, models/sasrec/42"):
        find_model(tmp_path)


def test_where_no_model_is_the_message_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_model(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="make one with `llm-esr run`"):
        find_model(tmp_path)
    write_json(tmp_path / "run.json", {"format": FORMAT, "primary": None})
    with pytest.raises(FileNotFoundError, match="no finished run"):
        find_model(tmp_path)
    write_json(tmp_path / "run.json", {"format": FORMAT, "primary": {"name": "llm-esr", "seed": 43}})
    with pytest.raises(FileNotFoundError, match="no model is there"):
        find_model(tmp_path)


def test_a_model_is_not_served_with_data_it_does_not_know(tmp_path):
    data = SimpleNamespace(n_items=5, fingerprint="abc", folder=tmp_path)
    record = {"n_items": 5, "made_from": {"data": "abc", "item_embeddings": "v1", "model": {"views": ["semantic"]}}}
    check_data(tmp_path, record, data)
    write_json(tmp_path / "item_embeddings.json", {"checksum": "v1"})
    check_data(tmp_path, record, data)
    write_json(tmp_path / "item_embeddings.json", {"checksum": "v2"})
    with pytest.raises(ValueError, match="other vectors"):
        check_data(tmp_path, record, data)
    with pytest.raises(ValueError, match="trained on other data"):
        check_data(tmp_path, record, SimpleNamespace(n_items=5, fingerprint="xyz", folder=tmp_path))
