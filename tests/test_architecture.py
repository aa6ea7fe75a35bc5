"""The tree is what docs/architecture.md says: rooms in their order, no circles, no copies, no file that is too long.

The checks read source text alone (`ast`), so they need neither torch nor the extension.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "llm_esr"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = (ROOT / "CONTRIBUTING.md", ARCHITECTURE, ROOT / "docs" / "data-flow.md")
# What a page's paths may be relative to.
BASES = (ROOT, ROOT / "python", PACKAGE, ROOT / "rust" / "llm-esr-core" / "src")
SOURCES = ("python", "rust", "tests", "benches")
# Not rooms: the package's face, and the extension.
NO_ROOMS = {"__init__", "__main__", "_native"}
MOST_LINES = 450
MOST_SHARED = 8
SOURCE_NAME = re.compile(r"[\w.-]+\.(py|pyi|rs|md|toml|yaml)")
# Files of runs and data folders, which no repository holds.
MADE = re.compile(r"runs/.*|.*\.(npy|json|jsonl|parquet|csv|tsv|safetensors|svg)")


@dataclass(frozen=True)
class Import:
    """One imported name: where it stands, and the module that it comes from, as parts below `llm_esr`."""

    path: Path
    line: int
    module: tuple[str, ...]
    name: str
    typing: bool

    @property
    def here(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def what(self) -> str:
        return ".".join(("llm_esr", *self.module, *filter(None, [self.name])))

    @property
    def rooms(self) -> tuple[str, str]:
        """The importing room and the imported one."""
        return room_of(self.path), self.module[0]

    @property
    def folders(self) -> tuple[str, str]:
        """The importing folder and the imported one."""
        target = PACKAGE.joinpath(*self.module)
        target = target if target.is_dir() else target.parent
        return folder_name(self.path.parent), folder_name(target)


def folder_name(folder: Path) -> str:
    return folder.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms() -> list[str]:
    """The rooms of docs/architecture.md, the lowest first."""
    block = re.search(r"^```rooms\n(.*?)^```", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block, "docs/architecture.md has no block that starts with ```rooms; write one line a room: `name/  what`"
    names = [line.split()[0].rstrip("/").removesuffix(".py") for line in block[1].splitlines() if line.strip()]
    assert len(names) == len(set(names)), f"docs/architecture.md lists a room twice: {', '.join(names)}"
    return names


def sources(*suffixes: str, below: tuple[str, ...] = SOURCES) -> list[Path]:
    found = [path for top in below for path in (ROOT / top).rglob("*") if path.suffix in suffixes]
    return sorted(path for path in found if "target" not in path.parts and "__pycache__" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@cache
def lazy_names() -> dict[str, tuple[str, ...]]:
    """Names that `llm_esr/__init__.py` imports when they are asked for, with the modules that hold them."""
    homes = {}
    for node in ast.walk(parsed(PACKAGE / "__init__.py")):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    homes[str(key.value)] = tuple(str(value.value).split(".")[1:])
    return homes


def is_module(parts: tuple[str, ...]) -> bool:
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyi"))


def nodes_with_guard(node: ast.AST, typing: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, each with whether it stands under `if TYPE_CHECKING:`."""
    yield node, typing
    guards = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from nodes_with_guard(child, typing or (guards and field == "body"))


def imports_of(path: Path) -> Iterator[Import]:
    """What a file of the package imports from the package, in functions too."""
    package = ("llm_esr", *path.relative_to(PACKAGE).parts[:-1])
    for node, typing in nodes_with_guard(parsed(path)):
        if isinstance(node, ast.Import):
            names = [(tuple(alias.name.split(".")), "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = (*start, *(node.module or "").split(".")) if node.module else start
            names = [(module, alias.name) for alias in node.names]
        else:
            continue
        for (top, *rest), name in names:
            parts = tuple(rest)
            if top != "llm_esr":
                continue
            if name and is_module((*parts, name)):
                yield Import(path, node.lineno, (*parts, name), "", typing)
            elif found := parts or lazy_names().get(name, ()):
                yield Import(path, node.lineno, found, name, typing)


@cache
def all_imports() -> tuple[Import, ...]:
    """The package's imports of itself, but those of its face and of the extension."""
    found = [one for path in sorted(PACKAGE.rglob("*.py")) if room_of(path) not in NO_ROOMS for one in imports_of(path)]
    return tuple(one for one in found if one.module[0] not in NO_ROOMS)


def against_the_order(*, typing: bool) -> list[str]:
    """Imports of a room above, those under `if TYPE_CHECKING:` or the others."""
    order = {name: place for place, name in enumerate(rooms())}
    found = []
    for one in all_imports():
        own, other = one.rooms
        if one.typing == typing and own in order and other in order and order[other] > order[own]:
            remedy = f"move what it needs down to {own}/ or below, or this code up to {other}/ or above"
            found.append(f"{one.here} imports {one.what}, but {other}/ stands above {own}/; {remedy}")
    return found


def circle(ends: Callable[[Import], tuple[str, str]]) -> list[str]:
    """One circle among the places that `ends` names, an import a step; nothing where there is none."""
    edges: dict[str, dict[str, Import]] = {}
    for one in all_imports():
        own, other = ends(one)
        # A folder and one inside it are one place, seen from far and from near.
        nested = f"{own}/".startswith(f"{other}/") or f"{other}/".startswith(f"{own}/")
        if not nested and "." not in (own, other):
            edges.setdefault(own, {}).setdefault(other, one)
    finished: set[str] = set()

    def search(place: str, way: list[str]) -> list[str]:
        if place in way:
            round_trip = [*way[way.index(place) :], place]
            return [describe_step(edges[a][b], a, b) for a, b in itertools.pairwise(round_trip)]
        if place not in finished:
            for other in edges.get(place, {}):
                if found := search(other, [*way, place]):
                    return found
            finished.add(place)
        return []

    return next((found for place in sorted(edges) if (found := search(place, []))), [])


def describe_step(one: Import, own: str, other: str) -> str:
    return f"{one.here} imports {one.what}: {own}/ -> {other}/; move what both need into the lower of the two"


def private_across_folders() -> list[str]:
    found = []
    for one in all_imports():
        own, other = one.folders
        private = [part for part in (*one.module, one.name) if part.startswith("_") and not part.startswith("__")]
        if private and own != other:
            remedy = f"give it a name without the underscore there, or move it into {own}/"
            found.append(f"{one.here} imports {one.what}, but {private[0]} is private to {other}/; {remedy}")
    return found


def too_long() -> list[str]:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(".py", ".rs")}
    return [
        f"{path.relative_to(ROOT)}:{MOST_LINES + 1} has {length} lines, at most {MOST_LINES}; move a part that has a "
        f"name of its own into a file beside it"
        for path, length in lengths.items()
        if length > MOST_LINES
    ]


def top_names(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What a module or a class defines or imports."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id: node for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0]: node for alias in node.names}
        elif isinstance(node, ast.If | ast.Try):
            found |= top_names(node.body)
    return found


def name_exists(dotted: str) -> bool:
    """Whether `llm_esr.room.module.Name.attribute` can be found in the source."""
    parts = tuple(dotted.split(".")[1:])
    module = next(parts[:count] for count in range(len(parts), -1, -1) if is_module(parts[:count]))
    names = parts[len(module) :]
    path = PACKAGE.joinpath(*module)
    files = [path / "__init__.py", path.with_suffix(".py"), path.with_suffix(".pyi")]
    if not names or (not module and names[0] in lazy_names()):
        return True
    for file in filter(Path.exists, files):
        node = top_names(parsed(file).body).get(names[0])
        inside = top_names(node.body) if isinstance(node, ast.ClassDef) else {}
        return node is not None and all(name in inside for name in names[1:])
    return False


@cache
def file_names() -> set[str]:
    tops = (path for path in ROOT.iterdir() if path.is_file())
    return {
        path.name for path in (*tops, *sources(".py", ".pyi", ".rs", ".md", ".toml", ".yaml", below=(*SOURCES, "docs")))
    }


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def wrong_in_words(words: str, page: Path) -> str:
    """What is wrong with one name of a page, or nothing."""
    if words.startswith("make ") and (target := words.split()[1]) not in make_targets():
        return f"`{words}`: the Makefile has no target {target} (it has: {', '.join(sorted(make_targets()))})"
    if re.fullmatch(r"llm_esr(\.\w+)+", words):
        return "" if name_exists(words) else f"`{words}`: no module or name under python/llm_esr; name where it is now"
    if not re.fullmatch(r"[\w./-]+", words):
        return ""
    if "/" in words:
        known = any((base / words).exists() for base in (*BASES, page.parent)) or MADE.fullmatch(words)
        return "" if known else f"`{words}`: no such path from the repository, python/llm_esr or rust/llm-esr-core/src"
    if SOURCE_NAME.fullmatch(words) and words not in file_names():
        return f"`{words}`: no file of this name; name the file that does this now"
    return ""


def wrong_names(page: Path) -> list[str]:
    """Names of a page that nothing answers to: in backticks, as link targets, and paths and dotted names in prose."""
    found = []
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
            continue
        names = re.findall(r"^make [a-z-]+", line)
        if not fenced:
            names += [span.strip() for span in re.findall(r"`([^`]+)`", line)]
            names += [link for link in re.findall(r"\]\(([^)#\s]+)", line) if "://" not in link]
            prose = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", " ", line)
            names += re.findall(r"\bllm_esr(?:\.\w+)+", prose)
            names += re.findall(r"(?<![\w/.-])(?:[\w.-]+/)+[\w-]+\.(?:pyi|py|rs|md|toml|yaml)\b", prose)
        wrong = dict.fromkeys(filter(None, (wrong_in_words(name, page) for name in names)))
        found += [f"{page.relative_to(ROOT)}:{number} {words}" for words in wrong]
    return found


def passed_over(path: Path, text: str) -> set[int]:
    """Lines that may stand twice: imports and docstrings."""
    if path.suffix == ".rs":
        spans = [(found.start(), found.end()) for found in re.finditer(r"^\s*(pub )?use [^;]*;", text, re.MULTILINE)]
        return {
            line for start, end in spans for line in range(text.count("\n", 0, start) + 1, text.count("\n", 0, end) + 2)
        }
    skipped: set[int] = set()
    for node in ast.walk(parsed(path)):
        alone = (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )
        if alone or isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return skipped


def lines_that_count(path: Path) -> list[tuple[int, str]]:
    """Line numbers and texts without blank lines, comments, imports, docstrings and lone brackets."""
    text = path.read_text(encoding="utf-8")
    skipped = passed_over(path, text)
    comment = "//" if path.suffix == ".rs" else "#"
    lines = ((number, " ".join(line.split())) for number, line in enumerate(text.splitlines(), 1))
    return [
        (number, line)
        for number, line in lines
        if number not in skipped and re.search(r"\w", line) and not line.startswith(comment)
    ]


def copies(paths: list[Path]) -> list[str]:
    """Pairs of places that share more than `MOST_SHARED` lines in a row."""
    lines = {path: lines_that_count(path) for path in paths}
    width = MOST_SHARED + 1
    first: dict[tuple[str, ...], tuple[Path, int]] = {}
    told: set[tuple[Path, int]] = set()
    found = []
    for path in paths:
        for start in range(len(lines[path]) - width + 1):
            window = tuple(line for _, line in lines[path][start : start + width])
            other, at = first.setdefault(window, (path, start))
            if (other, at) == (path, start) or (other == path and start < at + width) or (path, start) in told:
                continue
            length = width
            while [line for _, line in lines[path][start + length : start + length + 1]] == [
                line for _, line in lines[other][at + length : at + length + 1]
            ] and start + length < len(lines[path]):
                length += 1
            told |= {(path, start + step) for step in range(length)}
            places = [
                f"{p.relative_to(ROOT)}:{lines[p][s][0]}-{lines[p][s + length - 1][0]}"
                for p, s in ((other, at), (path, start))
            ]
            found.append(
                f"{places[1]} repeats {places[0]} ({length} lines); keep it once, in the lower of the two places"
            )
    return found


def say(what: str, found: list[str]) -> str:
    return "\n".join([f"{len(found)} {what}", *found])


def test_every_folder_of_the_package_is_a_room_of_the_architecture_page() -> None:
    there = {room_of(path) for path in PACKAGE.rglob("*") if path.suffix in (".py", ".yaml")} - NO_ROOMS
    listed = set(rooms())
    assert there == listed, (
        f"docs/architecture.md does not list: {', '.join(sorted(there - listed)) or '-'}; it lists what is not in "
        f"python/llm_esr: {', '.join(sorted(listed - there)) or '-'}"
    )


def test_a_room_imports_only_rooms_below_it() -> None:
    found = against_the_order(typing=False)
    assert not found, say("imports of a room above", found)


def test_a_room_names_types_only_of_rooms_below_it() -> None:
    found = against_the_order(typing=True)
    assert not found, say("imports of a room above under `if TYPE_CHECKING:`", found)


def test_no_rooms_import_each_other_in_a_circle() -> None:
    found = circle(lambda one: one.rooms)
    assert not found, say("imports make a circle of rooms", found)


def test_no_folders_import_each_other_in_a_circle() -> None:
    found = circle(lambda one: one.folders)
    assert not found, say("imports make a circle of folders", found)


def test_private_names_stay_in_their_folder() -> None:
    found = private_across_folders()
    assert not found, say("private names imported from another folder", found)


def test_no_source_file_is_too_long_to_read_at_once() -> None:
    found = too_long()
    assert not found, say("files are too long", found)


def test_pages_name_only_what_exists() -> None:
    found = [wrong for page in PAGES for wrong in wrong_names(page)]
    assert not found, say("names in the pages that nothing answers to", found)


def test_no_code_stands_in_two_places() -> None:
    found = copies(sources(".py", ".rs", below=("python", "rust")))
    assert not found, say("copies", found)


SMALL_TREE = {
    "docs/architecture.md": "```rooms\nlow/  numbers\nhigh/  words\n```\n\n`low/gone.py`, `low/a.py`, `make tea`, "
    "`make test`, `llm_esr.low.a.first`, `llm_esr.low.a.third`, `gone.rs`\n",
    "Makefile": "test: ## test\n",
    "python/llm_esr/__init__.py": "_HOMES = {'word': 'llm_esr.high.b'}\n",
    "python/llm_esr/low/a.py": "def first():\n    from llm_esr import word\n\n_second = 1\n",
    "python/llm_esr/high/b.py": "from llm_esr.low.a import _second\nfrom ..low import a\nword = 1\n",
    "python/llm_esr/high/c.py": "\n".join(f"x{i} = {i}  # why" for i in range(451)),
    "python/llm_esr/high/d.py": "import os\n" + "\n\n".join(f"x{i}   =  {i}  # why" for i in range(9)),
}


@pytest.fixture
def small_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tree that breaks each rule once, in place of the real one."""
    for name, text in SMALL_TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    package = tmp_path / "python" / "llm_esr"
    places = {"ROOT": tmp_path, "PACKAGE": package, "ARCHITECTURE": tmp_path / "docs" / "architecture.md"}
    for name, place in (places | {"BASES": (tmp_path, package)}).items():
        monkeypatch.setattr(sys.modules[__name__], name, place)
    remembered = (all_imports, lazy_names, file_names, make_targets)
    for function in remembered:
        function.cache_clear()
    yield tmp_path
    for function in remembered:
        function.cache_clear()


def test_the_checks_find_what_breaks_a_rule_and_nothing_else(small_tree: Path) -> None:
    def places(found: list[str]) -> list[str]:
        return [line.split()[0] for line in found]

    assert places(against_the_order(typing=False)) == ["python/llm_esr/low/a.py:2"]
    assert against_the_order(typing=True) == []
    assert places(circle(lambda one: one.rooms)) == ["python/llm_esr/high/b.py:1", "python/llm_esr/low/a.py:2"]
    assert places(private_across_folders()) == ["python/llm_esr/high/b.py:1"]
    assert places(too_long()) == ["python/llm_esr/high/c.py:451"]
    assert places(copies(sources(".py"))) == ["python/llm_esr/high/d.py:2-18"]
    wrong = [line.split("`")[1] for line in wrong_names(ARCHITECTURE)]
    assert wrong == ["low/gone.py", "make tea", "llm_esr.low.a.third", "gone.rs"]
