"""Philox against NumPy's, and the streams' known answers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm_esr import _native

word = st.integers(0, 2**64 - 1)


@given(st.tuples(word, word), st.tuples(word, word, word, word))
def test_a_block_equals_numpys(key: tuple[int, int], counter: tuple[int, int, int, int]) -> None:
    # NumPy adds one to the counter before it makes a block.
    before = (sum(c << 64 * k for k, c in enumerate(counter)) - 1) % 2**256
    oracle = np.random.Philox(key=key[0] + (key[1] << 64), counter=before)
    np.testing.assert_array_equal(_native.philox(list(key), list(counter)), oracle.random_raw(4))


def test_known_answers() -> None:
    zeros = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    np.testing.assert_array_equal(_native.philox([0, 0], [0, 0, 0, 0]), np.array(zeros, np.uint64))
