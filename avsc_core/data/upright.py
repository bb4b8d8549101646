"""Turns decoded pictures as their file says that they are to be shown.

Cameras write pictures as the sensor lies, and note in the header how a player has to turn or mirror
them: the display matrix [[a, b], [c, d]], which moves the pixel at (x, y) to (ax + cy, bx + dy).
"""

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import Type


def turn_upright(picture: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Turn and mirror the picture (H,W,3) of a frame: (H,W,3) or (W,H,3).

    Only quarter turns are known to cameras; at another angle the picture stays as it is.
    """
    side_data = frame.side_data.get(Type.DISPLAYMATRIX)
    if side_data is None:
        return picture
    # 3 x 3 numbers with 16 binary digits behind the point; the last column and row are not needed.
    matrix = np.frombuffer(bytes(side_data), np.int32).reshape(3, 3)[:2, :2] / 65536
    (a, b), (c, d) = np.sign(np.rint(matrix)).astype(int)
    if a == d == 0 and b and c:
        return _flip(picture.transpose(1, 0, 2), horizontally=c < 0, vertically=b < 0)
    if b == c == 0 and a and d:
        return _flip(picture, horizontally=a < 0, vertically=d < 0)
    return picture


def _flip(picture: np.ndarray, horizontally: bool, vertically: bool) -> np.ndarray:
    """Mirror a picture (H,W,3) left to right, and upside down."""
    return picture[:: -1 if vertically else 1, :: -1 if horizontally else 1]
