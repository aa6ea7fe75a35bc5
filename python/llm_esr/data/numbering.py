"""External ids to numbers, in order of first appearance."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.tables.values import IdForms, without_fraction


class Numbering:
    """Numbers 0, 1, 2, ... for external ids, in order of first appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._floats: set[int] = set()  # numbers of ids that a text file writes with `.0`
        self.forms = IdForms()

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def ids(self) -> list[str]:
        """External ids by number."""
        return list(self._numbers)

    def number(self, ids: pl.Series, *, typed: bool) -> NDArray[np.int32]:
        """The numbers of `ids` (of `id_text`; a null gets -1); unknown ones get the next free numbers."""
        new = ids.unique(maintain_order=True).drop_nulls()
        known = self._numbers
        floats = self.forms.see(new, typed=typed)
        numbers = [known.setdefault(external, len(known)) for external in new.to_list()]
        if len(known) > np.iinfo(np.int32).max - 2:
            raise ValueError(f"more than {np.iinfo(np.int32).max - 2:,} different ids; the format holds int32")
        if floats.any():
            self._floats.update(number for number, is_float in zip(numbers, floats, strict=True) if is_float)
        if not numbers:
            return np.full(len(ids), -1, dtype=np.int32)
        table = pl.DataFrame({"id": new, "number": pl.Series(numbers, dtype=pl.Int32)})
        joined = ids.alias("id").to_frame().join(table, on="id", how="left", maintain_order="left")
        return joined["number"].fill_null(-1).to_numpy()

    def drop_fractions(self) -> NDArray[np.int32] | None:
        """Write whole numbers without `.0`, after the last chunk: the new number of each old one; None: as before."""
        if not self._floats:
            return None
        ids = pl.Series(self.ids, dtype=pl.String)
        whole = without_fraction(ids)
        made: dict[str, int] = {}
        moved = np.empty(len(ids), np.int32)
        for number, (id_, short) in enumerate(zip(ids, whole, strict=True)):
            moved[number] = made.setdefault(short if number in self._floats else id_, len(made))
        self._numbers, self._floats = made, set()
        return moved

    def sort_by_id(self) -> NDArray[np.int32]:
        """Number by the order of the ids, after the last chunk: the new number of each old one."""
        ids = self.ids
        order = sorted(range(len(ids)), key=ids.__getitem__)
        moved = np.empty(len(ids), np.int32)
        moved[order] = np.arange(len(ids), dtype=np.int32)
        self._floats = {int(moved[number]) for number in self._floats}
        self._numbers = {ids[number]: place for place, number in enumerate(order)}
        return moved
