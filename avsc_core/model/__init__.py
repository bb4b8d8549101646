"""This package is the model of the paper, and nothing else; read it beside the paper.

    branch.py      an encoder, an embedding layer, a classifier
    audio.py       the audio encoder, AST
    visual.py      the visual encoder, ConvNeXt
    pooling.py     pooling over time: of frames, and of pieces of sound
    alignment.py   contrastive event-object alignment, CEOA (Eq. 3 and 4)
    attention.py   cross-attention between class probabilities (Eq. 5)
    fusion.py      semantic fusion, SF (Eq. 5 and 6), and the fusions it is compared with
    losses.py      the five losses and their sum (Eq. 1, 2 and 7)
    network.py     the whole model (Fig. 1)

`build_model(config)` returns a module that maps log_mel (B,T,128) and frames (B,F,3,H,W) to
`Outputs`.
"""

from avsc_core.model.network import AudioVisualNet, Outputs, build_model

__all__ = ["AudioVisualNet", "Outputs", "build_model"]
