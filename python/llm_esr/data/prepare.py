"""`prepare`: from a table of interactions and a table of items to a data set folder.

Goes in: interactions, items (paths or frames), settings. Comes out: `dataset.json`, `users.parquet`, `items.parquet`,
`offsets.npy`, `items.npy`, `timestamps.npy` (where there are times), `splits.npy`.

An interaction costs 4 bytes for the user, 4 for the item, 8 each for time and order column where there are any, and 8
while sorting; the table itself is never in memory as a whole.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_esr.config import DataConfig
from llm_esr.data.arranging import arrange
from llm_esr.data.dataset import Dataset
from llm_esr.data.filtering import filter_interactions
from llm_esr.data.folder import carry_over, dataset_key, refuse_foreign_folder, write_dataset
from llm_esr.data.interactions import collect
from llm_esr.data.items import TextVotes, read_items
from llm_esr.data.splitting import split
from llm_esr.files import atomic_folder
from llm_esr.tables.cleaning import Cleaner
from llm_esr.tables.formats import open_sources
from llm_esr.tables.published_formats import resolved
from llm_esr.tables.source import Source


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
    events = collect(cleaner, votes)
    if settings.duplicates == "exact" and events.timestamps is None and events.order is None:
        raise ValueError(
            "--duplicates exact compares user, item and timestamp, and the interactions have no timestamp; name its "
            "column with --timestamp-column (or --order-column), or use --duplicates first"
        )
    keep = filter_interactions(events, cleaner.report, settings)
    if texts is None:
        assert votes is not None
        texts = votes.texts(events.item_numbers.ids)
    arranged = arrange(events, keep, texts, settings, cleaner)
    splits = split(arranged.offsets, arranged.timestamps, settings)
    provenance = _provenance(sources, item_sources)
    with atomic_folder(target) as folder:
        write_dataset(folder, arranged, splits, settings, provenance)
        carry_over(target, folder)
    return Dataset.open(target)


def prepare_key(interactions: Any, items: Any, config: DataConfig) -> str:
    """The key of a data set made from these inputs with these settings; `dataset.json` holds its own."""
    settings = resolved(config)
    sources, item_sources = _open(interactions, items, settings)
    return dataset_key(_provenance(sources, item_sources), settings)


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
