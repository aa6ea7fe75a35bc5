"""The stages of a run, each of which looks first whether there is anything to do, and says so in one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_esr.config import Config, Section
from llm_esr.config.parts import POPULARITY
from llm_esr.data import Dataset, prepare, prepare_key
from llm_esr.data.row_summary import row_summary
from llm_esr.evaluation import drop_rows, evaluate_popularity, merge_rows
from llm_esr.files import key_of, read_record
from llm_esr.pipeline.differences import differences, keep_ranks, replace_differences
from llm_esr.pipeline.run_folder import ModelId, RunFolder
from llm_esr.pipeline.web_page import write_page
from llm_esr.retrieval import COMPARED_BY, index, index_fresh, neighbours_match
from llm_esr.semantics import embed, embed_fresh
from llm_esr.semantics.tuned_encoder import tuning_lines
from llm_esr.serving.judging import judge, name_alone
from llm_esr.serving.untrained import make_untrained
from llm_esr.serving.user_vectors import collaborative_vectors
from llm_esr.training import train

if TYPE_CHECKING:
    from llm_esr.evaluation import Report
    from llm_esr.serving import Recommender
    from llm_esr.training import Callback

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stages:
    """One run's stages, on its folder."""

    folder: RunFolder
    overwrite: bool
    progress: bool
    say: Say

    def prepare(self, interactions: Any, items: Any, config: Config) -> Dataset:
        """The data folder, made anew where the inputs or `config.data` changed."""
        folder = self.folder
        present = (folder.data / "dataset.json").exists()
        if interactions is None:
            if not present:
                raise ValueError(
                    f"no interactions were given and {folder.data} holds no data set; name a table: "
                    "llm-esr run events.parquet --out ..."
                )
            self.say("prepare    the data set of the run folder is used as it is")
            return Dataset.open(folder.data)
        if present:
            data = Dataset.open(folder.data)
            if data.metadata["key"] == prepare_key(interactions, items, config.data):
                self.say("prepare    fresh")
                folder.remember("data", config.data)
                return data
            self._refuse_to_outdate("data", config.data, [*folder.finished(), *folder.unfinished()])
        began = time.monotonic()
        data = prepare(interactions, items=items, out=folder.data, config=config.data, overwrite=self.overwrite)
        folder.remember("data", config.data)
        # Figures of other data would stand beside the new ones as if they could be compared.
        folder.metrics.unlink(missing_ok=True)
        folder.update(evaluated={})
        self.say(
            f"prepare    {data.n_users:,} users, {data.n_items:,} items, {data.n_interactions:,} interactions, "
            f"split {data.split} ({time.monotonic() - began:.1f} s)"
        )
        for line in row_summary(data):
            self.say(f"           {line}")
        return data

    def embed(self, data: Dataset, config: Config, user_embeddings: str | Path | None, *, as_is: bool) -> Dataset:
        """Item and user vectors, where there are texts or vectors to make them from.

        `as_is`: what is there already is kept unless a setting of the stage was given.
        """
        # How fast it goes says nothing of which vectors are wanted.
        given = bool(config.embed.model_fields_set - {"device", "batch_size"}) or user_embeddings is not None
        if as_is and not given and data.item_embeddings is not None:
            self.say("embed      the vectors of the data folder are used as they are")
            return data
        if config.embed.encoder is None and not data.text_columns:
            if user_embeddings is not None:
                raise ValueError("user vectors were given, but neither item vectors nor texts; add --item-embeddings")
            return data
        if embed_fresh(data, config.embed, user_embeddings=user_embeddings):
            self.say("embed      fresh")
            self.folder.remember("embed", config.embed)
            return data
        if data.item_embeddings is not None:
            self._refuse_to_outdate("embed", config.embed, self._readers_of_vectors())
        began = time.monotonic()
        data = embed(data, config=config.embed, user_embeddings=user_embeddings, progress=self.progress)
        self.folder.remember("embed", config.embed)
        vectors = data.item_embeddings
        assert vectors is not None
        encoder = read_record(data.folder / "item_embeddings.json", "encoder")["encoder"]
        self.say(
            f"embed      {vectors.shape[0]:,} item vectors, {vectors.shape[1]} wide, by {encoder} "
            f"({time.monotonic() - began:.1f} s)"
        )
        for line in tuning_lines(data.folder) if config.embed.tune != "none" else []:
            self.say(f"           {line}")
        return data

    def index(self, data: Dataset, config: Config, *, as_is: bool) -> Dataset:
        """Similar users and nearest items, where there are vectors; `as_is` as in `embed`."""
        if data.item_embeddings is None:
            return data
        kept = as_is and not config.index.model_fields_set and data.similar_users is not None
        if kept and neighbours_match(data):
            self.say("index      the similar users of the data folder are used as they are")
            return data
        collaborative = collaborative_vectors(data, config.index)
        if index_fresh(data, config.index, collaborative=collaborative):
            self.say("index      fresh")
            self.folder.remember("index", config.index)
            return data
        if data.similar_users is not None:
            self._refuse_to_outdate("index", config.index, self._readers_of_vectors())
        began = time.monotonic()
        data = index(
            data,
            config=config.index,
            collaborative=collaborative,
            progress=self.progress,
            say=lambda line: self.say(f"index      {line}"),
        )
        self.folder.remember("index", config.index)
        assert data.similar_users is not None
        self.say(
            f"index      {data.similar_users.shape[1]} similar users each, by {COMPARED_BY[config.index.users_by]} "
            f"({time.monotonic() - began:.1f} s)"
        )
        return data

    def train(self, data: Dataset, cell: ModelId, config: Config, callbacks: Sequence[Callback]) -> Recommender:
        """A trained model; its old figures go where it is trained anew."""
        began = time.monotonic()
        before = self.folder.finished().get(cell)
        model = train(
            data,
            config=config,
            name=cell.name,
            out=self.folder.model(cell),
            callbacks=callbacks,
            overwrite=self.overwrite,
            progress=self.progress,
        )
        record = self.folder.finished()[cell]
        if before is not None and before["key"] == record["key"]:
            self.say(f"train      {cell} fresh")
            return model
        for name in (cell.name, name_alone(cell.name)):
            drop_rows(self.folder.metrics, name, cell.seed)
        self.folder.forget_evaluated([str(cell)])
        self.say(f"train      {cell} {record['epochs']} epochs ({time.monotonic() - began:.0f} s)")
        if model.blend:
            weights = ", ".join(f"{weight:g} {scorer}" for scorer, weight in model.blend.items())
            self.say(f"blend      {cell} with {weights}")
        return model

    def open_scorer(self, data: Dataset, cell: ModelId, config: Config) -> Recommender:
        """A scorer that needs no training, as a model."""
        began = time.monotonic()
        model = make_untrained(data, cell.name, config, self.folder.model(cell))
        self.say(f"count      {cell} ({time.monotonic() - began:.1f} s)")
        return model

    def evaluate(self, data: Dataset, cell: ModelId, model: Recommender, config: Config) -> None:
        """The figures of a model and of popularity under the same protocol."""
        settings = config.evaluate
        protocol = {"evaluate": settings.model_dump(mode="json")}
        self._evaluate_once(
            POPULARITY,
            key_of(protocol | {"data": data.fingerprint}),
            lambda: evaluate_popularity(data, settings),
        )
        if cell.name == POPULARITY:
            return
        trained = read_record(self.folder.model(cell) / "model.json", "key")["key"]
        if not model.blend:
            drop_rows(self.folder.metrics, name_alone(cell.name), cell.seed)
        self._evaluate_once(
            str(cell),
            key_of(protocol | {"model": trained} | ({"blend": model.blend} if model.blend else {})),
            lambda: judge(model, data, settings),
            cell,
        )

    def compare(self, data: Dataset, primary: ModelId, config: Config) -> None:
        """The primary model's difference to each other one, user by user."""
        rows = differences(self.folder, data, primary.name, config.evaluate)
        replace_differences(self.folder.metrics, rows)

    def report(self) -> None:
        """The page of the whole run, where its plots can be drawn."""
        if find_spec("matplotlib") is None:
            self.say("report     none: its plots need matplotlib, pip install 'llm-esr[report]'")
            return
        began = time.monotonic()
        page = write_page(self.folder.path)
        self.say(f"report     {page} ({time.monotonic() - began:.1f} s)")

    def _evaluate_once(self, name: str, key: str, figures: Callable[[], Report], cell: ModelId | None = None) -> None:
        if self.folder.read()["evaluated"].get(name) == key and self.folder.metrics.exists():
            self.say(f"evaluate   {name} fresh")
            return
        began = time.monotonic()
        report = figures()
        merge_rows(self.folder.metrics, report.rows)
        if cell is not None:
            keep_ranks(self.folder, cell, report)
        self.folder.note_evaluated(name, key)
        self.say(f"evaluate   {name} ({time.monotonic() - began:.1f} s)")

    def _readers_of_vectors(self) -> list[ModelId]:
        reading = ("item_embeddings", "similar_users", "similar_items")
        models = [*self.folder.finished(), *self.folder.unfinished()]
        records = {model: read_record(self.folder.model(model) / "model.json") for model in models}
        return [model for model, record in records.items() if any(name in record["made_from"] for name in reading)]

    def _refuse_to_outdate(self, section: str, settings: Section, models: Sequence[ModelId]) -> None:
        """Models that were trained on a stage's files lose their ground when the stage is made anew."""
        if self.overwrite or not models:
            return
        now = settings.model_dump(mode="json")
        before: Mapping[str, Any] = self.folder.read()["settings"].get(section) or {}
        changed = next((f for f in now if f in before and before[f] != now[f]), None)
        why = f"{section}.{changed} was {before[changed]!r}, is {now[changed]!r}" if changed else "the inputs changed"
        raise ValueError(
            f"{self.folder.path} holds trained models ({', '.join(map(str, models))}) made from other data: {why}. "
            "Give --overwrite to make the data anew and train again, or another --out to keep both"
        )
