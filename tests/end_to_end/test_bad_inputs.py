"""Wrong inputs of many kinds, each with the message that a user sees; docs/errors.md is made from them.

`LLM_ESR_WRITE_ERRORS=1 pytest tests/end_to_end/test_bad_inputs.py` writes the page anew.
"""

from __future__ import annotations

import builtins
import gzip
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.cli import main
from llm_esr.files import read_json, write_json

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
TITLE = "# What is said about wrong input\n\nMade by `tests/end_to_end/test_bad_inputs.py`, which checks each line.\n"
NEW = "run events.csv --items items.csv --out new "
SAME = "run events.csv --items items.csv --out run "
SEARCH = "tune run --space space.yaml --out found"
FEW = "--set model.width=8 --set index.similar_users=10 --epochs 1"


def nothing(folder: Path) -> None:
    """The inputs are as they should be; the line is what is wrong."""


def edit(name: str, before: str, after: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))

    return change


def truncate(name: str, share: float = 0.5) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return change


def vectors(make: Callable[[int], np.ndarray]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        n_items = pl.read_csv(folder / "items.csv").height
        np.save(folder / "vectors.npy", make(n_items), allow_pickle=True)

    return write


def _with_nan(n: int) -> np.ndarray:
    array = np.ones((n, 4), np.float32)
    array[7, 2] = np.nan
    return array


def _vectors_of_others(folder: Path) -> None:
    table = pl.DataFrame({"item_id": ["x1", "x2"], "vector": [[1.0, 2.0], [0.5, 1.0]]})
    table.write_parquet(folder / "vectors.parquet")


def _milliseconds(folder: Path) -> None:
    events = pl.read_csv(folder / "events.csv").with_columns(pl.col("timestamp") * 1000)
    events.write_csv(folder / "events.csv")


def _no_times(folder: Path) -> None:
    pl.read_csv(folder / "events.csv").drop("timestamp").write_csv(folder / "events.csv")


def _other_shop(folder: Path) -> None:
    text = (folder / "events.csv").read_text()
    (folder / "other.csv").write_text(text.replace("u0", "v0"))


def _empty(folder: Path) -> None:
    (folder / "events.csv").write_text("")


def _broken_gzip(folder: Path) -> None:
    content = gzip.compress((folder / "events.csv").read_bytes())
    (folder / "events.csv.gz").write_bytes(content[: len(content) // 2])


def _yaml(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "mine.yaml").write_text(text)

    return write


def _foreign_folder(folder: Path) -> None:
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter1.tex").write_text("years of work")


def _space(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "space.yaml").write_text(text) and None


def _unfinished(folder: Path) -> None:
    path = folder / "run" / "models" / "sasrec" / "42" / "model.json"
    write_json(path, read_json(path) | {"finished": False})


def _other_shop(folder: Path) -> None:
    events = pl.read_csv(folder / "events.csv").with_columns(item_id="other-" + pl.col("item_id"))
    events.write_csv(folder / "other.csv")
    call("prepare other.csv --out other/data", folder)


def _scorers(folder: Path) -> None:
    call("run events.csv --items items.csv --out scorers --models transitions --quiet", folder)


class _Payload:
    """What a pickle should not be able to do."""

    def __reduce__(self) -> object:
        return builtins.eval, ("open('a-pickle-ran', 'w')",)


def _authors_folder(vectors: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "authors").mkdir()
        (folder / "authors" / "inter.txt").write_text("1 1\n1 2\n1 3\n2 2\n")
        (folder / "authors" / "itm_emb_np.pkl").write_bytes(pickle.dumps(vectors))

    return write


def _as_amazon(folder: Path) -> None:
    (folder / "review.json").write_text('{"user_id": "u1", "business_id": "b1", "stars": 4.0, "date": "2019-03-01"}\n')


@dataclass(frozen=True)
class Case:
    """A mistake: what is changed in a good folder, the line, and what the message must name."""

    title: str
    line: str
    names: tuple[str, ...]
    change: Callable[[Path], None] = nothing


CASES = [
    Case("A file that is not there", "prepare nowhere.csv --out data", ("nowhere.csv",)),
    Case("An empty file", "prepare events.csv --out data", ("events.csv",), _empty),
    Case(
        "A column of another name",
        "prepare events.csv --out data",
        ("user_id", "customer", "--user-column"),
        edit("events.csv", "user_id", "customer"),
    ),
    Case(
        "A format that is not read",
        "prepare events.xlsx --out data",
        ("events.xlsx", "--format"),
        lambda f: shutil.copy(f / "events.csv", f / "events.xlsx") and None,
    ),
    Case("A damaged gzip file", "prepare events.csv.gz --out data", ("events.csv.gz",), _broken_gzip),
    Case("Milliseconds taken for seconds", "prepare events.csv --out data", ("--timestamp-unit",), _milliseconds),
    Case("A condition that is not SQL", "prepare events.csv --out data --where 'item_id >'", ("where",)),
    Case("A condition on an unknown column", "prepare events.csv --out data --where 'Quantity > 0'", ("Quantity",)),
    Case("Filters that leave nothing", "prepare events.csv --out data --min-user-count 999", ("--min-user-count",)),
    Case("A temporal split without times", "prepare events.csv --out data --split temporal", ("timestamp",), _no_times),
    Case("A split that does not exist", "prepare events.csv --out data --split random", ("data.split", "random")),
    Case(
        "An items table without the id column",
        "prepare events.csv --items items.csv --out data",
        ("item_id", "--items-id-column"),
        edit("items.csv", "item_id", "asin"),
    ),
    Case(
        "Items that match no interaction",
        "prepare events.csv --items other.csv --out data",
        ("--items-id-column",),
        lambda f: (f / "other.csv").write_text("item_id,title\nzz,Lamp\n") and None,
    ),
    Case("A folder with other files", "prepare events.csv --out thesis", ("thesis",), _foreign_folder),
    Case("A publisher that is not known", "prepare events.csv --out data --source netflix", ("data.source", "netflix")),
    Case(
        "Another publisher's file",
        "prepare review.json --source amazon --out data",
        ("review.json", "reviewerID", "user_id"),
        _as_amazon,
    ),
    Case(
        "A hostile pickle",
        "convert authors --out data",
        ("itm_emb_np.pkl", "'builtins.eval'", "numpy.asarray"),
        _authors_folder(_Payload()),
    ),
    Case(
        "A pickle with more than numbers",
        "convert authors --out data",
        ("itm_emb_np.pkl", "Python objects"),
        _authors_folder(np.array([[None]], dtype=object)),
    ),
    Case(
        "The authors' vectors of another data set",
        "convert authors --out data",
        ("itm_emb_np.pkl", "4 rows", "number 3"),
        _authors_folder(np.ones((4, 2))),
    ),
    Case(
        "The authors' folder without inter.txt", "convert thesis --out data", ("thesis", "inter.txt"), _foreign_folder
    ),
    Case("A ready template misspelt", NEW + "--set embed.item_template=beuty", ("beuty", "beauty")),
    Case("An unknown encoder", NEW + "--encoder gpt9", ("gpt9", "sentence-transformers")),
    Case("A model folder that is not there", NEW + "--encoder sentence-transformers:./nowhere", ("nowhere",)),
    Case("Tuning without a sentence encoder", NEW + "--set embed.tune=attributes", ("lsa", "sentence-transformers")),
    Case("A template with an unknown column", NEW + "--set 'embed.item_template=\"{colour}\"'", ("colour",)),
    Case(
        "Vectors of another length",
        NEW + "--item-embeddings vectors.npy",
        ("vectors.npy",),
        vectors(lambda n: np.ones((n - 1, 4), np.float32)),
    ),
    Case(
        "Vectors with NaN",
        NEW + "--item-embeddings vectors.npy",
        ("vectors.npy", "not finite", "s00008"),
        vectors(_with_nan),
    ),
    Case(
        "Vectors with one axis",
        NEW + "--item-embeddings vectors.npy",
        ("vectors.npy",),
        vectors(lambda n: np.ones(n, np.float32)),
    ),
    Case(
        "A pickle in a .npy file",
        NEW + "--item-embeddings vectors.npy",
        ("vectors.npy",),
        vectors(lambda n: np.array([{"a": 1}] * n, dtype=object)),
    ),
    Case("Vectors of other items", NEW + "--item-embeddings vectors.parquet", ("vectors.parquet",), _vectors_of_others),
    Case(
        "LLM-ESR without texts and vectors",
        "run events.csv --out plain --models llm-esr",
        ("--items", "--item-embeddings"),
    ),
    Case("No split, and no word on how long", "run events.csv --out plain --split none", ("--epochs",)),
    Case("A setting that does not exist", NEW + "--set model.widht=64", ("model.widht", "model.width")),
    Case("A value that does not fit", NEW + "--set model.dropout=1.5", ("model.dropout", "1.5")),
    Case("Settings that do not fit each other", NEW + "--set model.width=63", ("model.width 63", "model.heads")),
    Case("A preset that does not exist", NEW + "--models sasrek", ("sasrek", "'sasrec'")),
    Case("A configuration that is not YAML", NEW + "--models mine.yaml", ("mine.yaml",), _yaml("model: {width: [")),
    Case("Another model under the same name", SAME + FEW + " --set model.blocks=1", ("model.blocks", "--overwrite")),
    Case(
        "Other data under a trained model", SAME + FEW + " --min-user-count 2", ("data.min_user_count", "--overwrite")
    ),
    Case("A damaged data folder", "train run", ("items.npy",), truncate("run/data/items.npy")),
    Case(
        "Damaged weights",
        "recommend run --user USER",
        ("model.safetensors",),
        truncate("run/models/llm-esr/42/model.safetensors"),
    ),
    Case(
        "A training that is not finished",
        "recommend run/models/sasrec/42 --user USER",
        ("finished",),
        _unfinished,
    ),
    Case("A folder without a model", "evaluate thesis", ("thesis",), _foreign_folder),
    Case("A user who is not known", "recommend run --user nobody", ("nobody",)),
    Case("An item that is not known", "recommend run --user USER --include nothing", ("nothing", "--skip-unknown")),
    Case("A user to explain who is not known", "index run --explain nobody", ("nobody",)),
    Case("Similar users by a model that is not named", "index run --users-by both", ("users_by", "--model")),
    Case("A model that is not read", "index run --model run", ("index.model", "index.users_by")),
    Case(
        "A model without user vectors",
        "index run --users-by both --model scorers",
        ("transitions", "no network"),
        _scorers,
    ),
    Case("No similar user at all", "index run --k 0", ("index.similar_users", "(got 0)")),
    Case("A method of searching that is not known", "index run --method faiss", ("index.method", "hnswlib", "faiss")),
    Case("A recall that is no share", "index run --method lists --recall 99", ("index.recall", "1 or less")),
    Case(
        "Another shop's table into a data folder",
        "prepare other.csv --out run/data",
        ("another source", "events.csv", "other.csv", "--overwrite"),
        _other_shop,
    ),
    Case("hnswlib without its package", "index run --method hnswlib", ("pip install", "llm-esr[hnswlib]")),
    Case("A way to compare items that is not known", "similar run ITEM --by taste", ("co-occurrence", "taste", "--by")),
    Case("Trained vectors of a folder of data", "similar run/data ITEM --by trained", ("run/data", "model", "--by")),
    Case("An item to compare that is not known", "similar run nothing", ("nothing",)),
    Case("Trained vectors of a scorer", "similar scorers ITEM --by trained", ("transitions", "--by"), _scorers),
    Case("Files where an export should go", "export run --out thesis", ("thesis", "no export"), _foreign_folder),
    Case("New items that are known already", "add-items run items.csv", ("111 of the 120", "catalogue already")),
    Case("New items for what knows no texts", "add-items scorers items.csv", ("transitions", "texts"), _scorers),
    Case("An addition to undo that is not there", "add-items run --undo spring", ("spring",)),
    Case(
        "A start that is no model",
        "train run --name on --start-from thesis",
        ("train.start_from", "thesis"),
        _foreign_folder,
    ),
    Case(
        "A start of another shop",
        "train other --config sasrec --start-from run",
        ("train.start_from", "of this shop"),
        _other_shop,
    ),
    Case("A start that is no preset", "train run --start-from preset:sasrek", ("train.start_from", "sasrek")),
    Case(
        "An anchor that is no model",
        "train run --config llmemb --set align.anchor=thesis",
        ("align.anchor", "thesis"),
        _foreign_folder,
    ),
    Case("More cold items than there are", NEW + "--set data.cold_items=1", ("data.cold_items",)),
    Case(
        "A setting to search that is not known", SEARCH, ("space.yaml", "train.learning_rate"), _space("train.lr: [1]")
    ),
    Case(
        "A range beyond a setting's bounds",
        SEARCH,
        ("model.dropout 1.5",),
        _space("model.dropout: {low: 0, high: 1.5}"),
    ),
    Case(
        "A search for a figure that is not known",
        SEARCH + " --maximize map",
        ("--maximize", "map"),
        _space("model.width: [8]"),
    ),
    Case("An encoder's format that is not known", "export run --out exported --to tea", ("tea", "onnx, torch or hub")),
    Case("A port that cannot be", "serve run --port 70000", ("--port 70000", "65535")),
    Case("A limit of nothing", "serve run --max-history 0", ("limit history",)),
    Case("Two ways to say for whom", "recommend run --user USER --history i1", ("--user", "--history")),
    Case("Cut-offs that are no numbers", "evaluate run --k 5,ten", ("--k", "ten")),
    Case("Settings of two protocols", "evaluate run --candidates 10 --keep-seen", ("keep_seen", "candidates")),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good tables and a finished run beside them."""
    folder = tmp_path_factory.mktemp("good")
    interactions, items = llm_esr.simulate(seed=1, n_users=60, n_items=120)
    interactions.write_csv(folder / "events.csv")
    items.write_csv(folder / "items.csv")
    call(SAME + FEW + " --quiet", folder)
    return folder


@pytest.fixture(scope="module")
def page() -> Iterator[dict[str, str]]:
    """Collects what was said, for docs/errors.md."""
    said: dict[str, str] = {}
    yield said
    if os.environ.get("LLM_ESR_WRITE_ERRORS") and len(said) == len(CASES):
        parts = [
            TITLE,
            *(f"## {case.title}\n\n```\n$ llm-esr {case.line}\n{said[case.title]}\n```\n" for case in CASES),
        ]
        PAGE.write_text("\n".join(parts))


def call(line: str, folder: Path) -> int:
    import shlex

    before = Path.cwd()
    os.chdir(folder)
    try:
        main(shlex.split(line))
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        os.chdir(before)
    raise AssertionError("main returns by SystemExit only")


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_a_mistake_is_answered_in_one_clear_line(
    case: Case,
    good: Path,
    tmp_path: Path,
    page: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "hnswlib", None)  # whether it is installed or not
    folder = tmp_path / "work"
    shutil.copytree(good, folder)
    case.change(folder)
    user = str(pl.read_csv(good / "events.csv")["user_id"][0])
    capsys.readouterr()
    item = str(pl.read_csv(good / "events.csv")["item_id"][0])
    code = call(case.line.replace("USER", user).replace("ITEM", item), folder)
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 2, said
    assert len(errors) == 1, said
    assert "Traceback" not in said
    for name in case.names:
        assert name in errors[0]
    page[case.title] = errors[0].replace(str(folder), "/home/you/shop")


def test_the_page_lists_every_case() -> None:
    if os.environ.get("LLM_ESR_WRITE_ERRORS"):
        pytest.skip("the page is being written")
    text = PAGE.read_text()
    for case in CASES:
        assert f"## {case.title}\n\n```\n$ llm-esr {case.line}\nerror: " in text


def test_a_mistake_leaves_the_trained_models_alone(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    shutil.copytree(good, folder)
    before = {path.relative_to(folder): path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    assert call(SAME + FEW + " --min-user-count 2 --quiet", folder) == 2
    after = {path.relative_to(folder): path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    assert after == before
