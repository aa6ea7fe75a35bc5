"""What torch itself offers: a `DataLoader` whose collate function pads with `pad_sequence` and draws negatives at once.

`__getitem__` only slices tensors; everything else is done for the whole batch by torch's operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from workload import Histories

from peers import Dense

Entry = tuple[int, Tensor, list[Tensor]]


class TorchDataset(Dataset[Entry]):
    """A student's newest items, and those of its similar users.

    Args:
        folder: the data folder.
        n_items: I.
        max_len: L.
        similar_users: K; 0: none.

    """

    def __init__(self, folder: Path, n_items: int, max_len: int, similar_users: int) -> None:
        found = Histories.read(folder)
        self.flat = torch.from_numpy(found.flat)
        self.ends = (found.starts + found.lengths).tolist()
        self.shown = found.lengths.clip(max=max_len).tolist()
        self.similar = found.similar[:, :similar_users].tolist() if similar_users else None
        shortest = 1 if similar_users else 2
        self.students = [user for user, length in enumerate(found.lengths.tolist()) if length >= shortest]
        self.n_items, self.max_len = n_items, max_len
        owners = torch.from_numpy(found.lengths)
        users = torch.repeat_interleave(torch.arange(len(owners)), owners)
        self.pairs = torch.unique(users * (n_items + 1) + self.flat)

    def __len__(self) -> int:
        return len(self.students)

    def __getitem__(self, index: int) -> Entry:
        user = self.students[index]
        return user, self._items(user), [] if self.similar is None else [self._items(u) for u in self.similar[user]]

    def _items(self, user: int) -> Tensor:
        return self.flat[self.ends[user] - self.shown[user] : self.ends[user]]

    def collate(self, entries: list[Entry]) -> Dense:
        """A batch of entries as rows."""
        users = torch.tensor([user for user, _, _ in entries])
        items = self._rows([history for _, history, _ in entries])
        targets = F.pad(items[:, 1:], (0, 1)) * (items > 0)
        negatives = torch.zeros_like(items)
        rows, places = targets.nonzero(as_tuple=True)
        negatives[rows, places] = self._unseen(users[rows])
        if self.similar is None:
            return Dense(users, items, _positions(items), targets, negatives)
        teachers = self._rows([history for _, _, others in entries for history in others])
        shape = (len(entries), -1, self.max_len)
        return Dense(
            users, items, _positions(items), targets, negatives, teachers.view(shape), _positions(teachers).view(shape)
        )

    def _rows(self, histories: list[Tensor]) -> Tensor:
        padded = pad_sequence(histories, batch_first=True, padding_side="left")
        return F.pad(padded, (self.max_len - padded.shape[1], 0))

    def _unseen(self, users: Tensor) -> Tensor:
        """One item each that the user never met, by rejection."""
        items = torch.randint(1, self.n_items + 1, (len(users),))
        again = torch.arange(len(users))
        while len(again):
            pairs = users[again] * (self.n_items + 1) + items[again]
            places = torch.searchsorted(self.pairs, pairs).clamp(max=len(self.pairs) - 1)
            again = again[self.pairs[places] == pairs]
            items[again] = torch.randint(1, self.n_items + 1, (len(again),))
        return items


def _positions(items: Tensor) -> Tensor:
    """1, 2, ... at the items of left-padded rows."""
    return (items > 0).cumsum(dim=1)


def torch_batches(dataset: TorchDataset, batch_size: int, *, shuffle: bool = True) -> Iterator[Dense]:
    """One epoch."""
    yield from DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, collate_fn=dataset.collate)
