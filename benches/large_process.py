"""What 10 million users cost a fresh process: seconds until the first batch, memory beside the maps.

`python benches/large_process.py packed` prints one JSON object. Anonymous memory is what is not a mapped file
(`/proc/self/smaps_rollup`): the interpreter, torch and the loader.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

from our_loader import our_loader, take
from workload import Size, large


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Anonymous:"))


def main() -> None:
    """Open, take one batch, then more, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("layout", choices=("packed", "padded"))
    parser.add_argument("--steps", type=int, default=2000)
    given = parser.parse_args()
    size = Size.from_environment()
    work = large(size)
    before = anonymous()
    began = time.perf_counter()
    batches = iter(our_loader(work, size, similar_users=size.similar_users, layout=given.layout))
    take(batches, 1)
    first = time.perf_counter() - began
    take(itertools.islice(batches, given.steps), given.steps)
    print(json.dumps({"first": first, "anonymous": anonymous(), "grown": anonymous() - before}))


if __name__ == "__main__":
    main()
