"""The small shop's fixtures."""

from small_shop import make_shop, model, oracle, recommender, shop  # noqa: F401
