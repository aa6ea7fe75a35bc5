"""Texts of others: files that are UTF-8 or an error, and values that are fit to be printed."""

from __future__ import annotations

import codecs
import textwrap
import unicodedata
from pathlib import Path

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text_file(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises:
        ValueError: another encoding; the message names the line and a command that converts.
    """
    return decode(path.read_bytes(), path)


def decode(raw: bytes, path: Path) -> str:
    """Bytes of a file as text; see `read_text_file`."""
    found = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None)
    if found is None:
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            found = "Windows-1252" if _reads_as(raw, "cp1252") else "ISO-8859-1"
            where = f"line {line} is not UTF-8 (byte 0x{raw[error.start]:02x}); it looks like {found}"
    else:
        where = f"it is {found}"
    raise ValueError(f"{path}: {where}; expected UTF-8: iconv -f {found} -t UTF-8 '{path}' > utf8-{path.name}")


def _reads_as(raw: bytes, encoding: str) -> bool:
    try:
        raw.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def printable(value: object) -> str:
    r"""A value as one line of text: control characters, and those that turn the direction of writing, as escapes.

    Ids, titles and file names are other people's texts; `\x1b[31m` in one of them must not colour the terminal.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char
                   for char in text)  # fmt: skip


def folded(text: str, width: int, indent: int = 4) -> str:
    """A line as lines of a terminal: broken between words alone, those after the first indented."""
    return textwrap.fill(
        text, max(width, 2 * indent), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def _escaped(char: str) -> str:
    if char in "\u200c\u200d":
        return char  # joiners are part of words and of emoji
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
