"""What nobody thought of leaves every public door as one error that names the door; the rest goes through."""

from __future__ import annotations

import importlib
import inspect
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import llm_esr
from llm_esr import UnforeseenError
from llm_esr.doors import door
from llm_esr.pipeline import evaluate_folder
from llm_esr.serving import Recommender
from llm_esr.training import Callback

# A fault as foreign code raises it.
_FOREIGN: dict[str, Any] = {}
_LINE = "def fault(*given, **named): raise KeyError('what nobody thought of')"
exec(compile(_LINE, str(Path(sysconfig.get_path("purelib")) / "foreign.py"), "exec"), _FOREIGN)
EVENTS = pl.DataFrame({"user_id": ["u"] * 3, "item_id": list("abc"), "timestamp": [1, 2, 3]})

# Each door: what is broken behind it, and a call.
DOORS: dict[str, tuple[str, Callable[[Path, Recommender], Any]]] = {
    "prepare": ("llm_esr.data.prepare:open_sources", lambda folder, _: llm_esr.prepare(EVENTS, out=folder / "d")),
    "convert": ("llm_esr.published.convert:given_path", lambda folder, _: llm_esr.convert(folder, out=folder / "d")),
    "embed": ("llm_esr.semantics.embed:section_with", lambda _, model: llm_esr.embed(model.data)),
    "index": ("llm_esr.retrieval.index:section_with", lambda _, model: llm_esr.index(model.data)),
    "train": ("llm_esr.training.train:config_with", lambda _, model: llm_esr.train(model.data)),
    "run": ("llm_esr.pipeline.runs:shared_config", lambda folder, _: llm_esr.run(EVENTS, out=folder / "r")),
    "demo": ("llm_esr.simulation:simulate", lambda folder, _: llm_esr.demo(folder / "r")),
    "tune": (
        "llm_esr.pipeline.search.tune:read_space",
        lambda folder, model: llm_esr.tune(model.data, {}, out=folder / "t"),
    ),
    "doctor": ("llm_esr.pipeline.doctor:_installation", lambda *_: llm_esr.doctor()),
    "simulate": ("llm_esr.simulation:_interactions", lambda *_: llm_esr.simulate()),
    "load_config": ("llm_esr.config.read:_layers", lambda *_: llm_esr.load_config("sasrec")),
    "export_model": (
        "llm_esr.serving.export.folder:given_path",
        lambda folder, model: llm_esr.export_model(model, folder / "e"),
    ),
    "evaluate_folder": ("llm_esr.pipeline.reports:chosen_models", lambda folder, _: evaluate_folder(folder)),
    "Dataset.open": ("llm_esr.data.dataset:read_record", lambda _, model: llm_esr.Dataset.open(model.data.folder)),
    "Recommender.load": ("llm_esr.serving.recommender:find_model", lambda _, m: Recommender.load(m.folder)),
    "from_pretrained": (
        "llm_esr.serving.hub.pretrained:given_path",
        lambda folder, _: Recommender.from_pretrained(folder),
    ),
    "Recommender.recommend": (
        "llm_esr.serving.recommender:gather_frames",
        lambda _, model: model.recommend(users=["u1"]),
    ),
    "Recommender.recommend_to": (
        "llm_esr.serving.recommender:write_frames",
        lambda folder, model: model.recommend_to(folder / "o.parquet", "all"),
    ),
    "Recommender.similar_items": (
        "llm_esr.serving.similar_items:item_numbers",
        lambda _, model: model.similar_items("i1"),
    ),
    "Recommender.user_vectors": ("numpy:zeros", lambda _, model: model.user_vectors()),
    "Recommender.evaluate": ("llm_esr.serving.recommender:judge", lambda _, model: model.evaluate()),
    "BatchLoader.__init__": ("llm_esr.loading.batch_loader:replace", lambda _, model: llm_esr.BatchLoader(model.data)),
}


@pytest.fixture(scope="module")
def model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    out = tmp_path_factory.mktemp("models") / "sasrec" / "1"
    return llm_esr.train(tiny_folder, config="sasrec", epochs=1, width=8, out=out, progress=False)


@pytest.mark.parametrize("name", DOORS)
def test_a_foreign_error_names_the_door_and_asks_for_a_report(
    name: str, model: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind, call = DOORS[name]
    module, attribute = behind.split(":")
    monkeypatch.setattr(importlib.import_module(module), attribute, _FOREIGN["fault"])
    with pytest.raises(UnforeseenError, match="this should have been a clear message: please report it") as caught:
        call(tmp_path, model)
    assert f"{name}(" in str(caught.value) and "KeyError: 'what nobody thought of'" in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


def test_every_public_function_is_a_door() -> None:
    exported = {name: getattr(llm_esr, name) for name in llm_esr.__all__}
    functions = {name for name, value in exported.items() if inspect.isfunction(value)}
    assert functions <= DOORS.keys(), functions - DOORS.keys()


def test_what_the_callers_own_code_raises_goes_through(model: Recommender, tmp_path: Path) -> None:
    class OwnError(Exception):
        pass

    class Mine(Callback):
        def on_step_end(self, trainer: Any, report: Any) -> None:
            raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        llm_esr.train(model.data, config="sasrec", epochs=1, width=8, out=tmp_path, callbacks=[Mine()], progress=False)

    def histories() -> Any:
        yield ["i1"]
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        model.recommend(histories=histories())


def test_a_warning_points_at_the_callers_line(model: Recommender) -> None:
    with pytest.warns(UserWarning, match="no item 'nothing' in the data") as caught:
        model.recommend(histories=[["nothing", "i1"]])
    assert {warning.filename for warning in caught} == {__file__}


def test_expected_errors_and_signatures_are_kept() -> None:
    @door
    def given(what: type[BaseException]) -> None:
        """Say."""
        raise what("said")

    for kind in (ValueError, FileNotFoundError, TypeError, KeyboardInterrupt, MemoryError):
        with pytest.raises(kind, match="said"):
            given(kind)
    assert given.__doc__ == "Say." and list(inspect.signature(given).parameters) == ["what"]


@pytest.mark.parametrize("wrong", [None, {}, 5, b"bytes", object()])
def test_what_is_no_path_is_said_at_every_door(wrong: Any, model: Recommender) -> None:
    doors: list[Callable[[], Any]] = [
        lambda: Recommender.load(wrong), lambda: llm_esr.Dataset.open(wrong), lambda: llm_esr.embed(wrong),
        lambda: llm_esr.index(wrong), lambda: llm_esr.train(wrong), lambda: llm_esr.prepare(EVENTS, out=wrong),
        lambda: llm_esr.run(EVENTS, out=wrong), lambda: model.recommend_to(wrong, ["u1"]),
        lambda: evaluate_folder(wrong),
    ]  # fmt: skip
    for call in doors:
        with pytest.raises(ValueError, match="expected a path"):
            call()


def test_settings_of_another_kind_are_said(model: Recommender) -> None:
    for call in (llm_esr.embed, llm_esr.index):
        with pytest.raises(ValueError, match=r"config is a dict; expected \w+Config or None; single settings go by"):
            call(model.data, config={})
