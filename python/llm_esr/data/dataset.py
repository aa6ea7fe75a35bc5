"""A data set folder, opened: users' histories as CSR arrays, their split, and the tables of users and items."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.data.folder import TABLES
from llm_esr.data.splitting import iso, training_counts
from llm_esr.doors import door
from llm_esr.files import FORMAT, given_path, is_there, read_record, verify, verify_beside
from llm_esr.files.arrays import open_array
from llm_esr.files.html import html_facts
from llm_esr.files.parquet import read_parquet
from llm_esr.tables.row_report import lines_of
from llm_esr.tables.values import given_ids

Part = Literal["train", "validation", "test", "serving"]
_TRIES = 20


class Dataset:
    """What `prepare` wrote; arrays are memory-mapped and read-only.

    Users are 0..U-1, items 1..I (0 pads). User `u` has `items[offsets[u]:offsets[u + 1]]`, oldest first, cut by
    `splits[u]` (end of train, end of validation, counted from the user's start).
    """

    folder: Path
    n_users: int
    n_items: int
    n_interactions: int
    split: str
    offsets: NDArray[np.int64]  # [U + 1]
    items: NDArray[np.int32]  # [n]
    timestamps: NDArray[np.int64] | None  # [n], nanoseconds since 1970 UTC
    splits: NDArray[np.int64]  # [U, 2]
    metadata: dict[str, Any]

    @classmethod
    @door
    def open(cls, folder: str | Path) -> Dataset:
        """Open a data folder, or the one in a run folder.

        Headers, lengths, the order of offsets, the range of ids and the splits are checked. Where
        `prepare` replaces the folder meanwhile, it is the data set before or the one after.

        Raises:
            FileNotFoundError: no such folder, or a file of it is missing.
            ValueError: a file is damaged, or of another format version.
        """
        if not isinstance(folder, str | os.PathLike):
            raise ValueError(
                f"expected a path, that of a data set's folder, or a Dataset, got {type(folder).__name__}; make a data "
                "set of a table with llm_esr.prepare(table, out=FOLDER)"
            )
        folder = given_path(folder)
        if not (folder / "dataset.json").exists() and (folder / "data" / "dataset.json").exists():
            folder = folder / "data"
        for _ in range(_TRIES):
            before = _state(folder)
            try:
                data = cls(folder)
            except (OSError, ValueError):
                if _state(folder) == before:
                    raise
                continue  # another data set has come in between
            if _state(folder) == before:
                return data
        raise ValueError(f"{folder} is replaced over and over while it is opened; wait until nobody writes to it")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise FileNotFoundError(f"data set folder {folder} does not exist; make it with `llm-esr prepare`")
        if not (folder / "dataset.json").exists():
            raise FileNotFoundError(
                f"{folder} has no dataset.json, so it is no data set; make one with `llm-esr prepare`"
            )
        self._opened = _state(folder)
        self.metadata = read_record(folder / "dataset.json")
        version = self.metadata.get("format")
        if version != FORMAT:
            raise ValueError(
                f"{folder / 'dataset.json'} has format {version!r}, this release reads {FORMAT}; "
                "run `llm-esr prepare` again"
            )
        try:
            counts = self.metadata["counts"]
            self.n_users, self.n_items = int(counts["users"]), int(counts["items"])
            self.n_interactions = int(counts["interactions"])
            self.split = str(self.metadata["split"])
            self.fingerprint = str(self.metadata["fingerprint"])
            self.text_columns: list[str] = list(self.metadata["text_columns"])
            self.title_column: str | None = self.metadata["title_column"]
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged("dataset.json", f"an entry is missing or of a wrong kind ({error})") from None
        self.offsets = self._array("offsets.npy", np.int64, (self.n_users + 1,))
        self.items = self._array("items.npy", np.int32, (self.n_interactions,))
        self.splits = self._array("splits.npy", np.int64, (self.n_users, 2))
        has_times = self.metadata.get("timestamps") is not None
        self.timestamps = self._array("timestamps.npy", np.int64, (self.n_interactions,)) if has_times else None
        self._check()
        for name in ("offsets.npy", "items.npy", "splits.npy", *(["timestamps.npy"] if has_times else [])):
            self._verify(name)

    def _verify(self, name: str) -> None:
        promised = self.metadata.get("files")
        try:
            verify(self.folder / name, promised.get(name) if isinstance(promised, dict) else None,
                   "run `llm-esr prepare` again")  # fmt: skip
        except ValueError as error:
            raise self._replaced() or error from None

    def __repr__(self) -> str:
        return (
            f"Dataset({str(self.folder)!r}: {self.n_users:,} users, {self.n_items:,} items, "
            f"{self.n_interactions:,} interactions, split {self.split})"
        )

    def _repr_html_(self) -> str:
        later = ("item_embeddings", "user_embeddings", "similar_users", "similar_items")
        there = [name for name in later if is_there(self.folder / f"{name}.npy")]
        return html_facts(
            f"Dataset {self.folder}",
            {
                "users": f"{self.n_users:,}",
                "items": f"{self.n_items:,}",
                "interactions": f"{self.n_interactions:,}",
                "split": self.split,
                "text columns": ", ".join(self.text_columns) or "none",
                "made so far": ", ".join(there) or "neither vectors nor neighbours",
            },
        )

    def _damaged(self, name: str, what: str) -> ValueError:
        damage = ValueError(f"{self.folder / name}: {what}; the file is damaged: run `llm-esr prepare` again")
        return self._replaced() or damage

    def _replaced(self) -> ValueError | None:
        """That the folder is another data set's now; None: it is still this one's."""
        if _state(self.folder) == self._opened:
            return None
        return ValueError(f"{self.folder} was replaced by another data set while it was open; open it again")

    def _array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        path = self.folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; run `llm-esr prepare` again")
        array = open_array(path, remedy="the file is damaged: run `llm-esr prepare` again")
        if array.dtype != np.dtype(dtype) or array.shape != shape:
            raise self._damaged(name, f"holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
        return array

    def _check(self) -> None:
        lengths = np.diff(self.offsets)
        if (lengths < 0).any() or self.offsets[0] != 0 or self.offsets[-1] != self.n_interactions:
            raise self._damaged("offsets.npy", f"does not rise from 0 to {self.n_interactions}")
        if self.n_interactions and not (int(self.items.min()) >= 1 and int(self.items.max()) <= self.n_items):
            raise self._damaged(
                "items.npy", f"ids from {self.items.min()} to {self.items.max()}, expected 1 to {self.n_items}"
            )
        self._verify("offsets.npy")  # before the splits are blamed for what they are held against
        train, validation = self.splits[:, 0], self.splits[:, 1]
        if (train < 0).any() or (train > validation).any() or (validation > lengths).any():
            raise self._damaged("splits.npy", "a user's parts do not lie one after another within the history")

    @property
    def n_prepared_items(self) -> int:
        """Items that `prepare` numbered: all but those of an extension (`extended.py`)."""
        return self.n_items

    @property
    def tables_folder(self) -> Path | None:
        """Where scorers keep what they counted; None: nowhere."""
        return self.folder / TABLES

    def counted_elsewhere(self, name: str) -> Mapping[str, NDArray[Any]] | None:
        """What a scorer of this name counted from the training sequences, where it came along; None: count it here."""
        return None

    # Parts

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Interactions of every user, int64 [U]."""
        return np.diff(self.offsets)

    @cached_property
    def training_lengths(self) -> NDArray[np.int64]:
        """Training interactions of every user, int64 [U]."""
        return np.array(self.splits[:, 0])

    @cached_property
    def training_counts(self) -> NDArray[np.int64]:
        """Interactions of each item in the training parts, int64 [I + 1]; entry 0 is 0."""
        return training_counts(self.offsets, self.items, self.splits, self.n_items)

    def input_ends(self, part: Part) -> NDArray[np.int64]:
        """Length of every user's input for `part`, int64 [U].

        `train`: the training part; `validation`: the same; `test`: train and validation; `serving`: everything.
        """
        match part:
            case "train" | "validation":
                return self.training_lengths
            case "test":
                return np.array(self.splits[:, 1])
            case "serving":
                return self.lengths
            case _:
                raise ValueError(f"part: got {part!r}, expected one of {', '.join(get_args(Part))}")

    def targets(self, part: Literal["validation", "test"]) -> NDArray[np.int32]:
        """Every user's target, int32 [U]: the first item behind the input that still lies in `part`; 0: none."""
        if part not in ("validation", "test"):
            raise ValueError(f"part: got {part!r}, expected validation or test")
        starts = self.input_ends(part)
        ends = self.splits[:, 1] if part == "validation" else self.lengths
        has = np.flatnonzero(starts < ends)
        targets = np.zeros(self.n_users, dtype=np.int32)
        targets[has] = self.items[self.offsets[has] + starts[has]]
        return targets

    def history(self, user: int, part: Part) -> NDArray[np.int32]:
        """The input of `part` of one user, oldest first."""
        if not 0 <= user < self.n_users:
            raise IndexError(f"user {user} lies outside 0..{self.n_users - 1}")
        start = int(self.offsets[user])
        match part:
            case "train" | "validation":
                end = int(self.splits[user, 0])
            case "test":
                end = int(self.splits[user, 1])
            case "serving":
                end = int(self.offsets[user + 1]) - start
            case _:
                raise ValueError(f"part: got {part!r}, expected one of {', '.join(get_args(Part))}")
        return np.array(self.items[start : start + end])

    def histories(self, users: NDArray[np.integer[Any]], part: Part) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The inputs of `part` of users [B], one after another: items int32 [T], offsets int64 [B + 1]."""
        chosen = np.asarray(users, dtype=np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < self.n_users):
            raise IndexError(f"users {chosen.min()} to {chosen.max()} lie outside 0..{self.n_users - 1}")
        lengths = self.input_ends(part)[chosen]
        offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        return np.asarray(self.items[positions], dtype=np.int32), offsets

    # Ids and tables

    def item_table(self) -> pl.DataFrame:
        """`item` (1..I), `item_id`, `source_row` (null: not in the items table), `training_count`, text columns."""
        return self._table("items.parquet", self.n_items)

    def user_table(self) -> pl.DataFrame:
        """`user` (0..U-1), `user_id`, `source_row` (among the distinct users of the raw table), `training_count`."""
        return self._table("users.parquet", self.n_users)

    def _table(self, name: str, rows: int) -> pl.DataFrame:
        path = self.folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; run `llm-esr prepare` again")
        self._verify(name)
        try:
            table = read_parquet(path)
        except ValueError as error:
            raise self._damaged(name, f"not readable ({error})") from None
        if table.height != rows:
            raise self._damaged(name, f"holds {table.height} rows, expected {rows}")
        return table

    @cached_property
    def user_ids(self) -> list[str]:
        """External ids by user number."""
        return self.user_table()["user_id"].to_list()

    @cached_property
    def item_ids(self) -> list[str]:
        """External ids; entry 0 is item 1."""
        return self.item_table()["item_id"].to_list()

    @cached_property
    def user_index(self) -> dict[str, int]:
        """External id to user number."""
        return {external: number for number, external in enumerate(self.user_ids)}

    @cached_property
    def item_index(self) -> dict[str, int]:
        """External id to item number, 1..I."""
        return {external: number for number, external in enumerate(self.item_ids, start=1)}

    @property
    def numeric_ids(self) -> frozenset[str]:
        """Of `user` and `item`, those whose external ids are numbers throughout."""
        return frozenset(self.metadata.get("numeric_ids", ()))

    def given_ids(self, kind: Literal["user", "item"]) -> tuple[NDArray[Any], pl.DataType]:
        """External ids by number (entry 0 is item 1) and their type, as the interactions table had them."""
        return self._given_users if kind == "user" else self._given_items

    @cached_property
    def _given_users(self) -> tuple[NDArray[Any], pl.DataType]:
        return given_ids(self.user_ids, self._id_types.get("user"))

    @cached_property
    def _given_items(self) -> tuple[NDArray[Any], pl.DataType]:
        return given_ids(self.item_ids, self._id_types.get("item"))

    @property
    def _id_types(self) -> dict[str, object]:
        named = self.metadata.get("id_types")
        return named if isinstance(named, dict) else {}

    def titles(self) -> list[str] | None:
        """Every item's title, entry 0 is item 1; None where the items have no texts."""
        return self._titles

    @cached_property
    def _titles(self) -> list[str] | None:
        if self.title_column is None:
            return None
        return self.item_table()[self.title_column].fill_null("unknown").to_list()

    # What later stages add

    @property
    def item_embeddings(self) -> NDArray[Any] | None:
        """Item vectors, float16 or float32 [I, E], row = item - 1; None: not made yet."""
        return self._later("item_embeddings.npy", self.n_items, ("f2", "f4"), "embed")

    @property
    def user_embeddings(self) -> NDArray[Any] | None:
        """User vectors, float16 or float32 [U, E]; None: not made yet."""
        return self._later("user_embeddings.npy", self.n_users, ("f2", "f4"), "embed")

    @property
    def similar_users(self) -> NDArray[np.int32] | None:
        """Similar users, int32 [U, K], best first, -1 fills; None: not made yet."""
        return self._later("similar_users.npy", self.n_users, ("i4",), "index")

    @property
    def similar_users_scores(self) -> NDArray[np.float32] | None:
        """Cosines of `similar_users`, float32 [U, K], 0 where nobody is; None: not made yet."""
        return self._later("similar_users_scores.npy", self.n_users, ("f4",), "index")

    @property
    def similar_items(self) -> NDArray[np.int32] | None:
        """Nearest items, int32 [I, K], best first, -1 fills; None: not made yet."""
        return self._later("similar_items.npy", self.n_items, ("i4",), "index")

    @property
    def similar_items_scores(self) -> NDArray[np.float32] | None:
        """Cosines of `similar_items`, float32 [I, K]; None: not made yet."""
        return self._later("similar_items_scores.npy", self.n_items, ("f4",), "index")

    def _later(self, name: str, rows: int, kinds: tuple[str, ...], stage: str) -> NDArray[Any] | None:
        path = self.folder / name
        if not is_there(path):
            return None
        remedy = f"run `llm-esr {stage}` again"
        array = open_array(path, remedy=remedy)
        if array.ndim != 2 or array.shape[0] != rows or array.dtype.str[1:] not in kinds:
            raise ValueError(
                f"{path} holds {array.dtype} {array.shape}, expected {rows} rows of two axes and "
                f"{' or '.join(str(np.dtype(kind)) for kind in kinds)}; {remedy}"
            )
        verify_beside(path, remedy)
        return array

    def summary(self) -> str:
        """What `prepare` found and did, for people; all of it is in `metadata` too."""
        try:
            return self._summary(self.metadata)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
            raise self._damaged("dataset.json", f"an entry is missing or of a wrong kind ({error})") from None

    def _summary(self, meta: dict[str, Any]) -> str:
        counts = meta["counts"]
        lines = [
            f"{counts['users']:,} users, {counts['items']:,} items, {counts['interactions']:,} interactions "
            f"(average {counts['interactions'] / max(counts['users'], 1):.1f})",
            *lines_of(meta["rows"]["interactions"], "interactions"),
        ]
        if meta["rows"]["items"] is not None:
            lines += lines_of(meta["rows"]["items"], "items")
        times = meta["timestamps"]
        lines.append("order: by " + ", then ".join(meta["order"]))
        if times is not None:
            lines.append(f"time: {iso(times['first'])} to {iso(times['last'])}")
        parts = meta["parts"]
        lines.append(
            f"split {self.split}: {parts['train']:,} interactions to train on, targets of {parts['validation']:,} "
            f"users to validate, of {parts['test']:,} to test"
        )
        if meta["split_times"] is not None:
            at = meta["split_times"]
            lines[-1] += f" (validation from {iso(at['validation_from'])}, test from {iso(at['test_from'])})"
        lines += [f"note: {note}" for note in meta["notes"]]
        return "\n".join(lines)


def _state(folder: Path) -> tuple[int, int, int] | None:
    """Which record lies in a folder; None: none."""
    try:
        found = (folder / "dataset.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
