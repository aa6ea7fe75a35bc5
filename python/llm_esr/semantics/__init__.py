"""From texts to vectors: prompts, encoders, user vectors, and the projection to the model's width."""

from llm_esr.semantics.encoders import Encoder, LsaEncoder, SentenceEncoder, make_encoder
from llm_esr.semantics.projection import Projection, fit_projection

__all__ = ["Encoder", "LsaEncoder", "Projection", "SentenceEncoder", "fit_projection", "make_encoder"]
