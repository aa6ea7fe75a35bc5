"""An index that was used before a fork answers in the child, whose threads it must make anew."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import multiprocessing

import numpy as np

from llm_esr.retrieval.engines import ExactSearch, ListSearch

table = np.random.default_rng(0).standard_normal((4000, 8)).astype(np.float32)
engines = [ExactSearch(table, 2), ListSearch(table, 2, recall=0.9)]
expected = [engine.search(table[:500], 5)[0] for engine in engines]


def answer(queue, deep):
    if deep:
        ask(deep=False)
    for engine, wanted in zip(engines, expected):
        queue.put(bool((engine.search(table[:500], 5)[0] == wanted).all()))
    queue.put(bool((ListSearch(table, 2, recall=0.9).search(table[:500], 5)[0] == expected[1]).all()))


context = multiprocessing.get_context("fork")


def ask(deep):
    queue = context.SimpleQueue()
    child = context.Process(target=answer, args=(queue, deep))
    child.start()
    assert [queue.get() for _ in range(3)] == [True] * 3
    child.join()
    assert child.exitcode == 0


ask(deep=False)
ask(deep=True)
for engine, wanted in zip(engines, expected):
    assert (engine.search(table[:500], 5)[0] == wanted).all()
print("answered")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_an_index_answers_in_a_child_and_in_a_childs_child():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "answered\n", done.stderr
