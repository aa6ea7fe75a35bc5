"""`prepare`: from a table of interactions and a table of items to a data set folder.

Goes in: interactions, items (paths or frames), settings. Comes out: `dataset.json`, `users.parquet`, `items.parquet`,
`offsets.npy`, `items.npy`, `timestamps.npy` (where there are times), `splits.npy`.

An interaction costs 4 bytes for the user, 4 for the item, 8 each for time and order column where there are any, and 8
while sorting; the table itself is never in memory as a whole.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from llm_esr.config import DataConfig, section_with
from llm_esr.data.arranging import arrange
from llm_esr.data.cold_items import hold_out_cold
from llm_esr.data.dataset import Dataset
from llm_esr.data.filtering import filter_interactions
from llm_esr.data.folder import carry_over, dataset_key, refuse_foreign_folder, refuse_other_source, write_dataset
from llm_esr.data.interactions import collect, make_canonical, settle_ids
from llm_esr.data.items import TextVotes, item_texts, read_items
from llm_esr.data.splitting import split
from llm_esr.doors import door
from llm_esr.files import atomic_folder, given_path, is_there
from llm_esr.files.given import behind_links
from llm_esr.files.lock import lock_folder
from llm_esr.tables.cleaning import Cleaner
from llm_esr.tables.formats import open_sources
from llm_esr.tables.parquet_parts import ParquetPart, folder_provenance
from llm_esr.tables.published_formats import resolved
from llm_esr.tables.source import LateColumns, Source


@door
def prepare(
    interactions: Any,
    *,
    items: Any = None,
    out: str | Path,
    config: DataConfig | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Dataset:
    """Clean, order, number and split interactions; write a data set folder.

    Args:
        interactions: a path (CSV, TSV, Parquet, JSON lines, the paper's `user item` pairs; .gz too), a folder of
            Parquet parts, a list of paths, or a pandas, polars or Arrow table.
        items: the items' texts, likewise; None: no texts, or those that `text_columns` names in the interactions.
        out: the folder to write; a data set of the same source that is already there is replaced as a whole.
        config: settings of this stage; default: `DataConfig()`.
        overwrite: replace a data set of another source, too.
        settings: single settings by their plain name, such as `split="temporal"`, on top of `config`.

    Raises:
        FileNotFoundError: an input that does not exist.
        ValueError: a setting, a column or a value that does not fit; nothing is left to train on; `out` holds a data
            set of another source, and `overwrite` is not given.
    """
    chosen = resolved(section_with(DataConfig, config, settings, "prepare"))
    target = given_path(out)
    target = behind_links(target if target.name else target.resolve())
    refuse_foreign_folder(target)
    sources, item_sources = _open(interactions, items, chosen)
    if not overwrite and is_there(target / "dataset.json"):
        refuse_other_source(target, _provenance(sources, item_sources))
    with lock_folder(target, "prepared"):
        _write(target, sources, item_sources, chosen)
    return Dataset.open(target)


def _write(target: Path, sources: list[Source], item_sources: list[Source], chosen: DataConfig) -> None:
    while True:
        votes = TextVotes(chosen) if not item_sources else None
        try:
            cleaner = Cleaner(sources, chosen, votes.columns if votes else [])
            rows = read_items(item_sources, chosen) if item_sources else None
            events = collect(cleaner, votes)
        except LateColumns:
            continue  # JSON lines: a key that the first lines do not show; the sources know it now
        break
    notes = settle_ids(events, rows, votes)
    parts = [source for source in sources if isinstance(source, ParquetPart)]
    if parts:
        make_canonical(events, votes)
        if not events.canonical:
            notes.append(
                f"{parts[0].folder} has neither a timestamp nor an order column: a user's interactions are in the "
                "order of the parts, sorted by path, and parts that are cut otherwise make another data set"
            )
    texts = None if rows is None else item_texts(rows, chosen)
    if chosen.duplicates == "exact" and events.timestamps is None and events.order is None:
        raise ValueError(
            "--duplicates exact compares user, item and timestamp, and the interactions have no timestamp; name its "
            "column with --timestamp-column (or --order-column), or use --duplicates first"
        )
    keep = filter_interactions(events, cleaner.report, chosen)
    if texts is None:
        assert votes is not None
        texts = votes.texts(events.item_numbers.ids)
    arranged = arrange(events, keep, texts, chosen, cleaner)
    arranged.notes[:0] = [*cleaner.notes, *notes]
    splits = split(arranged.offsets, arranged.timestamps, chosen)
    arranged, splits, n_cold = hold_out_cold(arranged, splits, cleaner.report, chosen)
    provenance = _provenance(sources, item_sources)
    with atomic_folder(target) as folder:
        write_dataset(folder, arranged, splits, chosen, provenance, n_cold=n_cold)
        carry_over(target, folder)


def prepare_key(interactions: Any, items: Any, config: DataConfig) -> str:
    """The key of a data set made from these inputs with these settings; `dataset.json` holds its own."""
    settings = resolved(config)
    sources, item_sources = _open(interactions, items, settings)
    return dataset_key(_provenance(sources, item_sources), settings)


def _open(interactions: Any, items: Any, config: DataConfig) -> tuple[list[Source], list[Source]]:
    names = (config.user_column, config.item_column)
    sources = open_sources(interactions, config.format, "interactions", names, config.source)
    if items is None:
        return sources, []
    item_names = (config.user_column, config.items_id_column or config.item_column)
    return sources, open_sources(items, config.format, "items", item_names, config.source)


def _provenance(sources: list[Source], item_sources: list[Source]) -> dict[str, list[dict[str, Any]]]:
    return {
        "interactions": _provenance_of(sources),
        "items": _provenance_of(item_sources),
    }


def _provenance_of(sources: list[Source]) -> list[dict[str, Any]]:
    """A record for each file or frame, and one for all parts of a folder."""
    made = []
    for folder, group in itertools.groupby(sources, lambda source: getattr(source, "folder", None)):
        if folder is None:
            made += [source.provenance() for source in group]
        else:
            made.append(folder_provenance(folder, [part for part in group if isinstance(part, ParquetPart)]))
    return made
