"""What of a sentence encoder is tuned: a linear map behind it, its top layers, or low-rank additions to all of them.

Shapes: n texts or views, A distinct attributes, E width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from llm_esr.config import EmbedConfig
from llm_esr.semantics.attribute_views import Attribute, ItemAttributes

Seen = Callable[[int], None]  # told how many texts were encoded


class TunedEncoder(Protocol):
    """A sentence encoder of which a part is trained."""

    model: Any  # a SentenceTransformer that encodes with what was trained

    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""

    def vectors(self, views: Sequence[Sequence[Attribute]]) -> Tensor:
        """Vectors `[n, E]` of views, of any length, with gradients."""

    def encode(self, texts: Sequence[str], seen: Seen) -> NDArray[np.float32]:
        """Vectors `[n, E]` of unit length, as the model gives them to whoever opens it."""

    def finish(self) -> None:
        """Bring what was trained into the model, which is then saved."""


class Head:
    """A linear map E -> E that starts as the identity; the encoder itself stays.

    Each distinct attribute is encoded once, and a view is the mean of its attributes' vectors: words of one attribute
    never meet those of another in training. LLMEmb tunes the encoder itself: `Layers`, `LowRank`.
    """

    def __init__(self, model: Any, attributes: ItemAttributes, config: EmbedConfig, seen: Seen) -> None:
        self._base = model
        self._batch = config.batch_size
        self._memory: dict[str, NDArray[np.float32]] = {}
        distinct = list(dict.fromkeys(one for row in attributes.rows for one in row))
        self._row_of = {one: row for row, one in enumerate(distinct)}
        encoded = self._remembered([attributes.text([one]) for one in distinct], seen)
        self._vectors_AE = torch.from_numpy(encoded).to(model.device)
        width = self._vectors_AE.shape[1]
        self._map = _dense()(width, width, bias=False, activation_function=nn.Identity())
        nn.init.eye_(self._map.linear.weight)
        self.model = _with_module(model, self._map)

    def trained(self) -> dict[str, nn.Parameter]:
        """The map."""
        weight: nn.Parameter = self._map.linear.weight
        return {"head": weight}

    def vectors(self, views: Sequence[Sequence[Attribute]]) -> Tensor:
        """The map of the mean of each view's attributes."""
        device = self._vectors_AE.device
        rows = torch.tensor([self._row_of[one] for view in views for one in view], device=device)
        starts = torch.tensor([0, *(len(view) for view in views)], device=device).cumsum(0)[:-1]
        mean_nE = F.embedding_bag(rows, self._vectors_AE, starts, mode="mean")
        return F.linear(mean_nE, self._map.linear.weight)

    def encode(self, texts: Sequence[str], seen: Seen) -> NDArray[np.float32]:
        """As the model with the map gives them; what the encoder says of a text is kept."""
        with torch.no_grad():
            mapped_nE = F.linear(torch.from_numpy(self._remembered(texts, seen)), self._map.linear.weight.cpu())
            return F.normalize(mapped_nE, dim=1).numpy()

    def finish(self) -> None:
        """Nothing: the map is part of the model."""

    def _remembered(self, texts: Sequence[str], seen: Seen) -> NDArray[np.float32]:
        new = list(dict.fromkeys(text for text in texts if text not in self._memory))
        if new:
            self._memory |= zip(new, encode_raw(self._base, new, self._batch, seen), strict=True)
        seen(len(texts) - len(new))
        return np.stack([self._memory[text] for text in texts])


class Layers:
    """The encoder's top layers; what lies below them stays."""

    def __init__(self, model: Any, attributes: ItemAttributes, config: EmbedConfig) -> None:
        self.model = model
        self._attributes = attributes
        self._tokens = config.tune_tokens
        self._batch = config.batch_size
        layers = _layers(model)
        model.requires_grad_(False)
        for layer in layers[-config.tune_layers :]:
            layer.requires_grad_(True)
        self._trained = {name: one for name, one in model.named_parameters() if one.requires_grad}

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters of these layers."""
        return self._trained

    def vectors(self, views: Sequence[Sequence[Attribute]]) -> Tensor:
        """The encoder's vectors of the views' texts, without dropout."""
        with _at_most_tokens(self.model, self._tokens):
            return raw_vectors(self.model, [self._attributes.text(view) for view in views])

    def encode(self, texts: Sequence[str], seen: Seen) -> NDArray[np.float32]:
        """As the model gives them."""
        vectors = torch.from_numpy(encode_raw(self.model, texts, self._batch, seen))
        return F.normalize(vectors, dim=1).numpy()

    def finish(self) -> None:
        """Nothing: the layers are the model's own."""


class LowRank(Layers):
    """Low-rank additions to every linear map of the encoder (LoRA, Hu et al. 2022), merged into it at the end.

    Rank 8, alpha 32 and dropout .1, as in LLMEmb's code.
    """

    def __init__(self, model: Any, attributes: ItemAttributes, config: EmbedConfig) -> None:
        try:
            from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - an extra
        except ImportError:
            raise ImportError(
                "embed.tune_level lora needs peft; install it with: pip install 'llm-esr[tune-lora]', or set "
                "embed.tune_level (--tune-level) to layers"
            ) from None
        super().__init__(model, attributes, config)
        settings = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.1, target_modules="all-linear")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.tune_seed)
            # In place: the encoder's linear maps are replaced by ones with additions.
            self._added = get_peft_model(_transformer(model), settings)
        self._trained = {name: one for name, one in self._added.named_parameters() if "lora_" in name}
        self._drops = [module for name, module in self._added.named_modules() if name.endswith("lora_dropout")]

    def vectors(self, views: Sequence[Sequence[Attribute]]) -> Tensor:
        """As `Layers`, with LoRA's own dropout."""
        for module in self._drops:
            module.train()
        try:
            return super().vectors(views)
        finally:
            for module in self._drops:
                module.eval()

    def finish(self) -> None:
        """Add them to the weights, and take them away."""
        self._added.merge_and_unload()


def make_level(model: Any, attributes: ItemAttributes, config: EmbedConfig, seen: Seen) -> TunedEncoder:
    """The level that `embed.tune_level` names, on a SentenceTransformer.

    Args:
        model: where it lies and what it is made of is changed in place.
        attributes: those of all items.
        config: the section `embed`.
        seen: told how many texts were encoded.

    Raises:
        ValueError: more layers than the encoder has.
        ImportError: peft is not installed.
    """
    model.eval()
    match config.tune_level:
        case "head":
            return Head(model, attributes, config, seen)
        case "layers":
            return Layers(model, attributes, config)
        case "lora":
            return LowRank(model, attributes, config)


def raw_vectors(model: Any, texts: Sequence[str]) -> Tensor:
    """A SentenceTransformer's vectors `[n, E]` of any length, with gradients: all its modules but the last scaling."""
    # The method was renamed in sentence-transformers 5.
    tokenize = getattr(model, "preprocess", None) or model.tokenize
    features = {
        name: value.to(model.device) if isinstance(value, Tensor) else value
        for name, value in tokenize(list(texts)).items()
    }
    for module in model:
        if type(module).__name__ != "Normalize":
            features = module(features)
    vectors_nE: Tensor = features["sentence_embedding"]
    return vectors_nE


def encode_raw(model: Any, texts: Sequence[str], batch: int, seen: Seen) -> NDArray[np.float32]:
    """`raw_vectors` without gradients, texts of like length together."""
    order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
    parts = []
    with torch.no_grad():
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            parts.append(raw_vectors(model, [texts[at] for at in chosen]).float().cpu().numpy())
            seen(len(chosen))
    vectors = np.empty((len(texts), parts[0].shape[1]), dtype=np.float32)
    vectors[order] = np.concatenate(parts)
    return vectors


def _dense() -> Any:
    """The class of a linear map behind an encoder, wherever this release of sentence-transformers has it."""
    try:
        return import_module("sentence_transformers.sentence_transformer.modules").Dense
    except ImportError:
        return import_module("sentence_transformers.models").Dense


def _with_module(model: Any, module: nn.Module) -> Any:
    """The encoder with one more module, before its last scaling where there is one."""
    modules = list(model)
    scaled = bool(modules) and type(modules[-1]).__name__ == "Normalize"
    modules.insert(len(modules) - scaled, module.to(model.device))
    return type(model)(
        modules=modules,
        device=str(model.device),
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )


def _layers(model: Any) -> list[nn.Module]:
    """The encoder's layers from the lowest: its longest list of modules."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise ValueError(
            "embed.tune_level: the encoder has no stack of layers to train; set embed.tune_level (--tune-level) to head"
        )
    return max(lists, key=len)


def _transformer(model: Any) -> nn.Module:
    found: nn.Module = model[0].auto_model
    return found


@contextmanager
def _at_most_tokens(model: Any, tokens: int) -> Iterator[None]:
    before = model.max_seq_length
    model.max_seq_length = tokens if before is None else min(tokens, before)
    try:
        yield
    finally:
        model.max_seq_length = before
