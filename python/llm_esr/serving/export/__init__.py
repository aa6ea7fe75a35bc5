"""A trained model as files that need neither this package nor its Rust core: ONNX or torch, safetensors and JSON."""

from llm_esr.serving.export.folder import export_model

__all__ = ["export_model"]
