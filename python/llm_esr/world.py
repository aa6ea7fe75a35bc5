"""The processes of one training or evaluation that `torchrun` started, called ranks: what they tell each other.

Each method is a meeting: every rank calls it, in the same order, and it returns when all have. Numbers in memory go by
gloo, those on a CUDA device by nccl. One process alone is a rank too, for which every method is free and does nothing.

A rank that fails writes so into the store that all ranks share, and closes its connections; the others notice at their
next meeting, and end with the name of that rank.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import PrefixStore, Store

_T = TypeVar("_T")
_JOINING = 1800.0  # seconds
_ALONE = 1 << 20  # numbers of a tensor that is added up by itself, not copied together with others
_FAILED = "failed"
_KINDS = {str(kind).removeprefix("torch."): kind for kind in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool,
)}  # fmt: skip


class RankFailedError(ConnectionError):
    """Another rank failed, was killed, or did not come; its own message says why."""


class World:
    """One process alone.

    Attributes:
        rank: the number of this process, from 0.
        world_size: all processes.
        local_rank: the number of this process on its machine, which is that of its device.

    """

    rank = 0
    world_size = 1
    local_rank = 0

    @property
    def several(self) -> bool:
        """Whether there is another process."""
        return self.world_size > 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and decides."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of `count` things are this rank's: shares follow each other and differ by one at most."""
        return slice(count * self.rank // self.world_size, count * (self.rank + 1) // self.world_size)

    def device(self, wanted: str) -> str:
        """The device of this rank, where a training asks for `wanted`."""
        return wanted

    def meet_on(self, device: torch.device, timeout: float) -> None:
        """From now on meet for tensors on `device`, and wait for each other `timeout` seconds at most."""

    def wait(self) -> None:
        """Go on when all ranks have come here."""

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """The sum over ranks of each number; int64 or float64, of one shape on all ranks."""
        return values

    def least(self, values: NDArray[Any]) -> NDArray[Any]:
        """The least over ranks of each number, as `sums`."""
        return values

    def of_first(self, decide: Callable[[], _T]) -> _T:
        """What `decide`, called by rank 0 alone, gives: JSON values, for all ranks."""
        return decide()

    def agree(self, given: dict[str, str]) -> None:
        """See that each rank was given what rank 0 was.

        Raises:
            ValueError: this rank was given something else.

        """

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks, in order; in memory, of one shape and type."""
        return [tensor]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over ranks in the place of each tensor; small ones go in one message, large ones each alone."""

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Put rank 0's numbers in the place of each tensor."""

    def added_rows(self, rows_r: Tensor, values_rD: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over ranks of rows of a table.

        Args:
            rows_r: this rank's rows, each once, int64; may be none.
            values_rD: what they hold.

        Returns:
            The rows of all ranks, ascending, and their sums, added up in the order of ranks.

        """
        return rows_r, values_rD

    def checkpoint_of_first(
        self, read: Callable[[], tuple[dict[str, Tensor], dict[str, Any]] | None]
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors in memory by name, and JSON values, that rank 0 alone reads."""
        return read()


class _Several(World):
    """One of several processes; made by `open_world`."""

    def __init__(self, store: PrefixStore, timeout: float) -> None:
        self.rank, self.world_size = _number("RANK"), _number("WORLD_SIZE")
        self.local_rank = _number("LOCAL_RANK")
        self._store, self._timeout = store, timeout
        self._on_device: Any = None
        self._in_memory: Any = None  # None: the group of all that has been there from the start
        with self._meeting():
            dist.init_process_group(
                "gloo",
                store=_below(store, "group"),
                rank=self.rank,
                world_size=self.world_size,
                timeout=timedelta(seconds=timeout),
            )

    def device(self, wanted: str) -> str:
        """The device of this rank's number on its machine."""
        if wanted.startswith("cuda"):
            if wanted != "cuda":
                raise ValueError(
                    f"runtime.device {wanted} is one device, and there are {self.world_size} ranks; set it to cuda or "
                    "auto, and choose devices with CUDA_VISIBLE_DEVICES"
                )
            if self.local_rank >= torch.cuda.device_count():
                raise ValueError(
                    f"rank {self.rank} is number {self.local_rank} on {socket.gethostname()}, where torch finds "
                    f"{torch.cuda.device_count()} CUDA devices; start as many ranks there (--nproc-per-node)"
                )
            return f"cuda:{self.local_rank}"
        if wanted != "cpu":
            raise ValueError(f"runtime.device {wanted} takes one process; set it to cpu, or start without torchrun")
        return wanted

    def meet_on(self, device: torch.device, timeout: float) -> None:
        """See `World`."""
        # A new group is made through the store, which does not tell that a rank is gone.
        self.wait()
        self._timeout = timeout
        with self._meeting():
            limit = timedelta(seconds=timeout)
            self._in_memory = dist.new_group(backend="gloo", timeout=limit)
            if device.type == "cuda":
                torch.cuda.set_device(device)
                self._on_device = dist.new_group(backend="nccl", timeout=limit)

    def wait(self) -> None:
        """See `World`."""
        self.sums(np.zeros(1, np.int64))

    def sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """See `World`."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def least(self, values: NDArray[Any]) -> NDArray[Any]:
        """See `World`."""
        return self._reduced(values, dist.ReduceOp.MIN)

    def _reduced(self, values: NDArray[Any], how: Any) -> NDArray[Any]:
        reduced = values.copy()
        with self._meeting():
            dist.all_reduce(torch.from_numpy(reduced), how, group=self._in_memory)
        return reduced

    def of_first(self, decide: Callable[[], _T]) -> _T:
        """See `World`."""
        said = json.dumps(decide()).encode() if self.is_first else b""
        length = torch.tensor([len(said)])
        self.spread([length])
        text = torch.frombuffer(bytearray(said.ljust(int(length))), dtype=torch.uint8)
        self.spread([text])
        decided: _T = json.loads(bytes(text.tolist()))
        return decided

    def agree(self, given: dict[str, str]) -> None:
        """See `World`."""
        expected = self.of_first(lambda: given)
        for what, mine in given.items():
            if mine != expected.get(what):
                raise ValueError(
                    f"rank {self.rank} on {socket.gethostname()} has the {what} {mine}, rank 0 has "
                    f"{expected.get(what)}; start all ranks with the same command, version and files"
                )

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """See `World`."""
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with self._meeting():
            dist.all_gather(parts, tensor, group=self._in_memory)
        return parts

    def add(self, tensors: Sequence[Tensor]) -> None:
        """See `World`."""
        kinds: dict[torch.dtype, list[Tensor]] = {}
        with self._meeting():
            for tensor in tensors:
                if tensor.numel() >= _ALONE and tensor.is_contiguous():
                    dist.all_reduce(tensor, group=self._group(tensor))
                else:
                    kinds.setdefault(tensor.dtype, []).append(tensor)
            for small in kinds.values():
                flat = torch.cat([tensor.reshape(-1) for tensor in small])
                dist.all_reduce(flat, group=self._group(flat))
                parts = torch.split(flat, [tensor.numel() for tensor in small])
                torch._foreach_copy_(small, [part.view_as(t) for part, t in zip(parts, small, strict=True)])

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """See `World`."""
        with self._meeting():
            for tensor in tensors:
                if tensor.is_contiguous():
                    dist.broadcast(tensor, 0, group=self._group(tensor))
                else:
                    copy = tensor.contiguous()
                    dist.broadcast(copy, 0, group=self._group(copy))
                    tensor.copy_(copy)

    def added_rows(self, rows_r: Tensor, values_rD: Tensor) -> tuple[Tensor, Tensor]:
        """See `World`."""
        count = np.zeros(self.world_size, np.int64)
        count[self.rank] = len(rows_r)
        counts = self.sums(count)
        longest = int(counts.max())
        # One shape on all ranks: what is behind a rank's rows is not read.
        own_r, own_rD = rows_r.new_zeros(longest), values_rD.new_zeros(longest, values_rD.shape[1])
        own_r[: len(rows_r)], own_rD[: len(rows_r)] = rows_r, values_rD
        rows, values = self._all(own_r), self._all(own_rD)
        parts = [part[: int(n)] for part, n in zip(rows, counts, strict=True)]
        all_r, place = torch.unique(torch.cat(parts), return_inverse=True)
        sums_rD = values_rD.new_zeros(len(all_r), values_rD.shape[1])
        places = torch.split(place, [int(n) for n in counts])
        for at, added, n in zip(places, values, counts, strict=True):
            # Each row comes once in a part, so the order in which a device adds does not matter.
            sums_rD.index_add_(0, at, added[: int(n)])
        return all_r, sums_rD

    def _all(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with self._meeting():
            dist.all_gather(parts, tensor, group=self._group(tensor))
        return parts

    def checkpoint_of_first(
        self, read: Callable[[], tuple[dict[str, Tensor], dict[str, Any]] | None]
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """See `World`."""
        found = read() if self.is_first else None

        def described() -> tuple[Any, Any] | None:
            if found is None:
                return None
            kinds = [(name, str(t.dtype).removeprefix("torch."), list(t.shape)) for name, t in found[0].items()]
            return kinds, found[1]

        said = self.of_first(described)
        if said is None:
            return None
        shapes, state = said
        tensors = found[0] if found else {name: torch.empty(shape, dtype=_KINDS[kind]) for name, kind, shape in shapes}
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        # Its bytes, since not every type of number can be sent.
        self.spread([tensor.reshape(-1).view(torch.uint8) for tensor in tensors.values() if tensor.numel()])
        return tensors, state

    def _group(self, tensor: Tensor) -> Any:
        return self._in_memory if tensor.device.type == "cpu" else self._on_device

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> RankFailedError:
        """What a meeting says that did not come about."""
        with suppress(RuntimeError, ValueError):
            if self._store.check([_FAILED]):
                return self._named(json.loads(self._store.get(_FAILED)))
        # gloo begins with a line of its source, and ends with guesses.
        said = re.sub(r"^\[\S+\] ", "", " ".join(str(error).split())).partition(". ")[0][:200]
        mine = f"rank {self.rank} of {self.world_size} on {socket.gethostname()}"
        if "timed out" in said.lower() or "timeout" in said.lower():
            self._first_to_fail("timeout")
            return RankFailedError(
                f"{mine} waited {self._timeout:g} s for the others, and not all came; see what they are doing, or "
                f"raise runtime.rank_timeout ({said})"
            )
        return RankFailedError(
            f"{mine} lost the others: a rank was killed, or its machine is gone ({said}); the same command goes on "
            "from the last checkpoint"
        )

    def _first_to_fail(self, said: str) -> dict[str, Any]:
        """Which rank failed first, and with what; this one, unless another has said so already."""
        mine = {"rank": self.rank, "host": socket.gethostname(), "said": said}
        with suppress(RuntimeError, ValueError):
            found: dict[str, Any] = json.loads(self._store.compare_set(_FAILED, "", json.dumps(mine)))
            return found
        return mine

    def _named(self, failed: dict[str, Any]) -> RankFailedError:
        where = f"rank {failed['rank']} of {self.world_size} on {failed['host']}"
        return RankFailedError(f"{where} failed, and rank {self.rank} ends with it; the message of that rank says why")

    def leave(self, error: BaseException) -> NoReturn:
        """Say to the others that this rank fails, and raise: what the first rank to fail says is not said again."""
        if isinstance(error, RankFailedError):
            raise error
        kind = "KeyboardInterrupt" if isinstance(error, KeyboardInterrupt) else type(error).__name__
        said = f"{kind}: {error}"
        first = self._first_to_fail(said)
        if first["rank"] == self.rank or first["said"] != said:
            raise error
        if isinstance(error, KeyboardInterrupt):
            raise type(error)(f"rank {self.rank} stopped with rank {first['rank']}") from None
        raise self._named(first) from error


def ranks_asked_for() -> int:
    """How many processes `torchrun` started, this one among them; 1 without it."""
    return _number("WORLD_SIZE") if os.environ.get("WORLD_SIZE") else 1


def is_first_process() -> bool:
    """Whether this process prints; one that torchrun did not start does."""
    return ranks_asked_for() == 1 or _number("RANK") == 0


def refuse_several(what: str, instead: str) -> None:
    """Refuse what is made for one process.

    Raises:
        ValueError: `torchrun` started several.

    """
    if ranks_asked_for() > 1:
        raise ValueError(f"{what} takes one process, and torchrun started {ranks_asked_for()} (WORLD_SIZE); {instead}")


@contextmanager
def open_world() -> Iterator[World]:
    """The ranks that `torchrun` started, this process among them, met for the block; they leave it together.

    Raises:
        ValueError: variables of `torchrun` that are missing or no numbers, or a process group that is open already.
        RankFailedError: in the block, where another rank failed.

    """
    if ranks_asked_for() == 1:
        yield World()
        return
    if not dist.is_available():
        raise ValueError("this build of torch has no torch.distributed; train in one process (without torchrun)")
    if dist.is_initialized():
        raise ValueError(
            "torch.distributed is in use in this process, and its ranks are met anew here; call "
            "torch.distributed.destroy_process_group() before"
        )
    world = _Several(_shared_store(), _JOINING)
    try:
        with warnings.catch_warnings():
            if not world.is_first:
                warnings.simplefilter("ignore")  # rank 0 warns
            yield world
        world.wait()
    except BaseException as error:
        world.leave(error)
    finally:
        # The others' meetings end when these connections are closed.
        dist.destroy_process_group()


_number_of_opening = itertools.count()
_store: list[Store] = []


def _shared_store() -> PrefixStore:
    """The store of this opening: all ranks open as often, so its keys are those of no other."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
        _number(name)
    if not os.environ.get("MASTER_ADDR"):
        raise ValueError("MASTER_ADDR is not set, though WORLD_SIZE is; start the ranks with torchrun")
    if not _store:
        try:
            from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415 (not in every build of torch)

            _store.append(next(rendezvous("env://", timeout=timedelta(seconds=_JOINING)))[0])
        except (RuntimeError, OSError) as error:
            address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise RankFailedError(
                f"rank {os.environ['RANK']} found no rank 0 at {address}: {' '.join(str(error).split())[:200]}"
            ) from error
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return _below(_store[0], f"llm-esr/{restart}/{next(_number_of_opening)}")


def _below(store: Store, prefix: str) -> PrefixStore:
    """A part of a store, whose keys are those of no other part."""
    from torch.distributed.distributed_c10d import PrefixStore  # noqa: PLC0415 (not in every build of torch)

    return PrefixStore(prefix, store)


def _number(name: str) -> int:
    """A variable of the environment that torchrun sets."""
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise ValueError(
            f"{name} is {text!r}, expected a number; torchrun sets it (and WORLD_SIZE, which is "
            f"{os.environ.get('WORLD_SIZE')}): start with torchrun, or unset WORLD_SIZE"
        )
    return int(text)
