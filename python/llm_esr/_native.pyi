"""Types of the Rust extension."""

from os import PathLike
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from llm_esr.loading.options import LoaderOptions

__version__: str

# Queries, unless they stand before the keys; keys and values; the pseudo-key and its value.
_AttentionInputs = tuple[
    NDArray[np.float32] | None, NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32]] | None
]

@final
class Attention:
    """Multi-head attention among the tokens of each sequence: V views of the same S sequences with T tokens in all.

    Queries are [V x T, D], or [V x S, D] with `newest_only`; `memory` is [V x T, 2D], keys and values side by side, or
    [V x T, 3D], queries before them. All arrays are float32 with rows that lie together.
    """

    def __new__(
        cls,
        *,
        views: int,
        heads: int,
        causal: bool,
        newest_only: bool,
        rate: float,
        seed: int,
        max_len: int,
        threads: int,
    ) -> Attention: ...
    def forward(self, offsets: NDArray[np.int64], inputs: _AttentionInputs, out: NDArray[np.float32]) -> None:
        """Fills `out`, as the queries."""

    def backward(
        self,
        offsets: NDArray[np.int64],
        inputs: _AttentionInputs,
        out: NDArray[np.float32],
        gradients: tuple[NDArray[np.float32] | None, NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Fills the gradients of queries and memory, given that of the output; returns those of the pseudo-key."""

@final
class ExactIndex:
    """Exact search; the vectors are kept as they are and read where they lie."""

    def __new__(
        cls,
        vectors: NDArray[Any],
        threads: int = 0,
        *,
        inner_product: bool = False,
        certified: bool = True,
        kernel: str | None = None,
    ) -> ExactIndex: ...
    def search_rows(self, start: int, stop: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
    def graph(self, k: int) -> Graph: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def again(self) -> int: ...

@final
class Graph:
    """The search of all rows of an index for their neighbours."""

    def advance(self, pieces: int) -> tuple[int, int]: ...
    def rank(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...

@final
class ListIndex:
    """Approximate search in lists about centres; the vectors are kept as they are and read where they lie."""

    def __new__(
        cls, vectors: NDArray[Any], threads: int = 0, *, inner_product: bool = False, lists: int = 0, seed: int = 0
    ) -> ListIndex: ...
    @staticmethod
    def open(
        vectors: NDArray[Any],
        parts: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]],
        threads: int = 0,
        *,
        inner_product: bool = False,
    ) -> ListIndex: ...
    def parts(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]]: ...
    def search(self, queries: NDArray[Any], k: int, probes: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
    def search_pieces(
        self, start: int, stop: int, k: int, probes: int
    ) -> tuple[NDArray[np.int32], tuple[NDArray[np.int32], NDArray[np.float32]]]: ...
    def recalls(
        self, k: int, *, sample: int = 512, first: int = 0, queries: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def lists(self) -> int: ...
    @property
    def pieces(self) -> int: ...

def search_kernels() -> list[str]:
    """The kernels that this processor has, the fastest first."""

@final
class TableReader:
    """A CSV, TSV (layout `csv`, `tsv`) or headerless `user item` file (`pairs`), read chunk after chunk; gzip too."""

    def __new__(cls, path: str | PathLike[str], *, layout: str) -> TableReader: ...
    @property
    def columns(self) -> list[str]: ...
    @property
    def delimiter(self) -> str: ...
    def read(
        self, rows: int, columns: list[str]
    ) -> tuple[NDArray[np.int64], list[list[str]], list[tuple[int, int, str, str]]] | None:
        """Up to `rows` records: source lines, the columns' fields, malformed ones (line, last line, text, reason)."""

@final
class Store:
    """A data folder's interactions, mapped from its files and checked; the arrays are read-only views."""

    def __new__(cls, folder: str | PathLike[str], n_items: int) -> Store: ...
    @property
    def n_users(self) -> int: ...
    @property
    def n_items(self) -> int: ...
    @property
    def offsets(self) -> NDArray[np.int64]: ...
    @property
    def items(self) -> NDArray[np.int32]: ...
    @property
    def splits(self) -> NDArray[np.int64]: ...
    def sample_candidates(self, users: NDArray[np.int64], part: str, n: int, seed: int) -> NDArray[np.int32]: ...

@final
class Sequences:
    """Sequences as flat tokens, oldest first: T tokens in S sequences, R rows of width W."""

    @property
    def items(self) -> NDArray[np.int32]:
        """Item ids, [T]."""

    @property
    def positions(self) -> NDArray[np.int32]:
        """1 for the oldest item of the window, 0 for padding, [T]."""

    @property
    def targets(self) -> NDArray[np.int32]:
        """The item to predict at each token, 0 for none, [T]."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each sequence starts among the tokens, [S + 1]."""

    @property
    def slots(self) -> NDArray[np.int32]:
        """The token in each slot of the rows, -1 for none, [R, W]."""

    def __len__(self) -> int: ...

@final
class Batch:
    """One training step's inputs: B students with M targets, their K teachers, N negatives. Arrays keep it alive."""

    @property
    def epoch(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def users(self) -> NDArray[np.int64]:
        """The students' user numbers, [B]."""

    @property
    def masking_passes(self) -> NDArray[np.int8]:
        """Which masking pass over the user this is, [B]; 0 where there is one pass an epoch."""

    @property
    def students(self) -> Sequences:
        """Their sequences, in the order of `users`."""

    @property
    def teachers(self) -> Sequences | None:
        """The unique similar users' sequences, by rising user number."""

    @property
    def teacher_index(self) -> NDArray[np.int64] | None:
        """Places in `teachers`, -1 for none, [B, K]."""

    @property
    def negatives(self) -> NDArray[np.int32]:
        """Own ones [M, N], a row for each target in token order, or the step's [N]; None if none were asked for."""

    @property
    def collision(self) -> NDArray[np.bool_] | None:
        """Which shared negative each user met in training, [B, N]; None for own ones."""

    def __len__(self) -> int: ...

@final
class Batches:
    """An epoch's batches, in order."""

    def __iter__(self) -> Batches: ...
    def __next__(self) -> Batch: ...

@final
class Loader:
    """Makes epochs of batches."""

    def __new__(
        cls,
        store: Store,
        folder: str | PathLike[str],
        options: LoaderOptions,
        *,
        threads: int,
        rank: int,
        world_size: int,
    ) -> Loader: ...
    @property
    def steps(self) -> int: ...
    @property
    def n_students(self) -> int: ...
    def log_q(self) -> NDArray[np.float32] | None: ...
    def batches(self, epoch: int, first_step: int) -> Batches: ...

@final
class Contexts:
    """The contexts of all items: what was met until an item, and what from then on, reversed."""

    def __new__(cls, store: Store, max_len: int, reversed: bool, holds_item: bool) -> Contexts: ...
    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each item's contexts start, [I + 2]."""

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The items of some contexts, by their numbers, and where each starts."""

    def draw(
        self, items: NDArray[np.int64], most: int, seed: int, epoch: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many contexts of each item are drawn, 1 to `most`, and their numbers."""

    def pass_over(
        self, first: int, last: int, wanted: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Sequences to encode (items, offsets), and the token and the item of each context in them."""

def recent_cuts(users: NDArray[np.int64], most: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """How many of its newest items each user shows, 1 to `most`."""

def shuffled(members: NDArray[np.int64], owner: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Members in an order of their own for each owner and epoch; owner 0's is that of an epoch's students."""

def build_sequences(
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    max_len: int,
    layout: str,
    mask_token: int | None,
    padding_tokens: bool,
) -> Sequences: ...
def unique_items(
    groups: list[list[NDArray[np.int32]]],
) -> tuple[NDArray[np.int64], list[int], list[NDArray[np.int64]]]:
    """The unique ids of groups of arrays, first met first; how many each group brought; inverse indices."""

def drop_out(from_: NDArray[np.float32], to: NDArray[np.float32], rate: float, seed: int, threads: int) -> None:
    """Writes what dropout leaves of one array into another; the same of a gradient with the same seed."""

def philox(key: list[int], counter: list[int]) -> NDArray[np.uint64]:
    """One block of Philox4x64-10."""

def rank_rows(
    scores: NDArray[np.float32],
    targets: NDArray[np.int32] | None,
    seen: tuple[NDArray[np.int32], NDArray[np.int64]] | None,
    k: int,
    threads: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
    """Reads each row of scores [B, I] once.

    Gives how many competing items are above each target's score and how many tie with it, [B] (nothing without
    targets), the k best ids and their scores, [B, k], and which rows hold a NaN. Items `seen` (histories and their
    offsets) do not compete and are in no list.
    """

def neighbour_table(
    kind: str,
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    lengths: NDArray[np.int64],
    n_items: int,
    width: int,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The largest entries of each item's row, largest first: ids [I, width] (0 fills) and values.

    `kind`: `transitions` or `co-occurrence`. Training sequences are the first `lengths` items of each user.
    """

def add_neighbour_rows(
    table: tuple[NDArray[np.int32], NDArray[np.float32]],
    histories: tuple[NDArray[np.int32], NDArray[np.int64]],
    decay: float,
    newest: int,
    threads: int,
) -> NDArray[np.float32]:
    """Scores [S, I] of histories (items and their offsets): the rows of their newest items, added up with a decay."""

def combine_dense_rows(
    matrix: NDArray[np.float32],
    histories: tuple[NDArray[np.int32], NDArray[np.int64]],
    decay: float | None,
    newest: int,
    threads: int,
) -> NDArray[np.float32]:
    """Scores [S, I] of histories by whole rows of a matrix [I, I]: those of their newest items, added up with a decay.

    Without a decay: the largest of them, -1 for an empty history.
    """

def neighbour_lists(
    table: tuple[NDArray[np.int32], NDArray[np.float32]],
    histories: tuple[NDArray[np.int32], NDArray[np.int64]],
    decay: float,
    newest: int,
    leave_out_met: bool,
    k: int,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best k items for each history by the sums of `add_neighbour_rows`: ids [S, k] (0: none is left), values.

    Equal sums go by id. k is cut to the catalogue; `leave_out_met`: no list holds an item of its history.
    """

def catalogue_losses(
    scores: NDArray[np.float32],
    targets: NDArray[np.int64],
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    met: NDArray[np.int64],
    share: float,
    threads: int,
) -> NDArray[np.float32]:
    """Writes the gradient of each row's loss, times `share`, over its scores [m, I]; returns the losses, [m].

    What the user of a row met, `met[starts : starts + counts]` (columns), does not count; the target always does.
    """
