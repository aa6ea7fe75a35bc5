"""External ids to numbers, in order of first appearance."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Numbering:
    """Numbers 0, 1, 2, ... for external ids, in order of first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def ids(self) -> list[str]:
        """External ids by number."""
        return list(self._numbers)

    def number(self, ids: pl.Series) -> NDArray[np.int32]:
        """The numbers of `ids` (String; a null gets -1); unknown ones get the next free numbers."""
        new = ids.unique(maintain_order=True).drop_nulls()
        known = self._numbers
        numbers = [known.setdefault(external, len(known)) for external in new.to_list()]
        if len(known) > np.iinfo(np.int32).max - 2:
            raise ValueError(f"more than {np.iinfo(np.int32).max - 2:,} different ids; the format holds int32")
        if not numbers:
            return np.full(len(ids), -1, dtype=np.int32)
        table = pl.DataFrame({"id": new, "number": pl.Series(numbers, dtype=pl.Int32)})
        joined = ids.alias("id").to_frame().join(table, on="id", how="left", maintain_order="left")
        return joined["number"].fill_null(-1).to_numpy()
