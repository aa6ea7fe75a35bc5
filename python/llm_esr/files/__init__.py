"""Files that are whole or absent, their checksums, small records, and the one format number."""

from llm_esr.files.atomic import atomic_file, atomic_folder, atomic_path, sync_folder
from llm_esr.files.checksums import checksum, key_of
from llm_esr.files.format import FORMAT
from llm_esr.files.given import given_path
from llm_esr.files.parquet import read_parquet, scan_parquet, write_parquet
from llm_esr.files.records import read_json, write_array, write_json

__all__ = [
    "FORMAT",
    "atomic_file",
    "atomic_folder",
    "atomic_path",
    "checksum",
    "given_path",
    "key_of",
    "read_json",
    "read_parquet",
    "scan_parquet",
    "sync_folder",
    "write_array",
    "write_json",
    "write_parquet",
]
