"""The rows of docs/attribute-tuning.md: what the text scorers make of item vectors, without a training.

    .venv/bin/python benches/tuned_vectors.py FOLDER...

Each is a data folder that `llm-esr embed` has filled, plain or with `--tune attributes`; those of one data set compare.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from llm_esr import Dataset
from llm_esr.config import EmbedConfig, EvaluateConfig
from llm_esr.evaluation import evaluate
from llm_esr.scoring import build_untrained
from llm_esr.semantics import item_prompts
from llm_esr.semantics.attribute_views import item_attributes
from llm_esr.semantics.tuning_acceptance import make_trial

JUDGED = EvaluateConfig(k=[10], resamples=0)


def row(folder: str) -> str:
    """A folder's figures as a row of a table."""
    data = Dataset.open(folder)
    if data.item_embeddings is None:
        raise SystemExit(f"{folder} has no item vectors; make them with `llm-esr embed {folder}` first")
    vectors_IE = np.array(data.item_embeddings, dtype=np.float32)
    vectors_IE /= np.linalg.norm(vectors_IE, axis=1, keepdims=True)
    figures = make_trial(data, item_prompts(data), item_attributes(data), EmbedConfig()).judge_items(vectors_IE)

    def ndcg(name: str, part: str) -> str:
        report = evaluate(build_untrained(name, data), data, part=part, config=JUDGED)
        found = {each["group"]: each["value"] for each in report.rows if each["metric"] == "ndcg"}
        return f"{found['all']:.4f} / {found['tail_item']:.4f}".replace("0.", ".")

    scored = [ndcg("text", "validation"), ndcg("text", "test"), ndcg("text-max", "test")]
    return f"| {folder} | {figures['auc']:.3f} | {figures['near']:.4f} | {' | '.join(scored)} |"


def main(folders: Sequence[str]) -> None:
    """Print the table."""
    print("| vectors | AUC | nearest | `text`, validation | `text`, test | `text-max`, test |")
    print("|---|---|---|---|---|---|")
    for folder in folders:
        print(row(folder), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
