"""Which models search their catalogue, and that recommendations say so."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import llm_esr
from llm_esr.cli import app
from llm_esr.scoring import NetworkScorer
from llm_esr.scoring.large_catalogue import LargeCatalogue
from llm_esr.serving import Recommender, searching


@pytest.fixture(scope="module")
def tiny_model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("m") / "m"
    llm_esr.train(tiny_folder, config="sasrec", out=out, progress=False, epochs=1, width=8, heads=1)
    return out


@pytest.fixture
def large(monkeypatch):
    """Every catalogue is a large one."""
    monkeypatch.setattr(searching, "LARGE", 1)


def test_a_small_catalogue_is_scored(tiny_model):
    model = Recommender.load(tiny_model, blend=False)
    assert isinstance(model.scorer, NetworkScorer)
    assert model.searched() is None


def test_a_large_catalogue_is_searched_unless_asked_otherwise(tiny_model, large):
    model, exact = (Recommender.load(tiny_model, blend=False, exact=exact) for exact in (False, True))
    assert isinstance(model.scorer, LargeCatalogue) and isinstance(exact.scorer, NetworkScorer)
    users = model.data.user_ids[:20]
    found, wanted = (one.recommend(users=users, k=5) for one in (model, exact))
    assert found["user_id"].to_list() == wanted["user_id"].to_list()
    same = np.mean(found["item_id"].to_numpy() == wanted["item_id"].to_numpy())
    assert same > 0.95
    assert "recall expected" in model.searched()
    # Filters go by scores of the whole catalogue.
    few = model.data.item_ids[:7]
    assert set(model.recommend(users=users[:3], k=5, include=few)["item_id"]) <= set(few)


def test_the_command_says_that_it_searched(tiny_model, large):
    user = Recommender.load(tiny_model).data.user_ids[0]
    searched = CliRunner().invoke(app, ["recommend", str(tiny_model), "--user", user, "--no-blend"])
    assert searched.exit_code == 0 and "; --exact scores every item" in searched.stderr
    exact = CliRunner().invoke(app, ["recommend", str(tiny_model), "--user", user, "--no-blend", "--exact"])
    assert exact.exit_code == 0 and "--exact" not in exact.stderr
