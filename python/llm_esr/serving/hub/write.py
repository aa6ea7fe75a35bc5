"""Writing a hub folder: a trained model with all that it needs to recommend, and a card that describes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from llm_esr import __version__
from llm_esr.data.carried import CARRIED_ENTRIES, ITEM_COLUMNS, USER_COLUMNS
from llm_esr.files import atomic_folder, write_json
from llm_esr.files.parquet import write_parquet
from llm_esr.models import SequentialEncoder
from llm_esr.scoring.blend import BLENDED, Blend
from llm_esr.scoring.lent_scores import LENDERS, LentScores
from llm_esr.scoring.neighbours import CountedNeighbours
from llm_esr.scoring.similar_histories import PrefixNeighbours
from llm_esr.serving.hub import layout
from llm_esr.serving.hub.card import card_of
from llm_esr.serving.hub.public import public_settings

if TYPE_CHECKING:
    from llm_esr.serving.recommender import Recommender


def write_hub_folder(model: Recommender, network: SequentialEncoder, folder: Path, *, with_histories: bool) -> None:
    """Write the folder, whole or not at all.

    Args:
        model: the recommender.
        network: its network, on the CPU.
        folder: where; what is there goes.
        with_histories: whether what each user met goes along.

    Raises:
        ValueError: a blend with a scorer that reads the sequences of all users, without histories.
        ImportError: huggingface_hub, which makes the card's header, is not installed (extra `hub`).
    """
    blend = _blend_arrays(model, with_histories=with_histories)
    card = card_of(model, with_histories=with_histories)
    with atomic_folder(folder) as made:
        weights = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
        assert not any(name.startswith("items.") for name in weights), "names of items' tables are taken"
        if _reads_texts(model):
            vectors = model.data.item_embeddings
            assert vectors is not None, "the model reads them"
            weights[layout.TEXT_VECTORS] = torch.from_numpy(np.array(vectors))
        save_file(weights, made / layout.WEIGHTS, {"format": "pt"})
        write_parquet(_items(model), made / layout.ITEMS)
        if blend:
            save_file({name: torch.from_numpy(np.array(one)) for name, one in blend.items()}, made / layout.BLEND)
        if with_histories:
            write_parquet(_histories(model), made / layout.HISTORIES)
        for path in made.iterdir():
            path.chmod(0o644)  # safetensors leaves its files to their owner alone
        files = {path.name: layout.promise(path) for path in sorted(made.iterdir())}
        write_json(made / layout.CONFIG, {**_about(model), "files": files})
        (made / layout.CARD).write_text(card, encoding="utf-8")


def _about(model: Recommender) -> dict[str, Any]:
    data = model.data
    entries = {name: data.metadata[name] for name in CARRIED_ENTRIES if name in data.metadata}
    config = data.metadata["config"]
    columns = {name: config[name] for name in ("user_column", "item_column")}
    return {
        "library_name": layout.LIBRARY,
        "model_type": layout.LIBRARY,
        "format": layout.LAYOUT,
        "made_by": f"{layout.LIBRARY} {__version__}",
        "name": model.name,
        "seed": model.seed,
        "n_items": data.n_items,
        "n_prepared_items": data.n_prepared_items,
        "config": public_settings(model.config),
        "blend": model.blend,
        "data": entries | {"split": data.split, "title_column": data.title_column, "config": columns},
        "fingerprint": data.fingerprint,
    }


def _reads_texts(model: Recommender) -> bool:
    return model.config.model.reads_vectors or any(BLENDED[name].reads_texts for name in model.blend or {})


def _items(model: Recommender) -> pl.DataFrame:
    title = model.data.title_column
    table = model.data.item_table().with_columns(pl.col("item", "training_count").cast(pl.Int64))
    return table.select([*ITEM_COLUMNS, *([title] if title is not None else [])])


def _histories(model: Recommender) -> pl.DataFrame:
    data = model.data
    lists = [data.items[start:end].tolist() for start, end in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
    columns = (data.user_ids, pl.Series(lists, dtype=pl.List(pl.Int32)), data.splits[:, 0], data.splits[:, 1])
    return pl.DataFrame(
        dict(zip(USER_COLUMNS, columns, strict=True)), schema_overrides={"user_id": pl.String, "train_end": pl.Int64}
    )


def _blend_arrays(model: Recommender, *, with_histories: bool) -> Mapping[str, NDArray[Any]]:
    """What a blend's scorers counted, and who lends scores to items that training never met."""
    scorer = model.scorer
    if not isinstance(scorer, Blend):
        return {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in scorer.parts.items():
        own = part
        if isinstance(part, LentScores):
            own = part.scorer
            neighbours, cosines = model.data.similar_items, model.data.similar_items_scores
            assert neighbours is not None and cosines is not None, "who lends was found there"
            arrays[layout.NEIGHBOURS], arrays[layout.COSINES] = neighbours[:, :LENDERS], cosines[:, :LENDERS]
        if isinstance(own, CountedNeighbours):
            arrays[f"{name}.ids"], arrays[f"{name}.values"] = own.table
        elif isinstance(own, PrefixNeighbours) and not with_histories:
            raise ValueError(
                f"the blend's scorer {name} reads the sequences of all users; export them with the model "
                "(--with-histories, they are personal data), or the network alone (--no-blend)"
            )
    return arrays
