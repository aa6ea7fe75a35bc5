"""How good a scorer is: ranks by counting, metrics, groups, intervals, tables."""

from llm_esr.evaluation.evaluate import (
    early_stopping_candidates,
    early_stopping_users,
    evaluate,
    evaluate_popularity,
    protocol_name,
    quick_ndcg,
    rankable_users,
)
from llm_esr.evaluation.report import Report, drop_rows, merge_rows, read_rows
from llm_esr.evaluation.table import print_tables, render

__all__ = [
    "Report",
    "drop_rows",
    "early_stopping_candidates",
    "early_stopping_users",
    "evaluate",
    "evaluate_popularity",
    "merge_rows",
    "print_tables",
    "protocol_name",
    "quick_ndcg",
    "rankable_users",
    "read_rows",
    "render",
]
