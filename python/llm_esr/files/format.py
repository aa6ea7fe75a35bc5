"""The one format number of every file that the package writes."""

from __future__ import annotations

# Goes up when any file changes in a way that another release would misread. A file of another number is refused, or
# made again by its stage.
FORMAT = 2
