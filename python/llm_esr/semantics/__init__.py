"""From texts to vectors: prompts, encoders, user vectors, and the projection to the model's width."""

from llm_esr.semantics.embed import embed, embed_fresh, embed_key
from llm_esr.semantics.encoders import Encoder, LsaEncoder, SentenceEncoder, make_encoder
from llm_esr.semantics.projection import Projection, fit_projection
from llm_esr.semantics.prompts import item_prompts, user_prompts

__all__ = [
    "Encoder",
    "LsaEncoder",
    "Projection",
    "SentenceEncoder",
    "embed",
    "embed_fresh",
    "embed_key",
    "fit_projection",
    "item_prompts",
    "make_encoder",
    "user_prompts",
]
