"""Multi-head attention over a batch's tokens: one interface, and the backends that compute it.

tokens, queries, memory --projections--> backend (flat | jagged | rows | dense) --output projection--> mixtures
"""

from llm_esr.attention.choice import use_backend
from llm_esr.attention.multi_head import Attention
from llm_esr.attention.right_padded import RightPadded
from llm_esr.attention.tokens import Tokens

__all__ = ["Attention", "RightPadded", "Tokens", "use_backend"]
