"""Ready prompts for the data sets of the paper, in words of our own; settings name them: `embed.item_template: beauty`.

They list what the paper's prompts list: an item's attributes, the longest last, where a cut hurts least; a user's
training items in order, and the question for the preference. An attribute without a value, or a column that the data
set does not have, reads `unknown`.
"""

from __future__ import annotations

ITEM_TEMPLATES = {
    "yelp": (
        "A business on Yelp. Name: {name}. Place: {city}, {state}. Categories: {categories}. Average stars: {stars}. "
        "Attributes: {attributes}"
    ),
    "fashion": (
        "A fashion article. Title: {title}. Brand: {brand}. Price: {price}. Features: {features}. "
        "Description: {description}"
    ),
    "beauty": (
        "A beauty product. Title: {title}. Brand: {brand}. Price: {price}. Categories: {categories}. "
        "Description: {description}"
    ),
}

USER_TEMPLATES = {
    "yelp": (
        "A person on Yelp went to these businesses, earliest first: {history}. "
        "Conclude from them which kinds of places this person prefers."
    ),
    "fashion": (
        "A customer bought these fashion articles, earliest first: {history}. "
        "Conclude from them what this customer prefers to wear."
    ),
    "beauty": (
        "A customer bought these beauty products, earliest first: {history}. "
        "Conclude from them which beauty products this customer prefers."
    ),
}
