"""A data set whose catalogue has gained items after it was prepared: nobody met them, and their ids come last.

Users, histories and counts are those of the data set beneath. So whatever reads a `Dataset` knows the new items as it
knows items that training never met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.data.dataset import Dataset
from llm_esr.files import key_of


@dataclass(frozen=True)
class AddedItems:
    """Items that came later, m of them.

    Attributes:
        name: what they are called together.
        key: changes with anything below.
        table: `item_id` and the text columns of the data set.
        vectors: their text vectors, float16 or float32 [m, E].
        neighbours: ids of their nearest items in the prepared catalogue by text, int32 [m, K], -1 fills.
        cosines: those of `neighbours`, float32 [m, K], 0 fills.
        folder: where they are stored; None: in memory only.
    """

    name: str
    key: str
    table: pl.DataFrame
    vectors: NDArray[Any]
    neighbours: NDArray[np.int32]
    cosines: NDArray[np.float32]
    folder: Path | None = None


class ExtendedDataset(Dataset):
    """A data set and the items that were added to it.

    Args:
        base: the data set as it was prepared, or one that was extended before.
        added: one after another.
    """

    def __init__(self, base: Dataset, added: Sequence[AddedItems]) -> None:
        own = {name: value for name, value in vars(base).items() if not _is_computed(type(base), name)}
        vars(self).update(own)
        self.base: Dataset = base.base if isinstance(base, ExtendedDataset) else base
        self.added: tuple[AddedItems, ...] = (*(base.added if isinstance(base, ExtendedDataset) else ()), *added)
        self.n_items = self.base.n_items + sum(part.table.height for part in self.added)
        self.fingerprint = key_of([self.base.fingerprint, *(part.key for part in self.added)])

    @property
    def n_prepared_items(self) -> int:
        """Items of the data set beneath."""
        return self.base.n_items

    @property
    def tables_folder(self) -> Path | None:
        """With the last of the stored additions; None: nothing is kept."""
        folder = self.added[-1].folder
        return None if folder is None else folder / "tables"

    def item_table(self) -> pl.DataFrame:
        """See `Dataset.item_table`; added items have no `source_row`, and a count of 0."""
        return self._items

    @cached_property
    def _items(self) -> pl.DataFrame:
        table, start = self.base.item_table(), self.base.n_items
        parts = [table]
        for part in self.added:
            numbers = np.arange(start + 1, start + part.table.height + 1)
            rows = part.table.with_columns(
                pl.Series("item", numbers), source_row=pl.lit(None), training_count=pl.lit(0)
            )
            absent = [pl.lit(None).alias(name) for name in table.columns if name not in rows.columns]
            rows = rows.with_columns(*absent)
            parts.append(rows.select(pl.col(name).cast(kind) for name, kind in table.schema.items()))
            start += part.table.height
        return pl.concat(parts)

    @property
    def item_embeddings(self) -> NDArray[Any] | None:
        """See `Dataset.item_embeddings`."""
        return self._vectors

    @cached_property
    def _vectors(self) -> NDArray[Any] | None:
        base = self.base.item_embeddings
        return (
            None if base is None else np.concatenate([base, *(part.vectors.astype(base.dtype) for part in self.added)])
        )

    @property
    def similar_items(self) -> NDArray[np.int32] | None:
        """See `Dataset.similar_items`: an added item is nobody's nearest."""
        base = self.base.similar_items
        return None if base is None else _under_each_other([base, *(part.neighbours for part in self.added)], -1)

    @property
    def similar_items_scores(self) -> NDArray[np.float32] | None:
        """See `Dataset.similar_items_scores`."""
        base = self.base.similar_items_scores
        return None if base is None else _under_each_other([base, *(part.cosines for part in self.added)], 0)

    def added_neighbours(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The nearest prepared items of all added items and their cosines, [m, K] each."""
        ids = _under_each_other([part.neighbours for part in self.added], -1)
        return ids, _under_each_other([part.cosines for part in self.added], 0)


def _under_each_other(parts: Sequence[NDArray[Any]], fill: int) -> NDArray[Any]:
    """Matrices of perhaps different widths as one."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=fill) for part in parts])


def _is_computed(kind: type[Dataset], name: str) -> bool:
    return any(isinstance(vars(one).get(name), cached_property) for one in kind.__mro__)
