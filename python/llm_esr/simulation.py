"""A simulated shop: items with readable texts, and users whose tastes and paths follow those texts.

Nothing here is real; every description says so. The process, in full:

*Catalogue.* Ten departments hold kinds of goods ("trail running shoes", "running socks", ...) that lie on a path: what
one tends to need after what. An item is a kind in one style (minimalist, vintage, ...), of one brand, in a material
and a colour; its text says so. Brands belong to a department and lean to one style. An item's appeal is drawn from a
Zipf law, whatever its text, so most items are hardly ever chosen.

*Users.* A user likes one to three departments and mostly one style. Lengths are log-normal: many short histories, a
few long ones. Each next item is drawn from all the items not yet chosen, with log-probability (up to a constant)

    appeal + departments liked + style liked + next on the path of the last item's kind
           + same brand as the last item + same style as the last item

So the last items tell what comes next, better than what is popular at large does; and since path, style and
brand are in the texts, a model that reads them can place an item it has hardly met. Nobody is told which items are
rare, and no draw looks at a text's vector: it is the kind of regularity that shops have, made clean.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm_esr.doors import door

_PATHS: dict[str, list[str]] = {
    "Running": [
        "trail running shoes", "running socks", "running shorts", "hydration vest", "energy gel pack", "sports watch",
        "headlamp", "running jacket", "foam roller", "recovery sandals",
    ],
    "Camping": [
        "two person tent", "sleeping bag", "camping mat", "gas stove", "cooking pot set", "camping lantern",
        "water filter", "folding chair", "insulated flask", "multi tool",
    ],
    "Coffee": [
        "espresso machine", "burr grinder", "coffee scale", "portafilter basket", "milk jug", "knock box",
        "espresso beans", "coffee cup set", "cleaning tablets", "pour over kettle",
    ],
    "Baking": [
        "stand mixer", "mixing bowl", "digital kitchen scale", "bread tin", "proofing basket", "dough scraper",
        "cake pan", "cooling rack", "piping bag set", "flour canister",
    ],
    "Gardening": [
        "raised bed", "potting soil", "seed tray", "hand trowel", "watering can", "pruning shears", "garden gloves",
        "plant labels", "compost bin", "hose reel",
    ],
    "Painting": [
        "acrylic paint set", "canvas board", "paint brush set", "tabletop easel", "palette knife", "gesso primer",
        "sketchbook", "graphite pencils", "varnish spray", "picture frame",
    ],
    "Skin care": [
        "cleansing balm", "face wash", "toner", "vitamin serum", "eye cream", "moisturiser", "sunscreen lotion",
        "clay mask", "lip balm", "night oil",
    ],
    "Photography": [
        "mirrorless camera", "prime lens", "camera strap", "tripod", "memory card", "lens filter", "camera bag",
        "flash unit", "cleaning kit", "photo album",
    ],
    "Home office": [
        "standing desk", "office chair", "desk lamp", "monitor arm", "mechanical keyboard", "wireless mouse",
        "desk mat", "cable organiser", "notebook", "fountain pen",
    ],
    "Cycling": [
        "gravel bike", "bike helmet", "cycling jersey", "bib shorts", "clipless pedals", "cycling shoes", "bike light",
        "frame bag", "tyre repair kit", "floor pump",
    ],
}  # fmt: skip
_STYLES: dict[str, str] = {
    "minimalist": "Clean lines and nothing that is not needed.",
    "vintage": "A look from the seventies with patient details.",
    "rugged": "Built for rough use and bad weather.",
    "ultralight": "Every gram was questioned.",
    "luxury": "Finished by hand and made to be shown.",
    "eco": "Recycled inputs and a repair service for life.",
    "playful": "Bright, rounded and a little silly.",
    "professional": "Specified with people who do this all day.",
}
_MATERIALS = ["steel", "bamboo", "wool", "cork", "aluminium", "cotton", "glass", "leather", "ceramic", "nylon"]
_COLOURS = ["black", "sand", "forest green", "navy", "rust", "white", "slate", "mustard", "plum", "teal"]
_FIRST = ["Nor", "Al", "Bre", "Cal", "Dun", "Eld", "Fen", "Gar", "Hol", "Iver", "Jun", "Kest", "Lor", "Mar", "Oak"]
_LAST = ["vik", "mont", "ton", "dale", "mark", "wood", "well", "ridge"]
_BRANDS_EACH = 8  # brands of a department

_ZIPF = 0.9
_LIKED, _LIKED_STYLE, _NEXT, _AFTER_NEXT, _SAME_BRAND, _SAME_STYLE = 3.0, 1.5, 4.0, 2.5, 1.0, 1.5
_LONGEST = 60
_START = 1_577_836_800  # 2020-01-01, in seconds
_DAY = 86_400


@door
def simulate(seed: int = 42, n_users: int = 3000, n_items: int = 2000) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make a simulated shop; the module's text tells how. The same arguments give the same tables.

    Args:
        seed: of everything that is drawn.
        n_users: at least 1.
        n_items: at least `2 * 60`, so that the longest history leaves a choice.

    Returns:
        Interactions (`user_id`, `item_id`, `timestamp` in seconds), in time order within a user, no item twice; and
        items (`item_id`, `title`, `brand`, `category`, `style`, `material`, `color`, `description`). Items that
        nobody chose are in the items table too.

    Raises:
        ValueError: too few users or items.
    """
    if n_users < 1 or n_items < 2 * _LONGEST:
        raise ValueError(f"simulate needs 1 user and {2 * _LONGEST} items at least; got {n_users} and {n_items}")
    rng = np.random.default_rng(seed)
    catalogue = _Catalogue(rng, n_items)
    return _interactions(rng, catalogue, n_users), catalogue.table()


class _Catalogue:
    """Items as numbers: department, kind (0..99), style, brand and appeal, all `[I]`."""

    def __init__(self, rng: np.random.Generator, n_items: int) -> None:
        departments = len(_PATHS)
        self.kinds_each = len(next(iter(_PATHS.values())))
        self.kind = rng.permutation(np.arange(n_items) % (departments * self.kinds_each))
        self.department = self.kind // self.kinds_each
        brand_style = rng.integers(len(_STYLES), size=departments * _BRANDS_EACH)
        self.brand = self.department * _BRANDS_EACH + rng.integers(_BRANDS_EACH, size=n_items)
        own = rng.integers(len(_STYLES), size=n_items)
        self.style = np.where(rng.random(n_items) < 0.7, brand_style[self.brand], own)
        self.material = rng.integers(len(_MATERIALS), size=n_items)
        self.colour = rng.integers(len(_COLOURS), size=n_items)
        self.appeal = -_ZIPF * np.log1p(rng.permutation(n_items))
        names = [first + last for last in _LAST for first in _FIRST]
        self.brand_names = rng.permutation(np.array(names))[: departments * _BRANDS_EACH]

    def table(self) -> pl.DataFrame:
        departments, styles = list(_PATHS), list(_STYLES)
        kinds = [kind for path in _PATHS.values() for kind in path]
        rows = []
        for item in range(len(self.kind)):
            kind, style = kinds[self.kind[item]], styles[self.style[item]]
            brand, material = str(self.brand_names[self.brand[item]]), _MATERIALS[self.material[item]]
            colour, article = _COLOURS[self.colour[item]], "An" if style[0] in "eu" else "A"
            rows.append(
                {
                    "item_id": f"s{item + 1:05d}",
                    "title": f"{brand} {style} {kind}, {colour}",
                    "brand": brand,
                    "category": f"{departments[self.department[item]]} > {kind}",
                    "style": style,
                    "material": material,
                    "color": colour,
                    "description": f"Simulated item. {article} {style} {kind} in {material}. {_STYLES[style]}",
                }
            )
        return pl.DataFrame(rows)

    def follows(self) -> NDArray[np.float32]:
        """What the last item's kind adds to each kind's log-weight, `[kinds, kinds]`: the next two on its path."""
        kinds = len(_PATHS) * self.kinds_each
        weights = np.zeros((kinds, kinds), dtype=np.float32)
        place = np.arange(kinds)
        start = place - place % self.kinds_each
        for step, weight in ((1, _NEXT), (2, _AFTER_NEXT)):
            weights[place, start + (place + step) % self.kinds_each] = weight
        return weights


def _interactions(rng: np.random.Generator, catalogue: _Catalogue, n_users: int) -> pl.DataFrame:
    n_items = len(catalogue.kind)
    taste = _tastes(rng, catalogue, n_users)
    lengths = np.minimum(3 + np.floor(rng.lognormal(1.35, 0.95, size=n_users)).astype(np.int64), _LONGEST)
    follows = catalogue.follows()
    chosen = np.full((n_users, _LONGEST), -1, dtype=np.int64)
    met = np.zeros((n_users, n_items), dtype=bool)
    for step in range(int(lengths.max())):
        users = np.flatnonzero(lengths > step)
        logits = taste[users]
        if step:
            last = chosen[users, step - 1]
            logits += follows[catalogue.kind[last]][:, catalogue.kind]
            logits += np.float32(_SAME_BRAND) * (catalogue.brand[last][:, None] == catalogue.brand)
            logits += np.float32(_SAME_STYLE) * (catalogue.style[last][:, None] == catalogue.style)
        logits[met[users]] = -np.inf
        # The largest of logit + Gumbel noise is a draw from the softmax.
        picks = np.argmax(logits + rng.gumbel(size=logits.shape).astype(np.float32), axis=1)
        chosen[users, step] = picks
        met[users, picks] = True
    present = chosen >= 0
    first = _START + rng.integers(0, 700 * _DAY, size=(n_users, 1))
    times = first + np.cumsum(1 + rng.exponential(9 * _DAY, size=chosen.shape).astype(np.int64), axis=1)
    return pl.DataFrame(
        {
            "user_id": [f"u{user + 1:05d}" for user in np.nonzero(present)[0]],
            "item_id": [f"s{item + 1:05d}" for item in chosen[present]],
            "timestamp": times[present],
        }
    )


def _tastes(rng: np.random.Generator, catalogue: _Catalogue, n_users: int) -> NDArray[np.float32]:
    """Log-weight of each item for each user before anything was chosen, `[U, I]`."""
    departments = len(_PATHS)
    liked = np.zeros((n_users, departments), dtype=np.float32)
    ranks = rng.permuted(np.tile(np.arange(departments), (n_users, 1)), axis=1)
    liked[ranks < rng.integers(1, 4, size=(n_users, 1))] = _LIKED
    style = rng.integers(len(_STYLES), size=n_users)
    taste: NDArray[np.float32] = liked[:, catalogue.department] + catalogue.appeal.astype(np.float32)
    taste += np.float32(_LIKED_STYLE) * (style[:, None] == catalogue.style)
    return taste
