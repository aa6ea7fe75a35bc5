"""Lists by the search beside lists from scores of the whole catalogue."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from llm_esr.scoring import NetworkScorer
from llm_esr.scoring.large_catalogue import LargeCatalogue
from llm_esr.scoring.lists import top_k


class Means:
    """A model whose user vector is the mean of the item vectors."""

    training = False
    max_len = 50

    def __init__(self, n_items=5000, width=12):
        rng = np.random.default_rng(0)
        middle = rng.standard_normal((40, width))
        rows = middle[rng.integers(40, size=n_items)] + 0.3 * rng.standard_normal((n_items, width))
        self.matrix = torch.from_numpy(rows.astype(np.float32))

    def sequences(self, items, offsets):
        return items, offsets

    def encode(self, sequences):
        items, offsets = sequences
        return torch.stack([self.matrix[items[a:b] - 1].mean(dim=0) for a, b in pairwise(offsets)])

    def item_matrix(self):
        return self.matrix

    def train(self, mode=True):
        self.training = mode


class AllAlike:
    """Scores for empty histories."""

    name = "all-alike"

    def scores(self, items, offsets):
        return torch.arange(5000, dtype=torch.float32).repeat(len(offsets) - 1, 1)


def histories(lengths, seed=1):
    rng = np.random.default_rng(seed)
    items = [rng.integers(1, 5001, size=length) for length in lengths]
    return np.concatenate([np.empty(0), *items]).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(
        np.int64
    )


@pytest.fixture
def network():
    return NetworkScorer(Means(), "means", fallback=AllAlike())


def share(found, exact):
    return np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)])


@pytest.mark.parametrize("keep_seen", [False, True])
def test_lists_are_nearly_those_of_all_scores(network, keep_seen):
    asked = histories([3, 20, 1, 0, 7, 40, 1200, 2] * 5)
    found, scores = LargeCatalogue(network, histories([5] * 400, seed=2)).lists(*asked, 10, keep_seen=keep_seen)
    exact, exact_scores = top_k(network.scores(*asked), 10, None if keep_seen else asked)
    assert found.dtype == np.int32 and scores.dtype == np.float32
    assert share(found, exact) > 0.97
    same = found == exact
    np.testing.assert_allclose(scores[same], exact_scores[same], rtol=1e-4, atol=1e-5)
    empty_or_long = np.isin(np.diff(asked[1]), [0, 1200])
    np.testing.assert_array_equal(found[empty_or_long], exact[empty_or_long])
    for row, (start, stop) in enumerate(pairwise(asked[1])):
        assert keep_seen or not np.isin(found[row], asked[0][start:stop]).any()


def test_a_list_may_be_as_long_as_the_catalogue(network):
    asked = histories([4, 9])
    found = LargeCatalogue(network, histories([5] * 50, seed=2)).lists(*asked, 9000)
    for ours, exact in zip(found, top_k(network.scores(*asked), 9000, asked), strict=True):
        np.testing.assert_array_equal(ours, exact)


def test_the_index_is_kept_and_found_again(network, tmp_path: Path):
    path = tmp_path / "items.lists"
    sample, asked = histories([5] * 100, seed=2), histories([3, 8])
    first = LargeCatalogue(network, sample, path)
    found = first.lists(*asked, 10)
    kept = path.read_bytes()
    again = LargeCatalogue(network, sample, path)
    for one, other in zip(found, again.lists(*asked, 10), strict=True):
        np.testing.assert_array_equal(one, other)
    assert path.read_bytes() == kept
    assert "recall expected 0.99" in first.about() and "measured" in first.about()
    path.write_bytes(kept[:-1])
    with pytest.raises(ValueError, match="is no index of these vectors"):
        LargeCatalogue(network, sample, path).lists(*asked, 10)
    nowhere = LargeCatalogue(network, sample, tmp_path / "no-folder" / "items.lists")
    np.testing.assert_array_equal(nowhere.lists(*asked, 10)[0], found[0])


def test_new_weights_are_searched_after_a_refresh(network):
    made = LargeCatalogue(network, histories([5] * 100, seed=2))
    asked = histories([3, 8])
    before, _ = made.lists(*asked, 10)
    network.model.matrix = -network.model.matrix.flip(0)
    made.refresh()
    exact, _ = top_k(network.scores(*asked), 10, asked)
    assert share(made.lists(*asked, 10)[0], exact) > 0.8 > share(before, exact)
