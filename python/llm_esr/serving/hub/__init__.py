"""A trained model as a folder of the Hugging Face Hub, written and opened; no file in it is a pickle."""

from llm_esr.serving.hub.pretrained import from_pretrained, is_hub_folder
from llm_esr.serving.hub.write import write_hub_folder

__all__ = ["from_pretrained", "is_hub_folder", "write_hub_folder"]
