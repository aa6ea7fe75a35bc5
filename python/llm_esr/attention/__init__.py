"""Multi-head attention over a batch's tokens, and the backends that compute it."""
