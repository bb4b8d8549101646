"""This package reads and writes the weights of models.

    sources.py       a name in a configuration -> a local file (without torch)
    layouts.py       the names that published checkpoints give to tensors -> ours
    published.py     a published checkpoint -> its tensors under our names
    pretrained.py    published tensors -> the encoders of a model, with an account of each tensor
    model_folder.py  a trained model <-> a folder on disk

No file that is read here can run code: it holds tensors and JSON only.
"""
