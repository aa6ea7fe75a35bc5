"""An item view turns item ids into vectors of the model's width.

Shapes: n items, I all items, D model width, E width of the items' vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from llm_esr.config import ModelConfig
from llm_esr.models.views.borrowing import BorrowedRows


@dataclass(frozen=True)
class ModelData:
    """What a model is built from beside the `model` section.

    Attributes:
        n_items: I.
        item_vectors: [I, E], row = id - 1; for views that read vectors.
        initial_table: [I, D], what an item table starts from with `collaborative_init: pca` or `stored`.
        borrowed: what `model.borrow` mixes each item's row from (see `borrowing.py`).
        n_centred: the first so many items are those that the model was trained with, where it has gained others.
        mask_tokens: the model reads mask tokens though its backbone does not ask for them (augmentation.mask).

    """

    n_items: int
    item_vectors: Tensor | None = None
    initial_table: Tensor | None = None
    borrowed: BorrowedRows | None = None
    mask_tokens: bool = False
    n_centred: int | None = None


class View(nn.Module):
    """A view; built as `NAME(config, data)`."""

    def __init__(self, config: ModelConfig, data: ModelData) -> None:
        super().__init__()

    def forward(self, items_n: Tensor) -> Tensor:
        """Ids [n] -> vectors [n, D]; 0 is padding, I + 1 the mask token."""
        raise NotImplementedError

    def drawn(self) -> list[Tensor]:
        """The parameters that the view has initialised itself; the encoder draws the others."""
        return []

    @property
    def item_table(self) -> nn.Embedding | None:
        """The table with a trained row for each id, whose updates may be lazy; None where the view has none."""
        return None
