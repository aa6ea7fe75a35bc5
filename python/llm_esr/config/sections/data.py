"""The sections of the stages that all models of a run share: `data`, `embed`, `index`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llm_esr.config.sections.section import Section
from llm_esr.config.sections.tuning import TuneSettings

Duplicates = Literal["all", "exact", "first"]
Split = Literal["leave-one-out", "temporal", "none"]


class DataConfig(Section):
    """`prepare`: which columns, which rows, which split."""

    source: Literal["table", "yelp", "amazon"] = Field(
        "table",
        description="Whose files: yelp and amazon (2014, 2018) name columns and item texts as those publish them.",
    )
    user_column: str = Field("user_id", description="Column of the user's id.")
    item_column: str = Field("item_id", description="Column of the item's id.")
    timestamp_column: str | None = Field(
        "timestamp", description="Column of the time; absent from the table: file order."
    )
    order_column: str | None = Field(None, description="Column to order a user's rows by where there is no time.")
    timestamp_unit: Literal["s", "ms", "us", "ns"] = Field("s", description="Unit of integer timestamps.")
    items_id_column: str | None = Field(
        None, description="The id column of the items table; default: as --item-column."
    )
    title_column: str | None = Field(
        None, description="The column that names an item; default: 'title', else the first text column."
    )
    text_columns: list[str] | None = Field(
        None, description="Text columns, comma-separated; default: every text column of the items table."
    )
    format: Literal["auto", "csv", "tsv", "parquet", "jsonl", "inter"] = Field(
        "auto", description="What the files are; auto goes by their names."
    )
    where: str | None = Field(
        None, description="Keep only the rows for which this SQL expression holds, such as 'Quantity > 0'."
    )
    duplicates: Duplicates = Field(
        "all", description="Repeated rows: keep all, drop exact repeats, or keep a user's first meeting with an item."
    )
    min_user_count: int = Field(0, ge=0, description="Drop users with fewer interactions.")
    min_item_count: int = Field(0, ge=0, description="Drop items with fewer interactions.")
    keep_unseen_items: bool = Field(False, description="Give items without interactions an id too.")
    split: Split = Field("leave-one-out", description="How test and validation are held out.")
    validation_from: str | int | None = Field(
        None, description="Temporal split: validation begins here (a timestamp or ISO time)."
    )
    test_from: str | int | None = Field(None, description="Temporal split: the test begins here.")
    cold_items: float = Field(
        0.0, ge=0, lt=1, description="Share of the items that training and validation never meet, to judge new items."
    )
    cold_items_seed: int = Field(0, ge=0, description="Which items these are.")


class EmbedConfig(TuneSettings):
    """`embed`: from texts to vectors."""

    encoder: str | None = Field(
        None, description="lsa, sentence-transformers:NAME_OR_FOLDER, openai:MODEL@URL or file:PATH; null: what fits."
    )
    item_template: str | None = Field(
        None,
        description='An item\'s prompt, "{title}. Brand: {brand}.", or the name of a ready one: yelp, fashion, beauty; '
        "null: every text column, named.",
    )
    user_template: str | None = Field(None, description="A user's prompt, with {history}, or a name likewise.")
    user_vectors: Literal["prompt", "mean"] = Field(
        "mean", description="User vectors: of a prompt, or the mean of the training items' vectors."
    )
    user_history: int = Field(12, ge=1, description="The newest training items in a user's prompt.")
    max_characters: int = Field(2000, ge=16, description="A longer item text is cut.")
    lsa_dimensions: int = Field(128, ge=2, description="Width of the vectors of lsa.")
    dtype: Literal["float16", "float32"] = Field("float16", description="Precision in which vectors are stored.")
    batch_size: int = Field(64, ge=1, description="Texts that are encoded at once.")
    device: str = Field("auto", description="Where the encoder runs: auto, cpu, cuda, mps.")
    requests_at_once: int = Field(4, ge=1, le=64, description="Requests at once to an endpoint (openai:MODEL@URL).")
    requests_per_minute: int | None = Field(None, ge=1, description="Requests a minute at most; null: no limit.")
    price_per_million_tokens: float | None = Field(
        None, ge=0, description="What a million tokens cost, for the line that says beforehand what it will come to."
    )


class IndexConfig(Section):
    """`index`: similar users and nearest items."""

    similar_users: int = Field(100, ge=1, description="Similar users that are kept for each user.")
    users_by: Literal["text", "collaborative", "both"] = Field(
        "text",
        description="What users are compared by: their text vectors, what a trained model makes of their training "
        "items, or both (the mean of the two cosines).",
    )
    model: str | None = Field(
        None, description="The trained model of collaborative and both: its folder, or a run's (its primary model)."
    )
    teacher_min_history: int = Field(
        1, ge=1, description="Users with fewer training items are nobody's similar user; they still have similar users."
    )
    similar_items: int = Field(10, ge=1, description="Nearest items that are kept for each item.")
    method: Literal["auto", "exact", "screened", "lists", "hnswlib", "torch"] = Field(
        "auto",
        description="How to search. auto: exact up to 150,000 users or items, lists above. screened: exact but for "
        "less than one neighbour in 100,000. hnswlib: by that package. torch: products in blocks, on CUDA where there "
        "is any.",
    )
    recall: float = Field(
        0.99, gt=0, le=1, description="Share of the exact neighbours that lists and hnswlib are to find, by a sample."
    )

    @model_validator(mode="after")
    def _a_model_is_read(self) -> IndexConfig:
        if self.model is not None and self.users_by == "text":
            raise ValueError(
                f"index.model {self.model} is not read where index.users_by is text; set it (--users-by) to "
                "collaborative or both"
            )
        return self
