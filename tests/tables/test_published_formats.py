"""Yelp's and Amazon's files in the form in which they are published, dirty lines among them, become data sets."""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llm_esr.cli import main
from llm_esr.config import DataConfig, EmbedConfig
from llm_esr.data import Dataset, prepare, prepare_key
from llm_esr.semantics import embed, item_prompts, user_prompts
from llm_esr.tables.published_formats import item_reader, resolved

MARKER = Path("a-hostile-line-ran")


def write(path: Path, lines: list[bytes | str | dict[str, Any]], end: bytes = b"\n") -> Path:
    raw = [line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
           for line in lines]  # fmt: skip
    body = b"".join(line + end for line in raw)
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


def review(user: str | None, item: str | None, time: Any, **more: Any) -> dict[str, Any]:
    given = {"reviewerID": user, "asin": item, "unixReviewTime": time, "overall": 5.0, "reviewText": "It's fine."}
    return {name: value for name, value in (given | more).items() if value is not None}


AMAZON_REVIEWS: list[Any] = [
    review("A1", "B001", 1_389_657_600, helpful=[0, 0], reviewTime="01 14, 2014"),
    review("A1", "B002", 1_389_657_500),
    "",
    review("A1", "B003", 1_389_657_700),
    '{"reviewerID": "A2", "asin": "B001", "unixReviewTime": 13896',  # cut off
    review(None, "B001", 1_389_657_600),
    review("A2", None, 1_389_657_600),
    review("A2", "B001", "soon"),
    b'{"reviewerID": "A2", "asin": "B\xff01", "unixReviewTime": 1389657600}',
    "[1, 2]",
    review("A2", "B001", 1_389_657_600),
    review("A2", "B404", 1_389_657_601),
    review("A2", "B001", 1_389_657_602, overall=1.0),
]

# As of 2014: Python literals. Lines 5 to 9 are dirty, line 10 repeats an item.
META_2014: list[Any] = [
    "{'asin': 'B001', 'title': 'Rosewater &amp; Aloe Mist', 'price': 12.5, 'imUrl': 'http://x/1.jpg', "
    "'related': {'also_bought': ['B002']}, 'salesRank': {'Beauty': 17}, 'brand': 'Heritage', "
    "'categories': [['Beauty', 'Skin Care'], ['Beauty', 'Face']], 'description': \"A face mist.\\nIt's mild.\"}",
    "{'asin': 'B002', 'title': 'Nail file \\d', 'categories': [['Beauty']]}",
    "",
    '{"asin": "B003", "title": "Comb", "price": NaN, "brand": ""}',
    "{'asin': 'B004', 'title': 'Cut",
    "{'asin': 'B004'} and more",
    f"{{'asin': 'B004', 'title': __import__('os').system('touch {MARKER}')}}",
    "{'asin': 'B004', 'title': " + "(" * 5000 + ")" * 5000 + "}",
    b"{'asin': 'B004', 'title': 'caf\xe9'}",
    "{'asin': 'B001', 'title': 'Again'}",
    "{'title': 'Without an id'}",
    "{'asin': ['B005'], 'title': 'A list as an id'}",
    "'a text'",
]

META_2018: list[Any] = [
    {
        "asin": "B001",
        "title": "Rosewater Mist",
        "brand": "Heritage",
        "price": "$12.50",
        "category": ["Beauty", "Skin Care"],
        "feature": ["Mild", "", "4 oz"],
        "description": ["A face mist.", "It is mild."],
        "also_buy": ["B002"],
        "details": {"Weight": "4 ounces"},
    },
    {"asin": "B002", "title": "Nail file", "feature": [], "description": [], "category": [], "price": ""},
    {"asin": "B003", "title": "Comb"},
]

YELP_REVIEWS: list[Any] = [
    {
        "review_id": "r1",
        "user_id": "u1",
        "business_id": "b1",
        "stars": 4.0,
        "date": "2019-03-01 18:04:11",
        "text": "Ok",
    },
    {
        "review_id": "r2",
        "user_id": "u1",
        "business_id": "b2",
        "stars": 2.0,
        "date": "2018-01-05 09:00:00",
        "text": "Hm",
    },
    {"review_id": "r3", "user_id": "u1", "business_id": "b2", "stars": 5.0, "date": "2020-07-07 22:09:11", "text": "!"},
    "not a record",
    {"review_id": "r4", "user_id": "u2", "business_id": "b1", "stars": 5.0, "date": "yesterday", "text": ""},
    {"review_id": "r5", "user_id": "", "business_id": "b1", "stars": 5.0, "date": "2019-03-01 18:04:11", "text": ""},
    {"review_id": "r6", "user_id": "u2", "business_id": "b1", "stars": 5.0, "date": "2019-03-01 18:04:11", "text": "x"},
]

YELP_BUSINESSES: list[Any] = [
    {
        "business_id": "b1",
        "name": "Café Lumen",
        "address": "1 Main St",
        "city": "Tampa",
        "state": "FL",
        "stars": 4.5,
        "categories": "Coffee & Tea, Restaurants",
        "attributes": {
            "WiFi": "u'free'",
            "BusinessParking": "{'garage': False, 'street': True}",
            "NoiseLevel": "None",
            "Caters": None,
        },
        "hours": {"Monday": "8:0-18:0"},
    },
    "{'business_id': 'b2', 'name': 'a literal is no line of Yelp'}",
    {"business_id": "b2", "name": "Barber Joe", "city": "Reno", "state": "NV", "categories": None, "attributes": None},
    {"business_id": "b9", "name": "Never seen"},
]


def amazon(folder: Path, metadata: list[Any], suffix: str = ".json", end: bytes = b"\n", **options: Any) -> Dataset:
    return prepare(
        write(folder / f"reviews_Beauty{suffix}", AMAZON_REVIEWS, end),
        items=write(folder / f"meta_Beauty{suffix}", metadata, end),
        out=folder / "data",
        source="amazon",
        **options,
    )


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_amazon_of_2014_is_read_and_every_dirty_line_is_counted(tmp_path: Path, suffix: str, end: bytes) -> None:
    data = amazon(tmp_path, META_2014, suffix, end)
    rows = data.metadata["rows"]
    reviews = rows["interactions"]
    assert (reviews["read"], reviews["kept"], reviews["rejected"]) == (12, 6, 6)
    assert reviews["kinds"] == {"malformed_record": 3, "missing_id": 2, "bad_timestamp": 1}
    assert [example["line"] for example in reviews["examples"]["malformed_record"]] == [5, 9, 10]
    items = rows["items"]
    assert (items["read"], items["kept"], items["rejected"], items["merged"], items["filtered"]) == (12, 3, 8, 1, 0)
    # 12 records: the blank line is none.
    assert items["kinds"] == {"malformed_record": 6, "missing_id": 2, "duplicate": 1}
    assert [example["line"] for example in items["examples"]["malformed_record"]] == [5, 6, 7, 8, 9]
    assert [example["line"] for example in items["examples"]["missing_id"]] == [11, 12]
    assert items["examples"]["duplicate"] == [
        {"file": str(tmp_path / f"meta_Beauty{suffix}"), "line": 10, "value": "B001"}
    ]
    assert data.user_ids == ["A1", "A2"]
    assert data.item_ids == ["B001", "B002", "B003", "B404"]  # the last has no metadata
    assert data.items.tolist() == [2, 1, 3, 1, 4, 1]


def test_amazon_of_2014_gives_plain_texts(tmp_path: Path) -> None:
    table = amazon(tmp_path, META_2014).item_table()
    assert table.row(0, named=True) == {
        "item": 1,
        "item_id": "B001",
        "source_row": 0,
        "training_count": 1,
        "title": "Rosewater & Aloe Mist",
        "brand": "Heritage",
        "price": "12.5",
        "categories": "Beauty > Skin Care; Beauty > Face",
        "features": None,
        "description": "A face mist. It's mild.",
    }
    assert table["title"].to_list() == ["Rosewater & Aloe Mist", "Nail file \\d", "Comb", "unknown"]
    assert table["price"].to_list() == ["12.5", None, None, "unknown"]


def test_amazon_of_2018_gives_the_same_columns(tmp_path: Path) -> None:
    table = amazon(tmp_path, META_2018, ".json.gz").item_table()
    assert table.row(0)[4:] == (
        "Rosewater Mist",
        "Heritage",
        "$12.50",
        "Beauty > Skin Care",
        "Mild; 4 oz",
        "A face mist. It is mild.",
    )
    assert table.row(1)[4:] == ("Nail file", None, None, None, None, None)


def test_a_hostile_literal_is_a_dirty_line_and_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = amazon(tmp_path, META_2014)
    hostile = data.metadata["rows"]["items"]["examples"]["malformed_record"][2]
    assert hostile["line"] == 7
    assert "__import__('os').system" in hostile["value"]
    assert not MARKER.exists()


@pytest.mark.parametrize(
    "line",
    [
        b"{'a': " + b"-" * 100_000 + b"1}",
        b"{'a': " + b"[" * 150 + b"]" * 150 + b"}",
        b"{'a': 1" + b"+1j" * 50_000 + b"}",
        b"{'a': " + b"9" * 10_000 + b"}",
        b"{'a': '" + b"x" * (1 << 20) + b"'}",
        b"{'a': open('x')}",
        b"{'a': {[]: 1}}",
        b"{'a': [b for b in ()]}",
        b"{'a': 'b'\x00}",
    ],
    ids=["signs", "nesting", "sums", "digits", "length", "call", "list as a key", "comprehension", "null byte"],
)
def test_a_literal_that_asks_too_much_is_a_dirty_line(line: bytes) -> None:
    try:
        record = item_reader("amazon", "asin")(line)
    except ValueError as error:
        assert "Python literal" in str(error)
    else:
        assert set(record) == {"title", "brand", "price", "categories", "features", "description"}


def test_yelp_is_read_and_every_dirty_line_is_counted(tmp_path: Path) -> None:
    data = prepare(
        write(tmp_path / "yelp_academic_dataset_review.json", YELP_REVIEWS),
        items=write(tmp_path / "yelp_academic_dataset_business.json", YELP_BUSINESSES),
        out=tmp_path / "data",
        source="yelp",
    )
    rows = data.metadata["rows"]
    assert rows["interactions"]["kinds"] == {"malformed_record": 1, "missing_id": 1, "bad_timestamp": 1}
    assert (rows["interactions"]["read"], rows["interactions"]["kept"]) == (7, 4)
    assert rows["items"]["kinds"] == {"malformed_record": 1, "unseen": 1}
    assert rows["items"]["examples"]["malformed_record"][0]["line"] == 2
    assert data.items.tolist() == [2, 1, 2, 1]  # by date, not by line
    assert data.title_column == "name"
    assert data.item_table().row(0)[4:] == (
        "Café Lumen",
        "Tampa",
        "FL",
        "Coffee & Tea, Restaurants",
        "4.5",
        "WiFi: free; BusinessParking: garage: False, street: True",
    )


def test_filters_read_the_stars_of_a_review(tmp_path: Path) -> None:
    path = write(tmp_path / "review.json", YELP_REVIEWS)
    data = prepare(path, out=tmp_path / "data", source="yelp", where="stars > 3")
    assert data.metadata["rows"]["interactions"]["kinds"]["where"] == 1
    assert data.n_interactions == 3


def test_an_option_that_was_given_wins_over_the_source(tmp_path: Path) -> None:
    lines = [{"who": "u1", "business_id": "b1"}, {"who": "u1", "business_id": "b2"}]
    path = write(tmp_path / "mine.json", lines)
    data = prepare(path, out=tmp_path / "data", source="yelp", user_column="who", timestamp_column=None)
    assert data.user_ids == ["u1"]
    assert data.timestamps is None
    assert data.metadata["config"]["item_column"] == "business_id"
    assert resolved(DataConfig(source="yelp", item_column="shop")).item_column == "shop"


def test_an_items_table_of_ones_own_stays_a_table(tmp_path: Path) -> None:
    reviews = write(tmp_path / "reviews.json", AMAZON_REVIEWS)
    items = pl.DataFrame({"asin": ["B001", "B002"], "title": ["Mist", "File"], "colour": ["pink", "grey"]})
    data = prepare(reviews, items=items, out=tmp_path / "data", source="amazon")
    assert data.text_columns == ["title", "colour"]


def test_the_key_of_a_publishers_data_set_is_that_of_its_inputs_and_settings(tmp_path: Path) -> None:
    data = prepare(write(tmp_path / "r.json", YELP_REVIEWS), out=tmp_path / "data", source="yelp")
    assert data.metadata["key"] == prepare_key(tmp_path / "r.json", None, DataConfig(source="yelp"))
    assert data.metadata["key"] != prepare_key(tmp_path / "r.json", None, DataConfig(item_column="business_id"))


def test_a_file_of_another_publisher_is_named_with_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "review.json", YELP_REVIEWS)
    with pytest.raises(ValueError, match=r"no column 'reviewerID' \(it has: review_id, .*user_column"):
        prepare(path, out=tmp_path / "data", source="amazon")
    reviews = write(tmp_path / "reviews.json", AMAZON_REVIEWS)
    with pytest.raises(ValueError, match=r"no column 'asin' .*items_id_column"):
        prepare(reviews, items=write(tmp_path / "b.json", YELP_BUSINESSES), out=tmp_path / "data", source="amazon")


@pytest.mark.parametrize(("name", "metadata"), [("beauty", META_2014), ("fashion", META_2018)])
def test_from_amazons_files_to_prompts_and_vectors(tmp_path: Path, name: str, metadata: list[Any]) -> None:
    data = amazon(tmp_path, metadata)
    first, second, *_ = item_prompts(data, name)
    expected = {
        "beauty": "A beauty product. Title: Rosewater & Aloe Mist. Brand: Heritage. Price: 12.5. Categories: "
        "Beauty > Skin Care; Beauty > Face. Description: A face mist. It's mild.",
        "fashion": "A fashion article. Title: Rosewater Mist. Brand: Heritage. Price: $12.50. Features: Mild; 4 oz. "
        "Description: A face mist. It is mild.",
    }
    assert first == expected[name]
    assert second.endswith("Description: unknown")
    prompts = list(user_prompts(data, [0, 1], name))
    assert "earliest first: Nail file" in prompts[0]  # the other two are held out
    assert "prefers" in prompts[0]
    settings = EmbedConfig(encoder="lsa", item_template=name, user_template=name, user_vectors="prompt")
    made = embed(data, config=settings, progress=False)
    assert made.item_embeddings is not None
    assert made.item_embeddings.shape[0] == 4


def test_the_commands_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("review.json"), YELP_REVIEWS)
    write(Path("business.json"), YELP_BUSINESSES)
    with pytest.raises(SystemExit) as left:
        main(
            shlex.split(
                "prepare review.json --items business.json --source yelp --duplicates first --out yelp "
                "--where \"date >= '2000-01-01' AND date <= '2020-01-01 00:00:00'\""
            )
        )
    assert left.value.code == 0
    data = Dataset.open("yelp")
    # The line with a date of its own kind is dirty before any condition is asked.
    assert data.metadata["rows"]["interactions"]["kinds"] == {
        "malformed_record": 1,
        "missing_id": 1,
        "bad_timestamp": 1,
        "where": 1,
    }
    assert item_prompts(data, "yelp")[1] == (
        "A business on Yelp. Name: Barber Joe. Place: Reno, NV. Categories: unknown. Average stars: unknown. "
        "Attributes: unknown"
    )
