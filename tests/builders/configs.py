"""Configurations that train in a second."""

# Over preset demo: 64 x 128 log-mels, one picture of 32 x 32 pixels, one transformer block.
TINY = (
    "log_mel.frames=64",
    "log_mel.hop_ms=160",
    "pictures.frames=1",
    "pictures.resize=32",
    "pictures.size=32",
    "audio.width=16",
    "audio.depth=1",
    "audio.heads=2",
    "audio.embedding=16",
    "visual.dims=[8, 8, 16, 16]",
    "visual.embedding=16",
    "fusion.hidden=32",
    "training.epochs=3",
)
TINY_OPTIONS = tuple(word for setting in TINY for word in ("--set", setting))
