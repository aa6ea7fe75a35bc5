"""`Recommender`: a model with its data, ready to be judged and to recommend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from llm_esr.config import Config, load_config
from llm_esr.data.extended import ExtendedDataset
from llm_esr.doors import door
from llm_esr.evaluation import Report, evaluate_popularity
from llm_esr.evaluation.ranking import HeldOut
from llm_esr.files import given_path
from llm_esr.files.html import html_facts
from llm_esr.loading.staging import device_named
from llm_esr.scoring import NetworkScorer, Popularity, Scorer, SequenceModel, build_untrained
from llm_esr.scoring.blend import Blend
from llm_esr.scoring.fallback import ForEmptyHistories
from llm_esr.scoring.large_catalogue import LargeCatalogue
from llm_esr.serving.blends import read_blend
from llm_esr.serving.explaining import explained
from llm_esr.serving.extensions import with_additions
from llm_esr.serving.forking import remember
from llm_esr.serving.hub import pretrained
from llm_esr.serving.judging import evaluate_config, judge
from llm_esr.serving.model_folders import check_data, find_model
from llm_esr.serving.new_items import add_to_model, extended_network
from llm_esr.serving.recommend import (
    empty_frame,
    gather_frames,
    history_frames,
    known_items,
    known_users,
    make_filter,
    user_frames,
    write_frames,
)
from llm_esr.serving.searching import searching
from llm_esr.serving.shards import part_of
from llm_esr.serving.similar_items import SimilarItems, Similarity

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.data.dataset import Part


class Recommender:
    """A trained model, or a scorer that needs no training, and the data set it was made from.

    Attributes:
        model: the network; None for a scorer that needs no training.
        data: the data set.
        name: the model's name in tables.
        seed: its training seed; None for a scorer that needs no training.
        config: the whole configuration it was trained with.
        folder: `models/<name>/<seed>`, or `models/<name>` of a scorer; None for a model that is in memory only.
        blend: the weight of each neighbour scorer that is added to the network's scores; None: the network alone.
        exact: whether lists come from scores of the whole catalogue, however large it is.
        similar: what finds similar items.
    """

    def __init__(
        self,
        model: SequenceModel | None,
        data: Dataset,
        name: str,
        seed: int | None,
        config: Config,
        folder: str | Path | None = None,
        blend: Mapping[str, float] | None = None,
        *,
        exact: bool = False,
    ) -> None:
        self.model = model
        self.data = data
        self.name = name
        self.seed = seed
        self.config = config
        self.folder = None if folder is None else Path(folder)
        self.blend = {scorer: weight for scorer, weight in (blend or {}).items() if weight} or None
        self._network = None if model is None else NetworkScorer(model, name, fallback=Popularity(data))
        self.exact = exact
        self._built: Scorer | None = None
        self.similar = SimilarItems(data, self._network, name)
        remember(self)

    def __repr__(self) -> str:
        seed = "untrained" if self.seed is None else f"seed {self.seed}"
        return f"Recommender({self.name}, {seed}, {self.data.n_users:,} users, {self.data.n_items:,} items)"

    def _repr_html_(self) -> str:
        weights = ", ".join(f"{weight:g} {scorer}" for scorer, weight in (self.blend or {}).items())
        facts: dict[str, object] = {
            "model": self.name,
            "seed": "untrained" if self.seed is None else self.seed,
            "blended with": weights,
        }
        facts |= {"users": f"{self.data.n_users:,}", "items": f"{self.data.n_items:,}", "folder": self.folder}
        return html_facts("Recommender", {name: value for name, value in facts.items() if value not in ("", None)})

    @classmethod
    @door
    def load(
        cls,
        path: str | Path,
        *,
        data: Dataset | str | Path | None = None,
        device: str = "auto",
        blend: bool = True,
        exact: bool = False,
        extensions: bool = True,
    ) -> Recommender:
        """Open a model.

        Args:
            path: a run's folder (its primary model is taken), a model's: `models/<name>/<seed>`, and `models/<name>`
                of a scorer that needs no training, or one that `export --to hub` wrote.
            data: the data set or its folder, where it is no longer where the model's record says.
            device: `auto` takes a GPU where there is one.
            blend: add the neighbour scorers that the model was blended with, if any; False: the network alone.
            exact: score the whole catalogue for every list; False: a network alone searches a large one
                approximately (`llm_esr.scoring.large_catalogue`).
            extensions: with the items that were added to it (`add_items`); False: those of its training alone.

        Raises:
            FileNotFoundError: no model there, or its data are gone.
            ValueError: an unfinished training, a device that is not here, data that are not those of the training, or
                `blend=False` where there is no network.
        """
        from llm_esr.data import Dataset  # noqa: PLC0415
        from llm_esr.models.storage import load_model, read_model_json  # noqa: PLC0415
        from llm_esr.serving.untrained import open_untrained  # noqa: PLC0415 (it makes recommenders)

        if pretrained.is_hub_folder(given_path(path)):
            return cls.from_pretrained(path, device=device, blend=blend, exact=exact)
        folder = find_model(given_path(path))
        record = read_model_json(folder)
        source = (folder / record["data"]).resolve() if data is None else data
        opened: Dataset = source if isinstance(source, Dataset) else Dataset.open(source)
        check_data(folder, record, opened)
        if "scorer" in record:
            if not blend:
                raise ValueError(f"{folder} is the scorer {record['name']}, which has no network to take alone")
            return open_untrained(folder, with_additions(folder, opened) if extensions else opened)
        network, known = load_model(folder, opened.folder, str(device_named(device))), opened
        if extensions and isinstance(known := with_additions(folder, opened), ExtendedDataset):
            network = extended_network(network, known, folder)
        model = cast(SequenceModel, network)
        config, weights = load_config(folder / "config.yaml"), read_blend(folder) if blend else None
        return cls(model, known, record["name"], record["seed"], config, folder, weights, exact=exact)

    from_pretrained = classmethod(pretrained.from_pretrained)

    def without_blend(self) -> Recommender:
        """The network alone, in a recommender of its own."""
        return Recommender(self.model, self.data, self.name, self.seed, self.config, self.folder, exact=self.exact)

    @door
    def add_items(self, items: Any = None, *, vectors: Any = None, name: str | None = None) -> Recommender:
        """The same model with new items: no training, and every score of the items before stays as it is.

        What a new item is known by comes from its text: borrowed rows, the semantic view, the text profile, and of a
        blend the scorers of texts. A model in a folder keeps the items there, in `extensions/NAME`.

        Args:
            items: a table with the columns of the items table that `prepare` read (a path, or a pandas, polars or Arrow
                table); None: `vectors` with ids are all there is.
            vectors: text vectors, an array or `.npy` with a row for each row of `items`, a Parquet or safetensors file
                with ids, or a mapping from id to vector; None: the encoder that made those of the data makes them.
            name: what the addition is called; default: `items-1` and so on.

        Returns:
            A recommender that knows the new items; this one stays as it is.

        Raises:
            FileNotFoundError: a file that is not there, or data without item vectors.
            ValueError: items that are known, vectors that do not fit, a name that is taken, or a model of ids alone.
        """
        model, data = add_to_model(self, items, vectors, name)
        return Recommender(model, data, self.name, self.seed, self.config, self.folder, self.blend, exact=self.exact)

    @property
    def network(self) -> NetworkScorer | None:
        """The scorer of the network alone, where there is one."""
        return self._network

    @property
    def scorer(self) -> Scorer:
        """What gives the scores; neighbour tables are opened, or counted, at the first call."""
        if self._built is None:
            if self.blend is not None:
                self._built = Blend(self._network, self.data, self.blend, self.name)
            elif self._network is not None:
                self._built = searching(self._network, self.data, self.folder, exact=self.exact)
            else:
                self._built = build_untrained(self.name, self.data)
            if self._network is None:
                self._built = ForEmptyHistories(self._built, Popularity(self.data))
        return self._built

    def searched(self) -> str | None:
        """How lists were searched, and what share of the exact ones that finds; None: every item is scored."""
        return self._built.about() if isinstance(self._built, LargeCatalogue) else None

    @property
    def max_len(self) -> int | None:
        """The newest items of a history that the network reads; None without one: the scorers have no such length."""
        return None if self._network is None else self._network.max_len

    def make_ready(self) -> None:
        """Read the ids and titles, which a forked child could not (see `serving/forking.py`)."""
        _ = self.data.user_index if self.data.n_users else None, self.data.item_index
        self.data.titles()

    def refresh(self) -> None:
        """Compute the item matrix anew at the next call; needed after the model's weights were changed."""
        if isinstance(self._built, LargeCatalogue):
            self._built.refresh()
        if self._network is not None:
            self._network.refresh()

    def scores(self, items: NDArray[np.int32], offsets: NDArray[np.int64]) -> Tensor:
        """Scores [S, I] of every item for histories of item numbers; an empty history is scored by popularity.

        See `llm_esr.evaluation.Scorer.scores`.
        """
        return self.scorer.scores(items, offsets)

    @door
    def evaluate(
        self,
        data: Dataset | None = None,
        *,
        part: HeldOut = "test",
        k: int | list[int] | None = None,
        keep_seen: bool | None = None,
        targets: Literal["all", "known"] | None = None,
        candidates: int | None = None,
        resamples: int | None = None,
        tail_item_below: int | None = None,
        tail_user_below: int | None = None,
        group_rule: Literal["training", "paper"] | None = None,
        ties: Literal["expected", "strict"] | None = None,
        tail_item_skips_first: bool | None = None,
        length_groups: list[int] | None = None,
        popularity_groups: list[int] | None = None,
        users: Any = None,
        popularity: bool = True,
    ) -> Report:
        """Judge the model on what was held out, beside the popularity baseline; a blend also beside its network alone.

        Args:
            data: other users of the same catalogue; default: the data of the training.
            part: what was held out.
            k: one or several cut-offs.
            keep_seen: let the user's earlier items compete with the target.
            targets: `known` leaves out users whose target training never met.
            candidates: rank against so many sampled items; 0: the whole catalogue.
            resamples: bootstrap resamples; 0: no intervals.
            tail_item_below: items met less often are tail items.
            tail_user_below: users with a shorter sequence are tail users.
            group_rule: what the groups go by. `training`: interactions in the training parts. `paper`: an item's
                distinct users over all parts, and the length of the input, cut to what the model reads; popularity
                counts the inputs, too.
            ties: `expected`: means over every order of tied items; `strict`: only higher scores count.
            tail_item_skips_first: as the authors' code, let the first user be no hit in tail and head items.
            length_groups: lower ends of the ranges of sequence length; `[]`: none.
            popularity_groups: lower ends of the ranges of the target's popularity; `[]`: none.
            users: only these, by external id.
            popularity: evaluate the baseline too.

        What is None is as in the model's configuration.

        Raises:
            ValueError: nothing held out, an unknown user, another catalogue, or settings that exclude each other.
        """
        data = self.data if data is None else data
        if data is not self.data and (data.n_items != self.data.n_items or data.item_ids != self.data.item_ids):
            raise ValueError(
                f"{data.folder} has another catalogue than {self.data.folder}, on which {self.name} was trained; a "
                "model knows no items but its own"
            )
        config = evaluate_config(
            self.config.evaluate,
            k=[k] if isinstance(k, int) else k,
            keep_seen=keep_seen,
            targets=targets,
            # Only a ranking of the whole catalogue can leave earlier items out.
            candidates=0 if keep_seen and candidates is None else candidates,
            resamples=resamples,
            tail_item_below=tail_item_below,
            tail_user_below=tail_user_below,
            group_rule=group_rule,
            ties=ties,
            tail_item_skips_first=tail_item_skips_first,
            length_groups=length_groups,
            popularity_groups=popularity_groups,
        )
        chosen = None if users is None else known_users(data, users, skip_unknown=False)
        report = Report([])
        if popularity:
            # The baseline of the data that are ranked, so that it equals that of every other model in the table.
            report += evaluate_popularity(data, config, part=part, users=chosen)
        return report + judge(self, data, config, part=part, users=chosen)

    @door
    def recommend(
        self,
        users: Any = None,
        histories: Any = None,
        k: int = 10,
        *,
        include: Any = None,
        exclude: Any = None,
        keep_seen: bool = False,
        skip_unknown: bool = False,
        explain: bool = False,
    ) -> pl.DataFrame:
        """The best items for known users, or for histories of people who need not be known.

        Args:
            users: external ids, one or several. Everything a user did is read, held-out items too.
            histories: lists of external item ids, oldest first. Unknown items are left out with a warning; a history
                without a known item gets the most popular ones, scored by their count in training.
            k: items a list; fewer where fewer are allowed.
            include: only these items.
            exclude: none of these.
            keep_seen: let items of the history come back.
            skip_unknown: pass over unknown users, and unknown items of `include` and `exclude`, with a warning.
            explain: a column `why` tells in words which items of the history speak for each item, by which scorer.

        Returns:
            Columns `user_id` (or `history`, the place in `histories`), `rank` from 1, `item_id`, `score`, and `title`
            where the items have titles; list after list in the order asked for. Equal scores go by the item's number.
            For whom nothing is left has no row: a warning, `llm_esr.serving.NothingLeft`, has their `ids`.

        Raises:
            ValueError: an unknown user or item (near ones are suggested), or neither or both of users and histories.
        """
        if (users is None) == (histories is None):
            came = "neither" if users is None else "both"
            raise ValueError(f"recommend: give users (known ones) or histories (lists of item ids), got {came}")
        wanted = make_filter(self.data, k, include, exclude, keep_seen, skip_unknown)
        if users is not None:
            numbers = known_users(self.data, users, skip_unknown)
            found = gather_frames(user_frames(self.scorer, self.data, numbers, wanted), self.data, "user_id")
            wanted.tell()
            if not explain:
                return found
            keys: list[Any] = self.data.given_ids("user")[0][numbers].tolist()
            return explained(self, found, keys, *self.data.histories(numbers, "serving"))
        items, offsets = known_items(self.data, histories)
        found = gather_frames(history_frames(self.scorer, self.data, items, offsets, wanted), self.data, "history")
        wanted.tell()
        return explained(self, found, list(range(len(offsets) - 1)), items, offsets) if explain else found

    @door
    def similar_items(
        self, items: Any, k: int = 10, by: Similarity | None = None, *, skip_unknown: bool = False
    ) -> pl.DataFrame:
        """The items most like each of some items, the item itself left out.

        Args:
            items: external ids, one or several.
            k: items a list; fewer where there are fewer.
            by: `text`: the cosine of the items' vectors in the data folder; `trained`: of the vectors that the network
                learned; `co-occurrence`: of who met the items in training, up to 200 items. None: the first of these
                that there is.
            skip_unknown: pass over unknown items, with a warning.

        Returns:
            Columns `similar_to`, `rank` from 1, `item_id`, `score` (a cosine), and `title` where the items have titles;
            list after list in the order asked for. To whom nothing is similar has no row, and a warning says why.

        Raises:
            ValueError: an unknown item (near ones are suggested), or `trained` of a model without a network.
            FileNotFoundError: `text` of a data set without item vectors.
        """
        return self.similar.frame(items, k, by, skip_unknown=skip_unknown)

    @door
    def user_vectors(self, part: Part = "train") -> NDArray[np.float32]:
        """What the network makes of every user's input for `part`, float32 [U, C]; zeros where that is empty.

        For `llm_esr.index(data, users_by="both", collaborative=...)`.

        Raises:
            ValueError: a model without a network.
        """
        if self._network is None:
            raise ValueError(
                f"{self.name} is a scorer without a network, so it has no user vectors; take a trained model"
            )
        return self._network.all_user_vectors(self.data, part)

    @door
    def recommend_to(
        self,
        path: str | Path,
        users: Any = "all",
        k: int = 10,
        *,
        include: Any = None,
        exclude: Any = None,
        keep_seen: bool = False,
        skip_unknown: bool = False,
        shard: str | None = None,
    ) -> int:
        """Write the lists of many users to a Parquet file, in chunks; the file is whole or not there.

        Args:
            path: ends in `.parquet`; columns as of `recommend`. With `shard` the folder of the parts.
            users: `"all"`, or a list of external ids (see `llm_esr.serving.read_user_ids` for files).
            k: as of `recommend`, like the rest.
            include: only these items.
            exclude: none of these.
            keep_seen: let items of the history come back.
            skip_unknown: pass over what is unknown, with a warning.
            shard: `3/8`: the third of eight shares, `PATH/part-00003-of-00008.parquet`; each user is in one.

        Returns:
            The number of rows.

        Raises:
            ValueError: another file ending, or as of `recommend`.
        """
        path, share = part_of(given_path(path), shard)
        if path.suffix.lower() != ".parquet":
            raise ValueError(f"{path}: recommendations are written as Parquet; name a file that ends in .parquet")
        wanted = make_filter(self.data, k, include, exclude, keep_seen, skip_unknown)
        if isinstance(users, str) and users == "all" and self.data.n_users:
            numbers = np.arange(self.data.n_users)
        else:
            numbers = known_users(self.data, users, skip_unknown)
        frames = user_frames(self.scorer, self.data, share.of_users(numbers), wanted)
        if shard is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        rows = write_frames(path, frames, empty_frame(self.data, "user_id"))
        wanted.tell()
        return rows
