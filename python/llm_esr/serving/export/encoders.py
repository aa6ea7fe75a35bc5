"""The formats that the user encoder is written in: a new one is a function and a line in `FORMATS`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llm_esr.serving.export.padded_encoder import PaddedEncoder

INPUTS = ("items", "lengths")
OUTPUT = "users"
_OPSET = 17
_LARGEST = (1 << 31) - (1 << 24)  # bytes of tensors: an ONNX file is one message of at most 2 GiB


@dataclass(frozen=True)
class Format:
    """A format of the encoder.

    Attributes:
        file: its file's name.
        write: writes it.
        opened_by: what opens it, in words.

    """

    file: str
    write: Callable[[PaddedEncoder, Path], None]
    opened_by: str


def write_onnx(encoder: PaddedEncoder, path: Path) -> None:
    """Write the encoder for ONNX Runtime and whatever else reads ONNX; the number of histories is free.

    Raises:
        ImportError: the extra `export` is not installed.
        ValueError: an encoder of more than 2 GiB.

    """
    size = sum(4 * tensor.numel() for tensor in encoder.state_dict().values())
    if size > _LARGEST:
        raise ValueError(
            f"the encoder has {size:,} bytes of tensors, an ONNX file holds at most 2 GiB; take --to torch, or a "
            "smaller model.width"
        )
    try:
        import onnx  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        raise ImportError("writing ONNX needs the package onnx: pip install 'llm-esr[export]'") from None
    free = {name: {0: "B"} for name in (*INPUTS, OUTPUT)}
    with _plain(encoder), warnings.catch_warnings():
        # The sizes that tracing turns into numbers are those of the model; only the number of histories is free.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            encoder, _example(encoder), str(path), dynamo=False, opset_version=_OPSET, input_names=list(INPUTS),
            output_names=[OUTPUT], dynamic_axes=free,
        )  # fmt: skip


def write_torch(encoder: PaddedEncoder, path: Path) -> None:
    """Write the encoder for `torch.export.load`; the number of histories is free."""
    free = {0: torch.export.Dim("B")}
    with _plain(encoder):
        program = torch.export.export(encoder, _example(encoder), dynamic_shapes=dict.fromkeys(INPUTS, free))
        torch.export.save(program, str(path))


FORMATS: Mapping[str, Format] = {
    "onnx": Format("encoder.onnx", write_onnx, "onnxruntime.InferenceSession"),
    "torch": Format("encoder.pt2", write_torch, "torch.export.load(...).module()"),
}


def _example(encoder: PaddedEncoder) -> tuple[Tensor, Tensor]:
    """Histories to trace with: several, of different lengths."""
    max_len = encoder.config.max_len
    return torch.ones(3, max_len, dtype=torch.int64), torch.tensor([1, max_len, (max_len + 1) // 2])


@contextmanager
def _plain(encoder: PaddedEncoder) -> Iterator[None]:
    """Neither gradients nor inference mode, whose tensors cannot be traced."""
    with torch.inference_mode(False), torch.no_grad():
        yield
