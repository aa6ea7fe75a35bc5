"""`prepare`: from a table of interactions and a table of items to a data set folder.

Goes in: interactions, items (paths or frames), settings. Comes out: `dataset.json`, `users.parquet`, `items.parquet`,
`offsets.npy`, `items.npy`, `timestamps.npy` (where there are times), `splits.npy`.

An interaction costs 4 bytes for the user, 4 for the item, 8 each for time and order column where there are any, and 8
while sorting; the table itself is never in memory as a whole.
"""

from __future__ import annotations

import difflib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError

from llm_esr.config import DataConfig
from llm_esr.data.dataset import FORMAT, Dataset, training_counts
from llm_esr.data.filtering import below_counts, duplicates_of, sort_order
from llm_esr.data.items import UNKNOWN, ItemTexts, TextVotes, read_items
from llm_esr.data.numbering import Numbering
from llm_esr.data.splitting import Splits, split
from llm_esr.files import atomic_folder, checksum, key_of, write_array, write_json
from llm_esr.tables.cleaning import Cleaner
from llm_esr.tables.formats import open_sources
from llm_esr.tables.published_formats import resolved
from llm_esr.tables.row_report import RowReport, lines_of
from llm_esr.tables.source import Source
from llm_esr.tables.source_lines import SourceLines

OWN_FILES = (
    "dataset.json",
    "users.parquet",
    "items.parquet",
    "offsets.npy",
    "items.npy",
    "timestamps.npy",
    "splits.npy",
)
# Made by later stages from the files above; worthless, and dangerous, beside others.
DERIVED = ("item_embeddings", "user_embeddings", "similar_users", "similar_items", "similar_items_scores", "pca_items")
YEAR_1971 = 31_536_000 * 1_000_000_000


def prepare(
    interactions: Any,
    *,
    items: Any = None,
    out: str | Path,
    config: DataConfig | None = None,
    **options: Any,
) -> Dataset:
    """Clean, order, number and split interactions; write a data set folder.

    Args:
        interactions: a path (CSV, TSV, Parquet, JSON lines, the paper's `user item` pairs; .gz too), a list of paths,
            or a pandas, polars or Arrow table.
        items: the items' texts, likewise; None: no texts, or those that `text_columns` names in the interactions.
        out: the folder to write; a data set that is already there is replaced as a whole.
        config: settings; None: the defaults.
        options: single settings by name (see `DataConfig`), on top of `config`.

    Raises:
        FileNotFoundError: an input that does not exist.
        ValueError: a setting, a column or a value that does not fit; nothing is left to train on.
    """
    settings = resolved(data_config(config, options))
    target = Path(out).expanduser()
    target = target if target.name else target.resolve()
    refuse_foreign_folder(target)
    sources, item_sources = _open(interactions, items, settings)
    votes = TextVotes(settings) if not item_sources else None
    cleaner = Cleaner(sources, settings, votes.columns if votes else [])
    texts = read_items(item_sources, settings) if item_sources else None
    events = _collect(cleaner, votes)
    if settings.duplicates == "exact" and events.timestamps is None and events.order is None:
        raise ValueError(
            "--duplicates exact compares user, item and timestamp, and the interactions have no timestamp; name its "
            "column with --timestamp-column (or --order-column), or use --duplicates first"
        )
    keep = _filter(events, cleaner.report, settings)
    if texts is None:
        assert votes is not None
        texts = votes.texts(events.item_numbers.ids)
    made = _number(events, keep, texts, settings, cleaner)
    splits = split(made.offsets, made.timestamps, settings)
    provenance = _provenance(sources, item_sources)
    with atomic_folder(target) as folder:
        _write(folder, made, splits, settings, provenance)
        _carry_over(target, folder)
    return Dataset.open(target)


def prepare_key(interactions: Any, items: Any, config: DataConfig) -> str:
    """The key of a data set made from these inputs with these settings; `dataset.json` holds its own."""
    settings = resolved(config)
    sources, item_sources = _open(interactions, items, settings)
    return _key(_provenance(sources, item_sources), settings)


def data_config(config: DataConfig | None, options: dict[str, Any]) -> DataConfig:
    """`config` with single settings on top.

    Raises:
        ValueError: an unknown name (the nearest is suggested) or a value that does not fit.
    """
    for name in options:
        if name not in DataConfig.model_fields:
            near = difflib.get_close_matches(name, DataConfig.model_fields, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(DataConfig.model_fields)}"
            raise ValueError(f"prepare has no option '{name}'{hint}")
    # Only what was set: whether a column was named or is a default decides what its absence means.
    values = config.model_dump(exclude_unset=True) if config is not None else {}
    try:
        return DataConfig.model_validate({**values, **options})
    except ValidationError as error:
        parts = [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e.get('input')!r})" for e in error.errors()]
        raise ValueError("; ".join(parts)) from None


def _open(interactions: Any, items: Any, config: DataConfig) -> tuple[list[Source], list[Source]]:
    names = (config.user_column, config.item_column)
    sources = open_sources(interactions, config.format, "interactions", names, config.source)
    if items is None:
        return sources, []
    item_names = (config.user_column, config.items_id_column or config.item_column)
    return sources, open_sources(items, config.format, "items", item_names, config.source)


def _provenance(sources: list[Source], item_sources: list[Source]) -> dict[str, list[dict[str, Any]]]:
    return {
        "interactions": [source.provenance() for source in sources],
        "items": [source.provenance() for source in item_sources],
    }


def _key(provenance: dict[str, list[dict[str, Any]]], config: DataConfig) -> str:
    inputs = {role: [[part["format"], part["checksum"]] for part in parts] for role, parts in provenance.items()}
    settings = config.model_dump(mode="json")
    if config.source == "table":
        del settings["source"]  # came later: data sets made before it stay fresh
    return key_of({"format": FORMAT, "inputs": inputs, "data": settings})


@dataclass
class _Events:
    """Interactions of all chunks, in the order of the input, with numbers that are not final yet."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None
    order: NDArray[np.int64] | NDArray[np.float64] | None
    user_numbers: Numbering
    item_numbers: Numbering
    source_lines: SourceLines


def _collect(cleaner: Cleaner, votes: TextVotes | None) -> _Events:
    user_numbers, item_numbers, source_lines = Numbering(), Numbering(), SourceLines()
    users: list[NDArray[np.int32]] = []
    items: list[NDArray[np.int32]] = []
    times: list[NDArray[np.int64]] = []
    order: list[Any] = []
    for clean in cleaner.chunks():
        kept = clean.kept
        # Rows that are dropped for another reason than their ids number too: the numbers follow the raw table.
        all_users, all_items = user_numbers.number(clean.users), item_numbers.number(clean.items)
        users.append(all_users[kept])
        items.append(all_items[kept])
        if clean.timestamps is not None:
            times.append(clean.timestamps[kept])
        if clean.order is not None:
            order.append(clean.order[kept])
        source_lines.add(clean.source, clean.lines[kept])
        if votes is not None and votes.columns:
            votes.add(items[-1], clean.texts.filter(pl.Series(kept)))
    if not any(len(part) for part in users):
        _nothing_left(cleaner.report)
    return _Events(
        _joined(users), _joined(items), _joined(times) if times else None, _joined(order) if order else None,
        user_numbers, item_numbers, source_lines,
    )  # fmt: skip


def _joined(parts: list[Any]) -> Any:
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _nothing_left(report: RowReport) -> None:
    report.kept = report.read - sum(report.counts.values())
    raise ValueError(
        "no interaction is left; expected rows with a user, an item and, where there is such a column, a timestamp "
        "(an integer in --timestamp-unit or ISO 8601)\n" + "\n".join(lines_of(report.as_dict(), "interactions"))
    )


def _filter(events: _Events, report: RowReport, config: DataConfig) -> NDArray[np.bool_]:
    keep = np.ones(len(events.users), dtype=np.bool_)
    if config.duplicates != "all":
        place = sort_order(events.users, events.timestamps, events.order)
        moments = events.timestamps if events.timestamps is not None else events.order
        repeats = duplicates_of(
            config.duplicates,
            events.users[place],
            events.items[place],
            None if moments is None else moments[place],
        )
        gone = np.sort(place[repeats])
        keep[gone] = False
        report.add("duplicate", len(gone), _shown(events, gone))
    left = np.flatnonzero(keep)
    below = below_counts(events.users[left], events.items[left], config.min_user_count, config.min_item_count)
    gone = left[below]
    keep[gone] = False
    report.add("count_filter", len(gone), _shown(events, gone))
    report.kept = int(keep.sum())
    if not report.kept:
        raise ValueError(
            f"no interaction is left: --min-user-count {config.min_user_count} and --min-item-count "
            f"{config.min_item_count} leave none; lower them\n" + "\n".join(lines_of(report.as_dict(), "interactions"))
        )
    return keep


def _shown(events: _Events, rows: NDArray[np.int64]) -> list[tuple[str, str, int, object]]:
    users, items = events.user_numbers.ids, events.item_numbers.ids
    shown: list[tuple[str, str, int, object]] = []
    for row in rows[:5].tolist():
        source, line = events.source_lines.find(row)
        shown.append((source.name, source.line_kind, line, f"{users[events.users[row]]}, {items[events.items[row]]}"))
    return shown


@dataclass
class _Made:
    """The data set, numbered and in order."""

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None
    user_frame: pl.DataFrame
    item_frame: pl.DataFrame
    texts: ItemTexts
    n_raw_users: int
    rows: dict[str, Any]
    order: list[str]
    unmatched: int
    notes: list[str]


def _number(events: _Events, keep: NDArray[np.bool_], texts: ItemTexts, config: DataConfig, cleaner: Cleaner) -> _Made:
    all_kept = bool(keep.all())
    users = events.users if all_kept else events.users[keep]
    items = events.items if all_kept else events.items[keep]
    times = events.timestamps if all_kept or events.timestamps is None else events.timestamps[keep]
    order = events.order if all_kept or events.order is None else events.order[keep]
    user_counts = np.bincount(users, minlength=len(events.user_numbers))
    raw_users = np.flatnonzero(user_counts)
    lengths = user_counts[raw_users]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    met = np.flatnonzero(np.bincount(items, minlength=len(events.item_numbers)))
    frame, numbers, unmatched, notes = _number_items(events.item_numbers, met, texts, config)
    # Sorting by raw numbers sorts by final ones, too: both follow the first appearance.
    place = sort_order(users, times, order)
    made_items = numbers[items[place]]
    made_times = times[place] if times is not None else None
    raw_ids = pl.Series("user_id", events.user_numbers.ids, dtype=pl.String)
    user_frame = pl.DataFrame(
        {
            "user": np.arange(len(raw_users), dtype=np.int32),
            "user_id": raw_ids.gather(raw_users),
            "source_row": raw_users.astype(np.int64),
        }
    )
    if made_times is not None and int(made_times.max()) < YEAR_1971 and int(made_times.min()) >= 0:
        notes.append("every timestamp lies in 1970; is --timestamp-unit right?")
    names = [name for name in (cleaner.timestamp, cleaner.order) if name is not None]
    rows = {"interactions": cleaner.report.as_dict(), "items": texts.report.as_dict() if texts.report else None}
    return _Made(
        offsets, made_items, made_times, user_frame, frame, texts, len(events.user_numbers), rows,
        [*(f"column {name}" for name in names), "order of the input"], unmatched, notes,
    )  # fmt: skip


def _number_items(
    numbering: Numbering, met: NDArray[np.int64], texts: ItemTexts, config: DataConfig
) -> tuple[pl.DataFrame, NDArray[np.int32], int, list[str]]:
    """Final items 1..I: `items.parquet` without counts, final number by raw number, items without a row, notes."""
    raw_ids = numbering.ids
    met_ids = pl.DataFrame({"item_id": pl.Series([raw_ids[raw] for raw in met.tolist()], dtype=pl.String)})
    notes: list[str] = []
    if texts.report is None:
        frame = met_ids.join(texts.frame, on="item_id", how="left", maintain_order="left")
        unmatched = 0
    else:
        known = texts.frame.join(met_ids, on="item_id", how="semi", maintain_order="left")
        if not known.height:
            raise ValueError(
                "no item of the interactions is in the items table: the interactions have, for example, "
                f"{met_ids['item_id'].head(3).to_list()}, the items table {texts.frame['item_id'].head(3).to_list()}; "
                "name the id columns with --item-column and --items-id-column"
            )
        strangers = met_ids.join(texts.frame, on="item_id", how="anti", maintain_order="left")
        unmatched = strangers.height
        unmet = texts.frame.height - known.height
        if config.keep_unmet_items:
            known = texts.frame
        elif unmet:
            missed = texts.frame.join(met_ids, on="item_id", how="anti", maintain_order="left")
            texts.report.kept -= unmet
            texts.report.add("unmet", unmet, (("items", "row", row + 1, i) for i, row in missed.head(5)[:, :2].rows()))
        if unmatched:
            names = texts.frame.columns[2:]
            unknown = [pl.lit(UNKNOWN).alias(name) for name in names]
            strangers = strangers.with_columns(pl.lit(None, dtype=pl.Int64).alias("source_row"), *unknown)
            known = pl.concat([known, strangers.select(known.columns)])
            notes.append(
                f"{unmatched:,} items of the interactions have no row in the items table (such as "
                f"{', '.join(strangers['item_id'].head(3).to_list())}); they are kept with text '{UNKNOWN}'"
            )
        frame = known
    frame = frame.insert_column(0, pl.Series("item", np.arange(1, frame.height + 1, dtype=np.int32)))
    lookup = met_ids.join(frame.select("item_id", "item"), on="item_id", how="left", maintain_order="left")
    numbers = np.zeros(len(raw_ids), dtype=np.int32)
    numbers[met] = lookup["item"].to_numpy()
    return frame, numbers, unmatched, notes


def _write(folder: Path, made: _Made, splits: Splits, config: DataConfig, provenance: dict[str, Any]) -> None:
    n_items, n_users = made.item_frame.height, made.user_frame.height
    counts = training_counts(made.offsets, made.items, splits.ends, n_items)
    item_frame = made.item_frame.insert_column(3, pl.Series("training_count", counts[1:]))
    user_frame = made.user_frame.with_columns(pl.Series("training_count", splits.ends[:, 0]))
    user_frame.write_parquet(folder / "users.parquet")
    item_frame.write_parquet(folder / "items.parquet")
    arrays: dict[str, NDArray[Any]] = {"offsets": made.offsets, "items": made.items, "splits": splits.ends}
    if made.timestamps is not None:
        arrays["timestamps"] = made.timestamps
    for name, array in arrays.items():
        write_array(folder / f"{name}.npy", array)
    files = {path.name: checksum(path) for path in sorted(folder.iterdir())}
    lengths = np.diff(made.offsets)
    times = made.timestamps
    write_json(
        folder / "dataset.json",
        {
            "format": FORMAT,
            "key": _key(provenance, config),
            "fingerprint": key_of([files[name] for name in ("offsets.npy", "items.npy", "splits.npy")]),
            "counts": {
                "users": n_users,
                "items": n_items,
                "interactions": len(made.items),
                "items_without_row": made.unmatched,
                "items_never_trained": int((counts[1:] == 0).sum()),
                "source_users": made.n_raw_users,
                "source_items": made.texts.n_rows,
            },
            "split": config.split,
            "split_times": None
            if splits.validation_from is None
            else {"validation_from": splits.validation_from, "test_from": splits.test_from},
            "parts": {
                "train": int(splits.ends[:, 0].sum()),
                "validation": int((splits.ends[:, 0] < splits.ends[:, 1]).sum()),
                "test": int((splits.ends[:, 1] < lengths).sum()),
            },
            "order": made.order,
            "timestamps": None
            if times is None
            else {"unit": "ns", "first": int(times.min()), "last": int(times.max())},
            "text_columns": made.texts.text_columns,
            "title_column": made.texts.title_column,
            "rows": made.rows,
            "notes": made.notes,
            "config": config.model_dump(mode="json"),
            "provenance": provenance,
            "files": files,
        },
    )


def refuse_foreign_folder(target: Path) -> None:
    """Raise a `ValueError` where writing a data set to `target` would take something else away."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"out: {target} is a file; expected a folder to write the data set to")
    if any(target.iterdir()) and not (target / "dataset.json").exists():
        raise ValueError(
            f"out: {target} is a folder with other files and no data set; prepare replaces its folder as a whole: "
            "name a new or empty one"
        )


def _carry_over(old: Path, new: Path) -> None:
    """Keep what others put into the folder; what later stages derived, only where the data set is the same again."""
    if not old.exists():
        return
    data = [name for name in OWN_FILES if name != "dataset.json"]
    same = all(
        (old / name).exists() == (new / name).exists()
        and (not (new / name).exists() or checksum(old / name) == checksum(new / name))
        for name in data
    )
    for path in old.iterdir():
        if path.name in OWN_FILES or (path.name.split(".")[0] in DERIVED and not same):
            continue
        if path.name.startswith("."):
            continue  # another stage's temporary file
        if path.is_dir():
            shutil.copytree(path, new / path.name)
        else:
            _link_or_copy(path, new / path.name)


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
