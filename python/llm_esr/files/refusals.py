"""What a disk says that takes no more, as one error with the path that was meant."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a disk says that takes no more. Libraries in Rust put the number into their message.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
_OS_ERROR = re.compile(r"os error (\d+)")
_LONGEST = 200  # bytes of a name; systems take 255


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what any library says of a disk that takes no more into an error that names the file."""
    try:
        yield
    except Exception as error:
        number = _refusal(error, target)
        if number is None:
            raise
        what = f"{os.strerror(number)}; it was not written, and what lay there is as it was: free space there, or "
        raise OSError(number, f"{what}name a place that can be written", str(target)) from error


def _refusal(error: Exception, target: Path) -> int | None:
    """The number of a system's refusal to write `target`; None: another error."""
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
        if error.filename is None:
            return number if number in FULL else None
        about, prefix = Path(os.fsdecode(error.filename)), prefix_of(target)
        ours = about in (target, *target.parents) or any(part.startswith(prefix) for part in about.parts)
        return number if ours and number in FULL | _CLOSED else None
    found = _OS_ERROR.search(str(error))
    return int(found.group(1)) if found and int(found.group(1)) in FULL else None


def prefix_of(target: Path) -> str:
    """What the names of a target's temporaries begin with; a long name is cut, so that theirs is none too long."""
    return "." + os.fsencode(target.name)[:_LONGEST].decode(errors="ignore") + "."
