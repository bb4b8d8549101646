"""The model of the paper: two branches, their alignment, their fusion, and the losses.

`build_model(config)` -> module(log_mel (B,T,128), frames (B,F,3,H,W)) -> Outputs.
"""

from avsc_core.model.network import AudioVisualNet, Outputs, build_model

__all__ = ["AudioVisualNet", "Outputs", "build_model"]
