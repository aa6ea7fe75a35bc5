"""Files that are whole or absent, their checksums, and small records."""

from llm_esr.files.atomic import atomic_file, atomic_folder, atomic_path, sync_folder
from llm_esr.files.checksums import checksum, key_of
from llm_esr.files.records import read_json, write_array, write_json

__all__ = [
    "atomic_file",
    "atomic_folder",
    "atomic_path",
    "checksum",
    "key_of",
    "read_json",
    "sync_folder",
    "write_array",
    "write_json",
]
