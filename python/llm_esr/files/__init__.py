"""Files that are whole or absent, their checksums, small records, and the one format number."""

from llm_esr.files.atomic import atomic_file, atomic_folder, atomic_path, sync_folder
from llm_esr.files.checksums import checksum, key_of
from llm_esr.files.format import FORMAT
from llm_esr.files.records import read_json, write_array, write_json

__all__ = [
    "FORMAT",
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
