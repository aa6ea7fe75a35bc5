from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from llm_esr.config import EvaluateConfig
from llm_esr.evaluation import Report, drop_rows, evaluate, merge_rows, print_tables, read_rows, render
from llm_esr.evaluation.report import merged
from llm_esr.files import FORMAT
from llm_esr.scoring import Popularity


@pytest.fixture
def rows(make_random_data):
    data = make_random_data(1)
    return evaluate(Popularity(data), data).rows


def as_model(rows, name, seed, shift=0.0):
    return [
        row | {"model": name, "seed": seed}
        | ({"value": row["value"] + shift} if row["value"] is not None and row["k"] is not None else {})
        for row in rows
    ]  # fmt: skip


def test_equal_keys_are_replaced_and_the_rest_is_kept(tmp_path, rows):
    path = tmp_path / "metrics.json"
    merge_rows(path, rows)
    merge_rows(path, as_model(rows, "sasrec", 42))
    merge_rows(path, as_model(rows, "sasrec", 42, shift=0.25))
    kept = json.loads(path.read_text())
    assert kept["format"] == FORMAT
    assert kept["rows"] == rows + as_model(rows, "sasrec", 42, shift=0.25)


def test_figures_of_a_group_go_when_its_threshold_moves(tmp_path, rows):
    path = tmp_path / "metrics.json"
    merge_rows(path, rows)
    at_5 = [row for row in rows if row["k"] in (None, 5)]
    moved = [row | {"value": 99} if (row["group"], row["metric"]) == ("tail_item", "below") else row for row in at_5]
    merge_rows(path, moved)
    left = {(row["group"], row["k"]) for row in read_rows(path)}
    assert ("tail_item", 5) in left and ("head_item", 5) in left
    assert ("tail_item", 10) not in left and ("head_item", 10) not in left
    assert ("tail_user", 10) in left and ("all", 10) in left


def setting(rows, group, metric, value):
    return [row | {"value": value} if (row["group"], row["metric"]) == (group, metric) else row for row in rows]


def test_figures_go_when_ties_are_counted_otherwise(rows):
    at_5 = [row for row in rows if row["k"] in (None, 5)]
    assert merged(rows, setting(at_5, "all", "strict_ties", 1)) == setting(at_5, "all", "strict_ties", 1)
    assert {row["k"] for row in merged(rows, at_5)} == {None, 5, 10, 20}


def test_figures_of_item_groups_go_when_the_first_user_is_passed_over(rows):
    at_5 = setting([row for row in rows if row["k"] in (None, 5)], "tail_item", "skips_first", 1)
    left = {(row["group"], row["k"]) for row in merged(rows, at_5)}
    assert ("head_item", 10) not in left and ("tail_item", 10) not in left
    assert ("tail_user", 10) in left


def test_another_protocol_or_seed_keeps_its_figures(rows):
    other = [row | {"protocol": "paper-100"} for row in rows] + as_model(rows, "popularity", 7)
    at_5 = setting([row for row in rows if row["k"] in (None, 5)], "all", "strict_ties", 1)
    kept = merged(rows + other, at_5)
    assert all(row in kept for row in other)


def test_a_table_of_the_papers_protocol_says_its_rules(make_random_data):
    data = make_random_data(2)
    config = EvaluateConfig(group_rule="paper", tail_item_below=4, tail_user_below=3, ties="strict")
    mine = [row | {"protocol": "paper-100"} for row in evaluate(Popularity(data), data, config=config).rows]
    text = render(mine, "markdown")
    assert "target against 100 sampled items that the user never met, groups as in the paper (paper-100)" in text
    assert "tail item: met by fewer than 4 users over all parts; tail user: fewer than 3 items in the input" in text
    assert "only higher scores count against a target, ties do not  \n" in text
    assert "never as a hit" not in text
    skipping = setting(as_model(mine, "sasrec", 42), "tail_item", "skips_first", 1)
    assert "the first user counts, but never as a hit (sasrec)" in render(mine + skipping, "markdown")
    full = [row | {"protocol": "paper-full-known"} for row in mine]
    assert (
        "full catalogue, the user's earlier items left out, targets known from training only, groups as in"
        in render(full, "markdown")
    )


def test_a_model_trained_anew_loses_its_rows(tmp_path, rows):
    path = tmp_path / "metrics.json"
    merge_rows(path, rows + as_model(rows, "sasrec", 42) + as_model(rows, "sasrec", 43))
    drop_rows(path, "sasrec", 42)
    assert {(r["model"], r["seed"]) for r in read_rows(path)} == {("popularity", None), ("sasrec", 43)}


def test_a_row_has_the_fields_of_the_format(rows):
    fields = {"model", "seed", "split", "protocol", "group", "metric", "k", "value", "low", "high", "users"}
    assert all(set(row) == fields for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_metrics_of_another_format_are_refused(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"format": 9, "rows": []}')
    with pytest.raises(ValueError, match=f"expected metrics of format {FORMAT}, got 9"):
        read_rows(path)
    path.write_text(f'{{"format": {FORMAT}, "rows": [{{"model": "x"}}]}}')
    with pytest.raises(ValueError, match="row 0 lacks seed"):
        read_rows(path)


def test_one_seed_has_an_interval_and_several_a_deviation(rows):
    models = as_model(rows, "llm-esr", 42, 0.10) + as_model(rows, "llm-esr", 43, 0.12)
    text = render(rows + models, "markdown")
    overall = next(r for r in rows if (r["metric"], r["k"], r["group"]) == ("ndcg", 10, "all"))
    mean = f"{overall['value'] + 0.11:.4f}".lstrip("0")
    assert f"| llm-esr (2 seeds) | NDCG@10 | {mean} ± .0141 |" in text
    assert "| popularity | NDCG@10 | " + f"{overall['value']:.4f}".lstrip("0") + " [" in text


def test_a_table_says_its_protocol_users_thresholds_and_baseline(rows):
    text = render(rows)
    assert "test, full catalogue, the user's earlier items left out (full)" in text
    users = next(r["users"] for r in rows if r["group"] == "all")
    assert f"{users} users" in text
    below = {r["group"]: r["value"] for r in rows if r["metric"] == "below"}
    assert f"tail item: met fewer than {below['tail_item']} times in training" in text
    assert "popularity" in text
    assert "baseline has not been evaluated" in render(as_model(rows, "sasrec", 1))


def test_popularity_stands_first_and_models_as_they_came(rows):
    text = render(as_model(rows, "zeta", 1) + as_model(rows, "alpha", 1) + rows, "markdown")
    assert text.index("popularity |") < text.index("zeta |") < text.index("alpha |")


def test_each_split_and_protocol_has_its_own_table(rows):
    other = [row | {"protocol": "sampled-100", "split": "validation"} for row in rows]
    text = render(rows + other, "markdown")
    assert text.count("| model | metric | overall |") == 2
    assert "validation, target against 100 sampled items that the user never met (sampled-100)" in text


def test_a_group_without_users_shows_a_dash(small_data):
    data = small_data([[1, 2, 1, 2], [2, 1, 2, 1]], 3)
    main = Report(evaluate(Popularity(data), data).rows).markdown().split("**test, full: by kind")[0]
    assert " | - | 1.0000 [1.0000, 1.0000] |" in main


def test_a_missing_cut_off_falls_back_to_what_there_is(rows):
    assert "NDCG@5" in render([row for row in rows if row["k"] in (5, None)])
    assert "NDCG@20" in render([row for row in rows if row["k"] in (20, None)])


def test_a_report_shows_every_cut_off_and_coverage(rows, capsys):
    Report(rows).table()
    printed = capsys.readouterr().out
    assert "coverage" in printed
    assert "cold target" in printed
    assert "@20" in printed


def test_reports_add_up(rows):
    total = Report(rows) + Report(as_model(rows, "sasrec", 1, 0.1))
    assert total.value("ndcg") == pytest.approx(Report(rows).value("ndcg") + 0.1)
    with pytest.raises(KeyError, match="no figure ndcg@7"):
        total.value("ndcg", 7)


def test_no_figure_is_cut_short_on_a_narrow_terminal(rows):
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    print_tables(rows + as_model(rows, "llm-esr", 1) + as_model(rows, "llm-esr", 2), console, details=True)
    assert "…" not in console.file.getvalue()
