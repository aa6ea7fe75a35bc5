"""What of a data set a model carries with it to where the data are not: the items, and users only where they are meant.

Whatever reads a `Dataset` finds items, counts, vectors and counted tables here. Histories are personal data: without
them there are no users, and what would have to be counted from them is refused in place of being counted from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.data.dataset import Dataset

Arrays = Mapping[str, NDArray[Any]]
# Of `dataset.json`, what goes along: neither paths nor rows of the tables it was made from.
CARRIED_ENTRIES = ("split", "title_column", "numeric_ids", "id_types")
ITEM_COLUMNS = ("item", "item_id", "training_count")  # and the title, where there is one
USER_COLUMNS = ("user_id", "items", "train_end", "validation_end")


@dataclass(frozen=True)
class CarriedParts:
    """What a model carries.

    Attributes:
        entries: those of `CARRIED_ENTRIES`, and `config` with the names of the columns of users and items.
        fingerprint: the data set's.
        items: a row an item, `ITEM_COLUMNS` and the title.
        n_prepared: the first so many items are those of `prepare`.
        users: a row a user, `USER_COLUMNS`; None: none came along.
        vectors: text vectors of the items, [I, E]; None: nothing reads them.
        neighbours: ids of each item's nearest ones and their cosines, [I, K] each; None: nothing reads them.
        counted: what scorers counted from the training sequences, by their names.
    """

    entries: Mapping[str, Any]
    fingerprint: str
    items: pl.DataFrame
    n_prepared: int
    users: pl.DataFrame | None = None
    vectors: NDArray[Any] | None = None
    neighbours: tuple[NDArray[np.int32], NDArray[np.float32]] | None = None
    counted: Mapping[str, Arrays] | None = None


class CarriedDataset(Dataset):
    """A data set that is in memory only.

    Args:
        folder: where it came from, for messages.
        parts: what came; checked by who read it.
    """

    def __init__(self, folder: Path, parts: CarriedParts) -> None:
        self.folder = folder
        self.parts = parts
        self.metadata = dict(parts.entries)
        self.fingerprint = parts.fingerprint
        self.split = str(parts.entries["split"])
        self.title_column = parts.entries["title_column"]
        self.text_columns = [] if self.title_column is None else [self.title_column]
        self.timestamps = None
        self.n_items = parts.items.height
        users = parts.users
        self.n_users = 0 if users is None else users.height
        self.offsets = np.zeros(self.n_users + 1, np.int64)
        self.items = np.zeros(0, np.int32)
        self.splits = np.zeros((self.n_users, 2), np.int64)
        if users is not None:
            np.cumsum(users["items"].list.len().to_numpy(), out=self.offsets[1:])
            self.items = users["items"].explode().drop_nulls().to_numpy().astype(np.int32)
            self.splits = np.stack([users["train_end"].to_numpy(), users["validation_end"].to_numpy()], axis=1)
        self.n_interactions = len(self.items)

    def __repr__(self) -> str:
        came = "without users" if self.parts.users is None else f"{self.n_users:,} users"
        return f"CarriedDataset({str(self.folder)!r}: {self.n_items:,} items, {came})"

    @property
    def n_prepared_items(self) -> int:
        """See `Dataset.n_prepared_items`."""
        return self.parts.n_prepared

    @property
    def tables_folder(self) -> Path | None:
        """Nowhere: what came is not written to."""
        return None

    @cached_property
    def training_counts(self) -> NDArray[np.int64]:
        """See `Dataset.training_counts`; as they were counted, whether or not users came along."""
        return np.concatenate([[0], self.parts.items["training_count"].to_numpy()]).astype(np.int64)

    def item_table(self) -> pl.DataFrame:
        """`item`, `item_id`, `training_count` and the title."""
        return self.parts.items

    def user_table(self) -> pl.DataFrame:
        """`user_id`, `items`, `train_end`, `validation_end`.

        Raises:
            ValueError: no users came along.
        """
        if self.parts.users is None:
            raise ValueError(
                f"{self.folder} came without its users' histories, so it knows no user; ask by histories (--history), "
                "or export the model with them (--with-histories)"
            )
        return self.parts.users

    @cached_property
    def user_ids(self) -> list[str]:
        """External ids by user number; none where no users came along."""
        return [] if self.parts.users is None else self.parts.users["user_id"].to_list()

    @cached_property
    def user_index(self) -> dict[str, int]:
        """External id to user number.

        Raises:
            ValueError: no users came along, so that none can be asked for.
        """
        return {external: number for number, external in enumerate(self.user_table()["user_id"])}

    @property
    def item_embeddings(self) -> NDArray[Any] | None:
        """See `Dataset.item_embeddings`."""
        return self.parts.vectors

    @property
    def user_embeddings(self) -> NDArray[Any] | None:
        """None came along."""
        return None

    @property
    def similar_users(self) -> NDArray[np.int32] | None:
        """None came along."""
        return None

    @property
    def similar_items(self) -> NDArray[np.int32] | None:
        """See `Dataset.similar_items`; those that a blend reads."""
        return None if self.parts.neighbours is None else self.parts.neighbours[0]

    @property
    def similar_items_scores(self) -> NDArray[np.float32] | None:
        """See `Dataset.similar_items_scores`."""
        return None if self.parts.neighbours is None else self.parts.neighbours[1]

    def counted_elsewhere(self, name: str) -> Arrays | None:
        """See `Dataset.counted_elsewhere`.

        Raises:
            ValueError: it did not come along, and there are no users to count it from.
        """
        found = (self.parts.counted or {}).get(name)
        if found is None and self.parts.users is None:
            raise ValueError(
                f"{self.folder} came without its users' histories, from which {name} would be counted; export the "
                "model with them (--with-histories)"
            )
        return found
