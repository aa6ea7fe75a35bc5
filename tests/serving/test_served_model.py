"""What the server answers is what `Recommender` gives; what it refuses is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from llm_esr.serving import Recommender
from llm_esr.serving.http.bodies import RecommendBody, SimilarBody
from llm_esr.serving.http.limits import Limits
from llm_esr.serving.http.problems import RequestError, of_validation
from llm_esr.serving.http.served_model import ServedModel, score_batch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
LIMITS = Limits(history=6, lists=5, k=40, id=20)


@pytest.fixture
def served(recommender: Recommender) -> ServedModel:
    return ServedModel(recommender, LIMITS)


@pytest.mark.parametrize(
    "asked",
    [
        {"users": ["u0", "u3", "u0"], "k": 4},
        {"histories": [["i3", "i9"], [], ["i1", "i1", "i2", "i5"]], "k": 3},
        {"users": ["u1"], "keep_seen": True, "k": 12},
        {"histories": [["i2"]], "include": ["i2", "i4", "i6"], "exclude": ["i6"], "k": 5},
        {"users": ["u2"], "exclude": ["i1", "i2"]},
        {"users": []},
    ],
)
def test_lists_are_those_of_the_recommender(
    served: ServedModel, recommender: Recommender, asked: dict[str, Any], recwarn: Any
) -> None:
    wanted = served.wanted(RecommendBody.model_validate(asked))
    answers = score_batch(wanted) if wanted else []
    found = recommender.recommend(**asked)
    keys = asked.get("users") or list(range(len(asked.get("histories", []))))
    assert [answer.get("user_id", answer.get("history")) for answer in answers] == keys
    flat = [(item["item_id"], item["title"]) for answer in answers for item in answer["items"]]
    assert flat == list(zip(found["item_id"], found["title"], strict=True))
    np.testing.assert_allclose(
        [item["score"] for answer in answers for item in answer["items"]], found["score"].to_numpy(), atol=1e-6
    )


def test_lists_of_several_lengths_are_one_batch(served: ServedModel, recommender: Recommender) -> None:
    wanted = [
        *served.wanted(RecommendBody(users=["u4"], k=2)),
        *served.wanted(RecommendBody(histories=[["i7", "no such"]], k=6)),
    ]
    assert len({one.kind for one in wanted}) == 1
    short, long = score_batch(wanted)
    assert [item["item_id"] for item in short["items"]] == recommender.recommend(users="u4", k=2)["item_id"].to_list()
    assert [item["item_id"] for item in long["items"]] == (
        recommender.recommend(histories=[["i7"]], k=6)["item_id"].to_list()
    )
    assert long["unknown_items"] == ["no such"] and "unknown_items" not in short


def test_similar_items_are_those_of_the_recommender(served: ServedModel, recommender: Recommender) -> None:
    answers = served.similar(SimilarBody(items=["i3", "i9"], k=3, by="trained"))
    found = recommender.similar_items(["i3", "i9"], 3, "trained")
    assert [(one["similar_to"], item["item_id"]) for one in answers for item in one["items"]] == list(
        zip(found["similar_to"], found["item_id"], strict=True)
    )


@pytest.mark.parametrize(
    ("asked", "status", "kind", "words"),
    [
        ({"users": ["u1", "u77"]}, 404, "unknown_user", "no user 'u77' in the data; a person not in the data"),
        ({"users": ["u1"], "include": ["i99"]}, 404, "unknown_item", "include: no item 'i99' in the data"),
        ({"users": ["u1"], "include": ["i1"], "exclude": ["i1"]}, 422, "nothing_left", "leave no item"),
        ({"users": ["u1"] * 6}, 422, "too_much", "users: 6 came, at most 5"),
        ({"histories": [[], ["i1"] * 7]}, 422, "too_much", "histories.1: 7 came, at most 6"),
        ({"users": ["u1"], "k": 41}, 422, "too_much", "k: 41 came, at most 40"),
        ({"users": ["u" * 21]}, 422, "too_much", "users: an id has 21 characters, at most 20"),
        ({"users": [" "]}, 422, "bad_request", "users: an id is text or a number"),
        ({"histories": [[float("nan")]]}, 422, "bad_request", "histories.0: an id is text or a number"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    served: ServedModel, asked: dict[str, Any], status: int, kind: str, words: str
) -> None:
    with pytest.raises(RequestError) as refused:
        served.wanted(RecommendBody.model_validate(asked))
    assert (refused.value.status, refused.value.kind) == (status, kind)
    assert words in refused.value.words


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "the body is no JSON: EOF"),
        (b"\xff\xfe", 400, "the body is no JSON"),
        (b"[]", 422, "the body: "),
        (b"{}", 422, "the body: give users (known ones) or histories (lists of item ids), got neither"),
        (b'{"users": ["u1"], "histories": []}', 422, "got both"),
        (b'{"histories": [["i1", true]]}', 422, "histories.0.1: "),
        (b'{"users": ["u1"], "k": 0}', 422, "k: expected 1 or more (got 0)"),
        (b'{"users": ["u1"], "k": 2.5}', 422, "k: "),
        (b'{"userz": ["u1"]}', 422, "userz: Extra inputs are not permitted"),
        (b"[" * 5000, 400, "the body is no JSON"),
    ],
)
def test_a_malformed_body_says_what_is_wrong_with_it(body: bytes, status: int, words: str) -> None:
    with pytest.raises(ValidationError) as found:
        RecommendBody.model_validate_json(body)
    problem = of_validation(found.value)
    assert problem.status == status and words in problem.words, problem.words


def test_a_limit_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="the server's limit history is 0; expected a number above 0"):
        Limits(history=0)


def test_the_bodies_of_the_page_are_taken() -> None:
    lines = re.findall(r"curl \S+(/recommend|/similar) -d '(.*?)'", PAGE.read_text(encoding="utf-8"))
    assert {path for path, _ in lines} == {"/recommend", "/similar"}
    for path, body in lines:
        kind = RecommendBody if path == "/recommend" else SimilarBody
        assert kind.model_validate_json(body) == kind.model_validate(json.loads(body))
