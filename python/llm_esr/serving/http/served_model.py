"""A recommender as the server asks it: ids checked, lists made in batches, answers as plain Python.

Shapes: B histories of a batch, K places of a list.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_esr.serving.http.bodies import RecommendBody, SimilarBody
from llm_esr.serving.http.limits import Limits
from llm_esr.serving.http.problems import RequestError
from llm_esr.serving.ids import external_id, ids_in
from llm_esr.serving.model_folders import find_model
from llm_esr.serving.recommend import Catalogue, RecommendationFilter, best_lists
from llm_esr.serving.recommender import Recommender

_NAMED = 5  # unknown ids that a message names


@dataclass(frozen=True)
class Wanted:
    """One list that is asked for.

    Attributes:
        served: of which model; another may have taken its place meanwhile.
        owner: the name of the first entry of its answer, and its value.
        items: the history, item numbers, oldest first, int32 [T]; None: that of a known user.
        user: the user's number, where there is no history.
        k: items of the list.
        keep_seen: whether items of the history may come back.
        include: item numbers; None: all.
        exclude: item numbers.
        unknown: ids of the history that the model does not know.

    """

    served: ServedModel
    owner: tuple[str, str | int]
    items: NDArray[np.int32] | None
    user: int
    k: int
    keep_seen: bool
    include: tuple[int, ...] | None
    exclude: tuple[int, ...]
    unknown: tuple[str, ...] = ()

    @property
    def kind(self) -> tuple[Any, ...]:
        """Lists of the same kind are scored together."""
        return id(self.served), self.keep_seen, self.include, self.exclude


class ServedModel:
    """A model that is ready to answer.

    Args:
        model: the recommender.
        limits: what a request may ask for.

    """

    def __init__(self, model: Recommender, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.data = model.data
        self.name = model.name if model.seed is None else f"{model.name}/{model.seed}"
        self.loaded = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.catalogue = Catalogue(model.data)
        model.make_ready()
        self._similar = model.similar
        # The first request must not wait for the item matrix and the neighbour tables.
        self._score([np.array([1], np.int32)], RecommendationFilter(1))

    def wanted(self, body: RecommendBody) -> list[Wanted]:
        """The lists that a request asks for.

        Raises:
            RequestError: a limit is passed, or a user, or an item of `include` or `exclude`, is not known.

        """
        asked: Sequence[Any] = body.users if body.users is not None else body.histories or []
        self._refuse_many("users" if body.users is not None else "histories", len(asked), self.limits.lists)
        self._refuse_many("k", body.k, self.limits.k)
        k = min(body.k, self.data.n_items)
        include = None if body.include is None else tuple(self._items("include", body.include, self.data.n_items))
        exclude = tuple(self._items("exclude", body.exclude or [], self.data.n_items))
        if include is not None and not set(include) - set(exclude):
            raise RequestError(422, "nothing_left", "include and exclude leave no item to recommend")
        options = (k, body.keep_seen, include, exclude)
        if body.users is not None:
            names = self._known("user", "users", body.users)
            index = self.data.user_index
            return [Wanted(self, ("user_id", name), None, index[name], *options) for name in names]
        lists = []
        for row, history in enumerate(asked):
            self._refuse_many(f"histories.{row}", len(history), self.limits.history)
            names = self._ids("item", f"histories.{row}", history)
            known = [self.data.item_index[name] for name in names if name in self.data.item_index]
            unknown = tuple(name for name in names if name not in self.data.item_index)
            lists.append(Wanted(self, ("history", row), np.array(known, np.int32), -1, *options, unknown=unknown))
        return lists

    def similar(self, body: SimilarBody) -> list[dict[str, Any]]:
        """The lists of items like some items.

        Raises:
            RequestError: as of `wanted`, or the model cannot be asked in this way.

        """
        self._refuse_many("items", len(body.items), self.limits.lists)
        self._refuse_many("k", body.k, self.limits.k)
        numbers = np.array(self._items("items", body.items, self.limits.lists), np.int64)
        try:
            settled = self._similar.settled(body.by)
        except (ValueError, FileNotFoundError) as error:
            raise RequestError(422, "bad_request", f"by: {str(error).replace(' (--by)', '')}") from None
        if not len(numbers):
            return []
        ids_NK, cosines_NK = self._similar.lists(numbers, min(body.k, self.data.n_items), settled)
        return [
            {"similar_to": self.catalogue.ids[number - 1], "items": self._answer(ids_K, cosines_K)}
            for number, ids_K, cosines_K in zip(numbers, ids_NK, cosines_NK, strict=True)
        ]

    def _score(self, histories: Sequence[NDArray[np.int32]], wanted: RecommendationFilter) -> Any:
        offsets = np.concatenate([[0], np.cumsum([len(items) for items in histories])]).astype(np.int64)
        items = np.concatenate(histories).astype(np.int32)
        return best_lists(self.model.scorer, self.data.n_items, items, offsets, wanted)

    def answers(self, batch: Sequence[Wanted]) -> list[dict[str, Any]]:
        """The lists of a batch of one kind."""
        first = batch[0]
        users = [one.user for one in batch if one.items is None]
        found = iter(_split(*self.data.histories(np.array(users, np.int64), "serving")) if users else ())
        histories = [next(found) if one.items is None else one.items for one in batch]
        allowed = None
        if first.include is not None or first.exclude:
            allowed = np.full(self.data.n_items, first.include is None)
            allowed[np.array(first.include or (), np.int64) - 1] = True
            allowed[np.array(first.exclude, np.int64) - 1] = False
        wanted = RecommendationFilter(max(one.k for one in batch), allowed, first.keep_seen)
        ids_BK, scores_BK = self._score(histories, wanted)
        answers = []
        for one, ids_K, scores_K in zip(batch, ids_BK, scores_BK, strict=True):
            answer: dict[str, Any] = {one.owner[0]: one.owner[1], "items": self._answer(ids_K[: one.k], scores_K)}
            if one.unknown:
                answer["unknown_items"] = list(one.unknown)
            answers.append(answer)
        return answers

    def _answer(self, ids_K: NDArray[np.int32], scores_K: NDArray[np.float32]) -> list[dict[str, Any]]:
        """A list as it is answered; an id of 0 is no item."""
        rows = ids_K[ids_K > 0].astype(np.int64) - 1
        names, titles = self.catalogue.ids[rows].tolist(), self.catalogue.titles
        scores = scores_K[: len(ids_K)][ids_K > 0].tolist()
        if titles is None:
            return [{"item_id": name, "score": score} for name, score in zip(names, scores, strict=True)]
        return [
            {"item_id": name, "score": score, "title": title}
            for name, score, title in zip(names, scores, titles[rows].tolist(), strict=True)
        ]

    def _items(self, place: str, values: Sequence[Any], most: int) -> list[int]:
        self._refuse_many(place, len(values), most)
        return [self.data.item_index[name] for name in self._known("item", place, values)]

    def _known(self, kind: Any, place: str, values: Sequence[Any]) -> list[str]:
        """Ids that are all known. Near ones are not looked for: that takes longer than a list."""
        names = self._ids(kind, place, values)
        known_users = self.data.user_index if self.data.n_users else {}
        index = known_users if kind == "user" else self.data.item_index
        unknown = list(dict.fromkeys(name for name in names if name not in index))
        if unknown:
            shown = ", ".join(repr(name) for name in unknown[:_NAMED])
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            hint = "; a person not in the data is served by histories" if kind == "user" else ""
            raise RequestError(404, f"unknown_{kind}", f"{place}: no {kind} {shown}{more} in the data{hint}")
        return names

    def _ids(self, kind: Any, place: str, values: Sequence[Any]) -> list[str]:
        names = []
        for value in values:
            try:
                name = external_id(value)
            except ValueError as error:
                raise RequestError(422, "bad_request", f"{place}: {error}") from None
            if len(name) > self.limits.id:
                raise RequestError(
                    422, "too_much", f"{place}: an id has {len(name):,} characters, at most {self.limits.id:,}"
                )
            names.append(name)
        return ids_in(self.data, kind, names)

    def _refuse_many(self, place: str, came: int, most: int) -> None:
        if came > most:
            raise RequestError(
                422, "too_much", f"{place}: {came:,} came, at most {most:,} are taken; ask in several requests"
            )


def score_batch(batch: Sequence[Wanted]) -> list[dict[str, Any]]:
    """The lists of a batch, by the model that each was asked of."""
    return batch[0].served.answers(batch)


def load_served(folder: Path, limits: Limits, *, blend: bool = True, exact: bool = False) -> ServedModel:
    """Open a model for serving; see `Recommender.load`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ServedModel(Recommender.load(folder, blend=blend, exact=exact), limits)


def state_of(folder: Path) -> tuple[Any, ...]:
    """What changes when another model is put in a folder: its path, and its record and blend as they lie there.

    Raises:
        OSError: nothing is there, or half of it.
        ValueError: it is not said which model.

    """
    model = find_model(folder)
    states: list[Any] = [str(model)]
    for name in ("model.json", "blend.json"):
        path = model / name
        found = path.stat() if path.exists() else None
        states.append(found and (found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(states)


def _split(items: NDArray[np.int32], offsets: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    return [items[start:end] for start, end in pairwise(offsets)]
