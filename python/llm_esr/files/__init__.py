"""Files that are whole or absent, their checksums, small records, and the one format number."""

from llm_esr.files.atomic import atomic_file, atomic_folder, atomic_path, sync_folder
from llm_esr.files.checksums import checksum, verify, verify_beside
from llm_esr.files.format import FORMAT
from llm_esr.files.given import given_path, is_there
from llm_esr.files.records import key_of, read_json, read_record, write_array, write_json
from llm_esr.files.text import folded, printable, read_text_file

__all__ = [
    "FORMAT",
    "atomic_file",
    "atomic_folder",
    "atomic_path",
    "checksum",
    "folded",
    "given_path",
    "is_there",
    "key_of",
    "printable",
    "read_json",
    "read_record",
    "read_text_file",
    "sync_folder",
    "verify",
    "verify_beside",
    "write_array",
    "write_json",
]
