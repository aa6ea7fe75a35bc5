"""The model card of a hub folder: what the model is, what it was made from, how well it does, what it is not for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llm_esr import __version__
from llm_esr.config.schema import STAGES
from llm_esr.config.yaml_text import yaml_of
from llm_esr.data.splitting import iso
from llm_esr.evaluation import read_rows, render
from llm_esr.files import is_there, printable, read_record
from llm_esr.serving.hub.public import public_encoder, public_settings
from llm_esr.serving.judging import name_alone

if TYPE_CHECKING:
    from llm_esr.serving.recommender import Recommender

_TASK = "sequential recommendation"
_GROUPS = {
    "all": "overall",
    "tail_item": "tail items",
    "head_item": "head items",
    "tail_user": "tail users",
    "head_user": "head users",
}
_METRICS = {"hr": "HR", "ndcg": "NDCG"}
_K = 10
_NO_FIGURES = "No figures came with the run; `llm-esr evaluate RUN` makes them, and another export shows them here."


def card_of(model: Recommender, *, with_histories: bool) -> str:
    """The card as Markdown with its YAML header; the license is left to whoever publishes it.

    Raises:
        ImportError: huggingface_hub is not installed (extra `hub`).
    """
    rows = _figures(model)
    parts = [
        f"# {_plain(model.name)}",
        _introduction(model),
        "## How to load",
        _loading(with_histories=with_histories),
        "## Figures",
        _tables(model, rows),
        "## Data",
        _data(model, with_histories=with_histories),
        "## Intended use",
        "Ranking the items of the catalogue above for a person by what that person met before, and finding items that "
        "are like an item. It is meant for the catalogue and the kind of customers that it was trained on.",
        "## Limits",
        _limits(model),
        "## Settings",
        _settings(model),
        "## License",
        "Not stated. Whoever publishes this folder chooses one, here and as `license:` in the header; it has to fit "
        "the data and the text encoder.",
    ]
    return f"---\n{_header(model, rows)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _header(model: Recommender, rows: list[dict[str, Any]]) -> str:
    try:
        from huggingface_hub import EvalResult, ModelCardData  # noqa: PLC0415 (an extra)
    except ImportError:
        raise ImportError("a hub folder needs the package huggingface_hub: pip install 'llm-esr[hub]'") from None
    results = [
        EvalResult(
            task_type="other",
            task_name=_TASK,
            dataset_type="private",
            dataset_name="held-out interactions",
            dataset_split=row["split"],
            metric_type=f"{row['metric']}@{row['k']}",
            metric_name=f"{_METRICS[row['metric']]}@{row['k']}, {_GROUPS[row['group']]}",
            metric_value=round(row["value"], 6),
        )
        for row in rows
        if row["model"] == model.name and row["k"] == _K and row["metric"] in _METRICS and row["group"] in _GROUPS
        if row["protocol"] == rows[0]["protocol"] and row["value"] is not None
    ]
    tags = ["llm-esr", "recommender-system", "sequential-recommendation", "long-tail", model.config.model.backbone]
    # Without figures there is no model-index, and so no name in it.
    named = model.name if results else None
    card = ModelCardData(library_name="llm-esr", tags=tags, model_name=named, eval_results=results or None)
    return str(card.to_yaml()).strip()


def _introduction(model: Recommender) -> str:
    network = model.config.model
    views = " and ".join(
        {"semantic": "texts", "collaborative": "interactions"}.get(view, view) for view in network.views
    )
    words = [
        f"A model for {_TASK} of {model.data.n_items:,} items, made by [llm-esr](https://arxiv.org/abs/2405.20646) "
        f"{__version__}: a {network.backbone} encoder, {network.width} wide, of items known by {views}, which reads "
        f"the newest {network.max_len} items of a history. Seed {model.seed}."
    ]
    if model.blend:
        weights = ", ".join(f"{weight:g} {scorer}" for scorer, weight in model.blend.items())
        words.append(f"Its scores are blended with {weights}.")
    return " ".join(words)


def _loading(*, with_histories: bool) -> str:
    known = (
        '\nmodel.recommend(users=["..."], k=10)               # somebody whose history came along'
        if with_histories
        else ""
    )
    return (
        "```\npip install 'llm-esr[hub]'\n```\n\n```python\nimport llm_esr\n\n"
        'model = llm_esr.Recommender.from_pretrained("owner/name", revision="...")  # or the path of this folder\n'
        f'model.recommend(histories=[["...", "..."]], k=10)  # item ids, oldest first{known}\n'
        'model.similar_items(["..."], k=10)\n```\n\n'
        "No file is a pickle; each is held against its checksum before it is used."
    )


def _figures(model: Recommender) -> list[dict[str, Any]]:
    """What the run's `metrics.json` says of this model on the test part, and of popularity beside it."""
    above = [] if model.folder is None else [*model.folder.resolve().parents][1:3]
    path = next((folder / "metrics.json" for folder in above if is_there(folder / "metrics.json")), None)
    if path is None:
        return []
    alone = name_alone(model.name)
    judged = [row for row in read_rows(path) if row["split"] == "test"]
    own = [row for row in judged if row["model"] in (model.name, alone) and row["seed"] == model.seed]
    if not model.blend:
        # Of a blend whose network is exported alone, the figures are the network's.
        taken = alone if any(row["model"] == alone for row in own) else model.name
        own = [row | {"model": model.name} for row in own if row["model"] == taken]
    protocols = {row["protocol"] for row in own}
    return own + [row for row in judged if row["model"] == "popularity" and row["protocol"] in protocols] if own else []


def _tables(model: Recommender, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return _NO_FIGURES
    added = "" if model.data.n_items == model.data.n_prepared_items else "\n\nThey are those before items were added."
    return render(rows, "markdown").rstrip() + added


def _data(model: Recommender, *, with_histories: bool) -> str:
    meta = model.data.metadata
    counts, parts, times = meta["counts"], meta["parts"], meta.get("timestamps")
    lines = [
        f"- {counts['users']:,} users, {counts['items']:,} items, {counts['interactions']:,} interactions; "
        f"{counts['items_never_trained']:,} items were never met in training",
        f"- split {model.data.split}: {parts['train']:,} interactions to train on, targets of {parts['validation']:,} "
        f"users to validate, of {parts['test']:,} to test",
    ]
    if times is not None:
        lines.append(f"- time: {iso(times['first'])[:10]} to {iso(times['last'])[:10]}")
    vectors = model.data.folder / "item_embeddings.json"
    if is_there(vectors):
        lines.append(f"- item texts as vectors by `{_plain(public_encoder(str(read_record(vectors).get('encoder'))))}`")
    added = model.data.n_items - model.data.n_prepared_items
    lines += [f"- {added:,} items were added after the training, known by their texts alone"] if added else []
    lines.append(
        f"- **this folder holds the histories of {counts['users']:,} users, which are personal data**"
        if with_histories
        else "- no user and no history is in this folder; its tables of items are counted from histories, and of "
        "an item that a single user met they tell what else that user met"
    )
    return "\n".join(lines)


def _limits(model: Recommender) -> str:
    lines = [
        "It knows the items of its catalogue alone; an unknown item of a history is left out, and somebody without a "
        "known item gets the most popular ones.",
        "It repeats what was in its data: who was rarely seen there is served worse (compare head and tail above), and "
        "what was offered more was met more.",
        "Figures on held-out interactions say how well the past is predicted, not what a recommendation changes.",
        "It was neither made nor judged for decisions about people, such as credit, employment or health.",
    ]
    if model.data.split == "none":
        lines.append("Nothing was held out of its training, so nothing was measured.")
    return "\n".join(f"- {line}" for line in lines)


def _settings(model: Recommender) -> str:
    values = public_settings(model.config)
    chosen: Iterable[str] = (*STAGES["train"], *STAGES["blend"])
    text = yaml_of({section: values[section] for section in chosen})
    return f"<details>\n<summary>all of the training</summary>\n\n```yaml\n{text}```\n\n</details>"


def _plain(text: str) -> str:
    """A name as it may stand in Markdown."""
    return "".join(char for char in printable(text) if char not in "`*_<>[]|\\#")
