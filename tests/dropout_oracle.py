"""Which entries the Rust kernels drop, in NumPy: the layout that `dropout.rs` documents."""

from __future__ import annotations

import numpy as np

from llm_esr import _native


def kept(seed: int, use: int, owner: int, place: int, count: int, rate: float) -> np.ndarray:
    """Which of `count` entries dropout keeps: uniform numbers below 1 - rate, compared digit by digit."""
    chance = 65536 - round(rate * 65536)
    if chance == 65536:
        return np.ones(count, bool)
    digits = [int(d) for d in f"{chance:016b}".rstrip("0")]
    groups = []
    for group in range(-(-count // 64)):
        blocks = [_native.philox([seed, use], [owner, place, group, b]) for b in range(-(-len(digits) // 4))]
        # The words belong to the digits from the last to the first.
        words = np.concatenate(blocks)[: len(digits)][::-1].copy()
        bits = np.unpackbits(words.view(np.uint8), bitorder="little").reshape(len(digits), 64)
        below = np.zeros(64, bool)
        undecided = np.ones(64, bool)
        for digit, bit in zip(digits, bits, strict=True):
            # Of the first place in which the two numbers differ: the uniform one is below where it has the 0. (The
            # kernel's bits stand for the uniform number's complement.)
            below |= undecided & (digit == 1) & (bit == 1)
            undecided &= bit == (0 if digit else 1)
        groups.append(below)
    return np.concatenate(groups)[:count]
