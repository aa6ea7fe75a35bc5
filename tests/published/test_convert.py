"""The authors' folder becomes a data folder: rows go by id, a hostile or foreign file is refused and leaves nothing."""

from __future__ import annotations

import gzip
import os
import pickle
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.data import Dataset
from llm_esr.files import read_json
from llm_esr.pipeline import doctor
from llm_esr.published import convert
from llm_esr.published.convert import PICKLES
from llm_esr.retrieval import neighbours_match, scores_match

USERS, ITEMS, K = 12, 9, 5


def pairs(rng: np.random.Generator) -> list[tuple[int, int]]:
    """Users 1..USERS in an order of their own, each with 3 to 6 items; every item occurs."""
    rows = [
        (user, item) for user in rng.permutation(USERS) + 1 for item in rng.permutation(ITEMS)[: rng.integers(3, 7)] + 1
    ]
    first = int(rng.permutation(USERS)[0]) + 1
    return rows + [(first, item) for item in range(ITEMS, 0, -1)]


@pytest.fixture
def authors(tmp_path: Path) -> Path:
    """A folder as the authors give it out, everything in `handled/`."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "fashion" / "handled"
    folder.mkdir(parents=True)
    (folder / "inter.txt").write_text("".join(f"{user} {item}\n" for user, item in pairs(rng)))
    items, users = rng.normal(size=(ITEMS, 16)), rng.normal(size=(USERS, 16)).astype(np.float32)
    # The authors drop the first of the ranking as "self"; a row of ours still names the user itself, in the middle.
    similar = np.stack([rng.permutation(USERS)[:K] for _ in range(USERS)])
    similar[3, 2] = 3
    dump(folder, "item_embeddings", items)
    dump(folder, "user_embeddings", users, 2)
    dump(folder, "pca_items", items[:, :4], 5)
    dump(folder, "similar_users", similar, 3)
    return folder.parent


def dump(folder: Path, name: str, value: Any, protocol: int = 4) -> None:
    (folder / PICKLES[name]).write_bytes(pickle.dumps(value, protocol))


def load(folder: Path, name: str) -> Any:
    return pickle.loads((folder / "handled" / PICKLES[name]).read_bytes())


def test_every_row_goes_to_the_item_or_user_of_its_number(authors: Path, tmp_path: Path) -> None:
    data = convert(authors, out=tmp_path / "data", progress=False)
    assert data.item_ids != sorted(data.item_ids)  # numbered by first appearance: row numbers would not do
    assert data.user_ids != sorted(data.user_ids, key=int)
    items, users, table = load(authors, "item_embeddings"), load(authors, "user_embeddings"), load(authors, "pca_items")
    assert data.item_embeddings is not None
    assert data.user_embeddings is not None
    pca = np.load(data.folder / "pca_items.npy")
    assert pca.dtype == np.float32
    for row, external in enumerate(data.item_ids):
        np.testing.assert_array_equal(data.item_embeddings[row], items[int(external) - 1].astype(np.float32))
        np.testing.assert_array_equal(pca[row], table[int(external) - 1].astype(np.float32))
    for row, external in enumerate(data.user_ids):
        np.testing.assert_array_equal(data.user_embeddings[row], users[int(external) - 1])


def test_similar_users_keep_their_order_and_leave_the_user_out(authors: Path, tmp_path: Path) -> None:
    data = convert(authors, out=tmp_path / "data", progress=False)
    similar = load(authors, "similar_users")
    assert data.similar_users is not None
    shortened = 0
    for row, external in enumerate(data.user_ids):
        theirs = similar[int(external) - 1]
        expected = [str(other + 1) for other in theirs if other != int(external) - 1]
        named = data.similar_users[row]
        assert [data.user_ids[other] for other in named if other >= 0] == expected
        assert (named[len(expected) :] == -1).all()
        shortened += len(expected) < K
    assert shortened >= 1


def test_the_authors_similar_users_get_the_cosines_of_their_user_vectors(authors: Path, tmp_path: Path) -> None:
    data = convert(authors, out=tmp_path / "data", progress=False)
    assert data.similar_users is not None and data.similar_users_scores is not None
    vectors = np.asarray(data.user_embeddings, np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.where(data.similar_users < 0, 0, (unit @ unit.T)[np.arange(USERS)[:, None], data.similar_users])
    np.testing.assert_allclose(data.similar_users_scores, expected, atol=1e-6)
    assert scores_match(data)
    (authors / "handled" / PICKLES["user_embeddings"]).unlink()
    assert convert(authors, out=tmp_path / "without", progress=False).similar_users_scores is None


def test_histories_keep_the_order_of_the_file(authors: Path, tmp_path: Path) -> None:
    data = convert(authors, out=tmp_path / "data", progress=False)
    read: dict[str, list[str]] = {}
    for line in (authors / "handled" / "inter.txt").read_text().splitlines():
        user, item = line.split()
        read.setdefault(user, []).append(item)
    for row, external in enumerate(data.user_ids):
        assert [data.item_ids[item - 1] for item in data.history(row, "serving")] == read[external]


def test_what_comes_out_is_a_whole_data_folder(authors: Path, tmp_path: Path) -> None:
    data = convert(authors, out=tmp_path / "data", progress=False)
    assert neighbours_match(data)
    assert data.similar_items is not None
    assert data.similar_items.min() >= 1 or -1 in data.similar_items
    for name in ("item_embeddings", "user_embeddings", "similar_users", "similar_items", "pca_items"):
        about = read_json(data.folder / f"{name}.json")
        assert about["shape"] == list(np.load(data.folder / f"{name}.npy").shape)
    assert read_json(data.folder / "similar_users.json")["engine"] == "the authors' sim_user_100.pkl"
    assert "damaged" not in str(doctor(data.folder))
    config = llm_esr.load_config(
        None, ["train.epochs=1", "model.width=8", "distill.similar_users=3", "model.max_len=8", "negatives.count=4"]
    )
    model = llm_esr.train(data, config=config, out=tmp_path / "model", progress=False)
    assert model.recommend(histories=[["3", "4"]], k=2).height == 2


def test_files_may_lie_side_by_side_and_be_compressed_or_lists(authors: Path, tmp_path: Path) -> None:
    plain = convert(authors, out=tmp_path / "one", progress=False)
    handled = authors / "handled"
    (handled / "inter.txt.gz").write_bytes(gzip.compress((handled / "inter.txt").read_bytes()))
    (handled / "inter.txt").unlink()
    dump(handled, "similar_users", load(authors, "similar_users").tolist())
    again = convert(handled, out=tmp_path / "two", progress=False)
    np.testing.assert_array_equal(again.similar_users, plain.similar_users)
    np.testing.assert_array_equal(again.item_embeddings, plain.item_embeddings)


def test_pickles_that_are_not_there_are_left_out(authors: Path, tmp_path: Path) -> None:
    for name in ("user_embeddings", "similar_users", "pca_items"):
        (authors / "handled" / PICKLES[name]).unlink()
    data = convert(authors, out=tmp_path / "data", progress=False)
    assert data.item_embeddings is not None
    assert data.user_embeddings is None
    assert data.similar_users is None


def _hostile(marker: Path) -> bytes:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    return pickle.dumps(Payload())


def test_a_hostile_pickle_is_refused_by_name_and_leaves_nothing(
    authors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "a-pickle-ran"
    (authors / "handled" / "sim_user_100.pkl").write_bytes(_hostile(marker))
    with pytest.raises(SystemExit) as left:
        main(shlex.split(f"convert {authors} --out {tmp_path / 'data'}"))
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "sim_user_100.pkl asks for 'posix.system'" in said or "sim_user_100.pkl asks for 'nt.system'" in said
    assert not marker.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fashion"]


def test_a_refused_file_leaves_the_old_data_folder_as_it_was(authors: Path, tmp_path: Path) -> None:
    data = convert(authors, out=tmp_path / "data", progress=False)
    before = {path.name: path.read_bytes() for path in data.folder.iterdir()}
    (authors / "handled" / "itm_emb_np.pkl").write_bytes(_hostile(tmp_path / "ran"))
    with pytest.raises(ValueError, match=r"itm_emb_np\.pkl"):
        convert(authors, out=tmp_path / "data", progress=False)
    assert {path.name: path.read_bytes() for path in data.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("item_embeddings", np.ones((ITEMS + 1, 4)), r"itm_emb_np\.pkl has 10 rows, .* has items up to number 9"),
        ("user_embeddings", np.ones((USERS - 1, 4)), r"usr_emb_np\.pkl has 11 rows, .* has users up to number 12"),
        ("pca_items", np.ones((ITEMS - 1, 4)), r"pca64_itm_emb_np\.pkl has 8 rows"),
        ("similar_users", np.zeros((USERS + 3, 4), int), r"sim_user_100\.pkl has 15 rows"),
        ("similar_users", np.full((USERS, 4), USERS), r"row 0 names user row 12; expected 0 to 11 .*from 0"),
        ("similar_users", np.full((USERS, 4), -1), r"row 0 names user row -1"),
        ("similar_users", np.ones((USERS, 4)), r"holds float64 \(12, 4\); expected whole numbers"),
        ("item_embeddings", np.ones((ITEMS, 4), int), r"holds int64 \(9, 4\); expected vectors of floats"),
        ("item_embeddings", np.ones(ITEMS), r"holds float64 \(9,\); expected vectors"),
        ("item_embeddings", np.full((ITEMS, 4), np.nan), r"vector of item \d+ \(and of 8 others\) .* not finite"),
        ("item_embeddings", np.full((ITEMS, 4), 1e300), r"not finite as float32"),
    ],
)  # fmt: skip
def test_files_that_do_not_belong_together_are_named(
    authors: Path, tmp_path: Path, name: str, value: Any, said: str
) -> None:
    dump(authors / "handled", name, value)
    with pytest.raises(ValueError, match=said):
        convert(authors, out=tmp_path / "data", progress=False)
    assert not (tmp_path / "data").exists()


def test_ids_that_are_no_numbers_have_no_row(authors: Path, tmp_path: Path) -> None:
    path = authors / "handled" / "inter.txt"
    path.write_text(path.read_text() + "u13 4\n")
    with pytest.raises(ValueError, match=r"inter\.txt: user 'u13' is no whole number from 1"):
        convert(authors, out=tmp_path / "data", progress=False)


def test_a_folder_of_something_else_is_explained(authors: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        convert(tmp_path / "nowhere", out=tmp_path / "data")
    with pytest.raises(FileNotFoundError, match=r"has no inter\.txt"):
        convert(tmp_path, out=tmp_path / "data")
    for name in PICKLES.values():
        (authors / "handled" / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"has none of itm_emb_np\.pkl.*`llm-esr prepare"):
        convert(authors, out=tmp_path / "data")
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("years of work")
    with pytest.raises(ValueError, match="other files"):
        convert(authors, out=thesis)


@pytest.mark.shared_data
def test_the_papers_fashion_file_takes_vectors_by_number(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fashion"
    folder.mkdir()
    (folder / "inter.txt.gz").symlink_to(shared_data / "fashion_paper" / "inter.txt.gz")
    numbers = np.arange(1, 4723, dtype=np.float32)
    dump(folder, "item_embeddings", np.stack([numbers, np.ones_like(numbers)], axis=1))
    data = convert(folder, out=tmp_path / "data", progress=False)
    assert (data.n_users, data.n_items, data.n_interactions) == (9094, 4722, 34759)
    assert data.item_embeddings is not None
    assert [str(int(number)) for number in data.item_embeddings[:, 0]] == data.item_ids


def test_the_command_says_what_it_made(authors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(shlex.split(f"convert {authors} --out {tmp_path / 'data'}"))
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{USERS} users, {ITEMS} items, ")
    assert "interactions: read " in said
    assert f"similar_users.npy: {USERS} rows, {K} wide" in said
    assert Dataset.open(tmp_path / "data").n_users == USERS
