"""PCA of the item vectors to the model's width, in one file, so that items to come can be projected alike.

Shapes: I items, E width of the vectors, D width of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from llm_esr.files import FORMAT, atomic_file
from llm_esr.files.tensors import UNREADABLE, array_parts, check_tensors, with_checksum

_ROWS_AT_ONCE = 4096
# A direction with a smaller share of the largest variance is rounding, and gets no component.
_NO_VARIANCE = 1e-10


@dataclass(frozen=True)
class Projection:
    """`(x - mean) @ components * scale`.

    Attributes:
        mean: float32 `[E]`.
        components: float32 `[E, D]`, orthonormal columns by falling variance, each with its largest-magnitude entry
            positive; columns of zeros where the vectors have fewer than D directions.
        scale: what brings the rows of the fitted table to their mean norm.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: float

    @property
    def width(self) -> int:
        """D."""
        return int(self.components.shape[1])

    def transform(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        """Project `vectors` `[n, E]` (any float type, memory-mapped or not) to float32 `[n, D]`.

        Raises:
            ValueError: vectors of another width.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise ValueError(
                f"vectors of shape {list(vectors.shape)}; this projection was made for [n, {len(self.mean)}]"
            )
        projected = np.empty((len(vectors), self.width), dtype=np.float32)
        for rows, chunk in _chunks(vectors):
            projected[rows] = (chunk - self.mean) @ self.components.astype(np.float64) * self.scale
        return projected

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with `mean`, `components` and `scale`, whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {
            "mean": self.mean,
            "components": np.ascontiguousarray(self.components),
            "scale": np.array([self.scale], dtype=np.float64),
        }
        with atomic_file(path) as file:
            file.write(save(tensors, metadata=with_checksum({"format": str(FORMAT)}, array_parts(tensors))))

    @classmethod
    def load(cls, path: str | Path) -> Projection:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a damaged file, or not a projection.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"{path} does not exist; training writes it beside model.safetensors")
        try:
            with safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                check_tensors(file.metadata() or {}, array_parts(tensors), ["format"])
            mean, components, scale = tensors["mean"], tensors["components"], tensors["scale"]
        except UNREADABLE as error:
            raise ValueError(f"{path} is not a projection ({error}); train again to make it anew") from None
        if components.ndim != 2 or mean.shape != components.shape[:1] or scale.shape != (1,):
            raise ValueError(f"{path}: shapes {mean.shape}, {components.shape}, {scale.shape} do not belong together")
        return cls(mean, components, float(scale[0]))


def fit_projection(vectors: NDArray[Any], width: int, mean_norm: float | None) -> Projection:
    """Fit a PCA by the covariance, gathered in chunks: memory is E x E numbers, whatever the number of items.

    Args:
        vectors: `[I, E]`, any float type, memory-mapped or not.
        width: D. Where the vectors have fewer than D directions (E < D, or few items), the rest is zeros.
        mean_norm: the mean length that the projected rows of `vectors` get, so that an encoder's scale does not set
            the first logits; None: the length they have.

    Returns:
        The projection; the same vectors give the same one, signs included.

    Raises:
        ValueError: no vectors, or NaN among them.
    """
    if vectors.ndim != 2 or 0 in vectors.shape:
        raise ValueError(f"vectors of shape {list(vectors.shape)}; expected [I, E] with at least one item")
    count, given = vectors.shape
    mean = sum(chunk.sum(axis=0) for _, chunk in _chunks(vectors)) / count
    if not np.isfinite(mean).all():
        raise ValueError("the item vectors hold NaN or infinity; make them again (embed)")
    covariance = np.zeros((given, given))
    for _, chunk in _chunks(vectors):
        centred = chunk - mean
        covariance += centred.T @ centred
    variances, directions = np.linalg.eigh(covariance / count)
    variances, directions = variances[::-1][:width], directions[:, ::-1][:, :width]
    largest = np.take_along_axis(directions, np.argmax(np.abs(directions), axis=0)[None, :], axis=0)
    directions = directions * np.where(largest < 0, -1.0, 1.0)
    directions[:, variances <= _NO_VARIANCE * max(variances[0], np.finfo(np.float64).tiny)] = 0.0
    components = np.zeros((given, width), dtype=np.float32)
    components[:, : directions.shape[1]] = directions
    unscaled = Projection(mean.astype(np.float32), components, 1.0)
    if mean_norm is None:
        return unscaled
    norm = float(np.mean(np.linalg.norm(unscaled.transform(vectors), axis=1)))
    return Projection(unscaled.mean, components, mean_norm / norm if norm > 0 else 1.0)


def _chunks(vectors: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = slice(start, min(len(vectors), start + _ROWS_AT_ONCE))
        yield rows, np.asarray(vectors[rows], dtype=np.float64)
