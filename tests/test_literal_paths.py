"""A path that a user gives is that path: no character of it is read as a pattern, by any reader or writer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import llm_esr
from llm_esr.files import given_path, write_json
from llm_esr.serving import Recommender, read_user_ids

ROOT = Path(__file__).parent.parent
# Each beside another file or folder that it means when it is read as a pattern.
NAMES = [("events[1]", "events1"), ("events*", "events-all"), ("event?", "events"), ("~", "tilde"), ("k=v", "kv")]


def frame(item: str) -> pl.DataFrame:
    rows = [(f"u{user}", f"{item}{(user + place) % 7}", 60 * place) for user in range(30) for place in range(5)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def write(table: pl.DataFrame, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        {".parquet": table.write_parquet, ".csv": table.write_csv, ".jsonl": table.write_ndjson}[path.suffix](file)
    return path


@pytest.mark.parametrize(("name", "decoy"), NAMES)
@pytest.mark.parametrize("kind", [".parquet", ".csv", ".jsonl"])
def test_tables(name: str, decoy: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (Path(name), Path(decoy)):
        for file in (name, decoy):
            right = folder == Path(name) and file == name
            write(frame("right" if right else "WRONG"), folder / (file + kind))
    items = write(pl.DataFrame({"item_id": ["right0"], "title": ["a title"]}), Path(name) / ("items[1]" + kind))
    write(pl.DataFrame({"item_id": ["right0"], "title": ["WRONG"]}), Path(name) / ("items1" + kind))
    data = llm_esr.prepare(Path(name) / (name + kind), items=items, out=Path("out[1]") / name)
    assert set(data.item_ids) == {f"right{n}" for n in range(7)}
    assert data.titles() is not None and "a title" in (data.titles() or [])
    assert (tmp_path / "out[1]" / name / "dataset.json").exists()


def test_a_run_folder_and_what_is_written_into_it(tmp_path: Path) -> None:
    for name, item in (("[v]", "right"), ("v", "WRONG")):
        table = write(frame(item), tmp_path / f"{item}.parquet")
        llm_esr.run(table, out=tmp_path / name, models=["sasrec"], epochs=1, config={"model": {"width": 8}},
                    progress=False)  # fmt: skip
    model = Recommender.load(tmp_path / "[v]")
    assert model.data.item_ids[0].startswith("right")
    for users in ("[1].parquet", "[1].csv"):
        write(pl.DataFrame({"user_id": ["u1"]}), tmp_path / "[v]" / users)
        write(pl.DataFrame({"user_id": ["WRONG"]}), tmp_path / "[v]" / users.replace("[1]", "1"))
        assert read_user_ids(tmp_path / "[v]" / users) == ["u1"]
    out = tmp_path / "[v]" / "recs[2].parquet"
    assert model.recommend_to(out, k=2) == 60 and out.exists()


def test_lists_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_esr.serving.recommend._ROWS_A_PART", 10)
    table = write(frame("right"), tmp_path / "e.parquet")
    run = llm_esr.run(table, out=tmp_path / "[r]", models=["transitions"], progress=False)
    out = tmp_path / "[r]" / "a*b[c].parquet"
    assert run.recommender().recommend_to(out, k=2) == 60
    with out.open("rb") as file:
        assert pl.read_parquet(file).height == 60


@pytest.mark.parametrize("kind", ["npy", "parquet", "safetensors"])
def test_vectors(kind: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    data = llm_esr.prepare(write(frame("i"), tmp_path / "e.parquet"), out=tmp_path / "data")
    for name, value in (("v[1]", 1.0), ("v1", -1.0)):
        vectors = np.full((data.n_items, 4), value, np.float32) + np.arange(4, dtype=np.float32) * value
        vectors[0] *= 2
        path = tmp_path / f"{name}.{kind}"
        if kind == "npy":
            np.save(path, vectors)
        elif kind == "parquet":
            write(pl.DataFrame({"item_id": data.item_ids, "vector": vectors.tolist()}), path)
        else:
            save_file(dict(zip(data.item_ids, vectors, strict=True)), path)
    items = write(pl.DataFrame({"item_id": data.item_ids, "title": ["t"] * data.n_items}), tmp_path / "items.parquet")
    data = llm_esr.prepare(tmp_path / "e.parquet", items=items, out=tmp_path / "data")
    stored = llm_esr.embed(data, encoder=f"file:{tmp_path}/v[1].{kind}", progress=False).item_embeddings
    assert stored is not None and (np.asarray(stored) > 0).all()


def test_polars_opens_files_in_one_place_alone() -> None:
    opening = re.compile(r"pl\.(read|scan)_\w+\((?!(path|file)\.read_bytes)|\.(write|sink)_(parquet|csv|ndjson)\(")
    own = ROOT / "python" / "llm_esr" / "files" / "parquet.py"
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / "python").rglob("*.py"))
        if path != own
        for line in path.read_text(encoding="utf-8").splitlines()
        if opening.search(line) and ".absolute()" not in line
    ]
    assert not found, "let files/parquet.py open these:\n" + "\n".join(found)


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    events = pl.DataFrame({"user_id": ["u"] * 4, "item_id": list("abcd"), "timestamp": [1, 2, 3, 4]})
    (tmp_path / "real").mkdir()
    for name in ("real", "not there yet"):
        link = tmp_path / f"to {name}"
        link.symlink_to(tmp_path / name)
        for _ in range(2):
            llm_esr.prepare(events, out=link)
        assert link.is_symlink() and (tmp_path / name / "dataset.json").exists()
        assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    (tmp_path / "a.txt").write_text("before")
    (tmp_path / "b.json").symlink_to("a.txt")
    write_json(tmp_path / "b.json", 1)
    assert (tmp_path / "b.json").is_symlink() and (tmp_path / "a.txt").read_text() == "1\n"


def test_a_tilde_that_is_written_with_its_folder_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert given_path("./~") == Path("~") and given_path("./~/a") == Path("~/a")
    assert given_path("~") == Path.home() and given_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
