"""How similar users are shown: whose history, how near, what each met."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from llm_esr.cli.terminal import line_length, shortened
from llm_esr.files import printable, read_record

if TYPE_CHECKING:
    from llm_esr.data import Dataset
    from llm_esr.serving.similar_users import UserInWords

_NEWEST = 10  # items of a history that are shown


def print_similar_users(data: Dataset, user: str) -> None:
    """Print a user's training items and those of the most similar users, in words."""
    from llm_esr.retrieval import COMPARED_BY  # noqa: PLC0415 (brings NumPy)
    from llm_esr.serving.similar_users import similar_users_in_words  # noqa: PLC0415 (brings torch)

    asked, *others = similar_users_in_words(data, user)
    _line(f"{asked.user_id} met in training ({_count(asked)}, oldest first):")
    _print_items(asked, mark=False)
    if not others:
        _line("nobody is similar: the user has no training item, its vector is zero, or nobody else may be one")
        return
    sidecar = data.folder / "similar_users.json"
    by = (read_record(sidecar) if sidecar.exists() else {}).get("users_by")
    _line(f"the most similar users{f', by {COMPARED_BY[by]}' if by in COMPARED_BY else ''}; * marks an item in common:")
    for rank, other in enumerate(others, 1):
        cosine = "cosine not stored" if other.cosine is None else f"cosine {other.cosine:.3f}"
        shared = len({item.item_id for item in other.items if item.shared})
        _line(f"  {rank}. {other.user_id}  {cosine}  ({_count(other)}, {shared} in common)")
        _print_items(other, mark=True)


def _count(user: UserInWords) -> str:
    return f"{len(user.items)} item{'' if len(user.items) == 1 else 's'}"


def _print_items(user: UserInWords, *, mark: bool) -> None:
    """The newest items, a line each."""
    earlier = len(user.items) - _NEWEST
    if earlier > 0:
        hidden = sum(item.shared for item in user.items[:earlier]) if mark else 0
        _line(f"       ... {earlier} earlier" + (f", {hidden} of them in common" if hidden else ""))
    for item in user.items[-_NEWEST:]:
        start = f"     {'*' if mark and item.shared else ' '} "
        _line(start + name_in_words(item.item_id, item.title, line_length(Console()) - len(start)))


def name_in_words(item_id: str, title: str | None, room: int) -> str:
    """An item as `title (id)`, a long title cut so that all of it fits into so many cells."""
    item_id = printable(item_id)
    return item_id if title is None else f"{shortened(printable(title), room - len(item_id) - 3)} ({item_id})"


def _line(text: str) -> None:
    Console().print(printable(text), markup=False, highlight=False, soft_wrap=True)
