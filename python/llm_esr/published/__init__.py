"""The folders that the authors of the paper publish."""

from llm_esr.published.convert import convert

__all__ = ["convert"]
