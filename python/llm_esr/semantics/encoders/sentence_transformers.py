"""Models of sentence-transformers, from the hub by name or from a local folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from llm_esr.config import EmbedConfig
from llm_esr.files import checksum
from llm_esr.semantics.encoders.encoder import EncoderKind

PREFIX = "sentence-transformers:"


class SentenceEncoder:
    """A sentence-transformers model, from the hub by name or from a local folder; vectors of unit length."""

    def __init__(self, model: str, *, batch_size: int = 64, device: str = "auto") -> None:
        self.label = PREFIX + model
        self._batch_size = batch_size
        self._model = load_sentence_model(model, None if device == "auto" else device)

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn: the model is given."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        # The method was renamed in sentence-transformers 5.
        method = getattr(self._model, "get_embedding_dimension", None)
        return int(method() if method is not None else self._model.get_sentence_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length."""
        vectors = self._model.encode(
            list(texts),
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)


def _check_device(name: str | None) -> None:
    """A `ValueError` where torch knows no such device or has none here: the model is not to blame."""
    if name is None:
        return
    import torch  # noqa: PLC0415 - brought by the extra

    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"embed.device {name!r}: expected auto, cpu, cuda, cuda:1 or mps") from None
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }.get(device.type)
    if there is not None and (device.index or 0) >= there:
        found = f"{there} of them" if there else "no such device"
        raise ValueError(f"embed.device {name}: torch finds {found} here; use --set embed.device=cpu or auto")


def _is_folder(model: str) -> bool:
    return Path(model).exists() or model.startswith((".", "/", "~", "\\")) or model.count("/") > 1


def _existing_folder(model: str) -> Path:
    if not Path(model).is_dir():
        raise FileNotFoundError(f"encoder: folder {model} does not exist; expected a saved sentence-transformers model")
    return Path(model)


def load_sentence_model(model: str, device: str | None) -> Any:
    """The `SentenceTransformer` of a hub name or a folder; `device`: None for what torch finds."""
    if _is_folder(model):
        _existing_folder(model)
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - an extra
    except ImportError:
        raise ImportError(
            f"encoder '{PREFIX}{model}' needs sentence-transformers; install it with: pip install 'llm-esr[text]'"
        ) from None
    _check_device(device)
    # Without the hub only the cache is asked: the hub's client would try again for minutes.
    from_cache = not _is_folder(model) and not _hub_answers()
    try:
        with without_bars() if _is_folder(model) else nullcontext():  # a download shows how far it is
            return SentenceTransformer(model, device=device, local_files_only=from_cache)
    except Exception as error:  # the hub's client raises a dozen types, by version
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if _is_folder(model):
            raise ValueError(f"encoder: {model} is not a sentence-transformers model: {first_line}") from error
        raise ConnectionError(
            f"encoder: model '{model}' could not be had from the Hugging Face hub ({first_line}); "
            f"check the name and the network, or give a folder with the model: {PREFIX}/path/to/model"
        ) from error


@contextmanager
def without_bars() -> Iterator[None]:
    """Without the bars that transformers shows for the weights that it reads and writes: a moment each."""
    logging: Any = import_module("transformers.utils.logging")  # brought by the extra

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _hub_answers() -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the proxy can tell
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _identity(model: str) -> dict[str, str]:
    """The files of a local model by checksum, the name of another."""
    if _is_folder(model):
        files = sorted(path for path in _existing_folder(model).rglob("*") if path.is_file())
        return {str(path.relative_to(model)): checksum(path) for path in files}
    return {"name": PREFIX + model}


def _make(model: str, config: EmbedConfig) -> SentenceEncoder:
    return SentenceEncoder(model, batch_size=config.batch_size, device=config.device)


SENTENCE_TRANSFORMERS = EncoderKind("sentence-transformers:NAME_OR_FOLDER", _identity, _make)
