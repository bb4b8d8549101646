"""This module refuses values that are not finite (NaN, infinite), by name, where they enter.

They enter as tensors of weights, answers of encoders and teachers, rows of a damaged cache, samples
of a wav and probabilities of a label file. One such value makes every later figure NaN, far from
its cause; so each entry is looked at once, and the tensor or the clip is named.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from avsc_core.errors import Fault, UserError

NOT_FINITE = "has values that are not finite"
SHOWN = 6  # faults that are shown in full; the rest is counted


def is_finite(values: Any) -> bool:
    """Tell whether all values of an array or a tensor are finite."""
    # numpy does not know bfloat16, so a tensor is asked itself.
    finite = values.isfinite() if hasattr(values, "isfinite") else np.isfinite(values)
    return bool(finite.all())


def check_finite(entries: Iterable[tuple[str, str, Any]], todo: str) -> None:
    """Check entries (where, what, values): whose they are, what they are, an array or a tensor.

    Raises UserError with a fault for each entry that has values that are not finite.
    """
    faults = []
    for where, what, values in entries:
        if not is_finite(values):
            faults.append(Fault(where, f"{what} {NOT_FINITE}", todo=todo))
    if len(faults) > SHOWN:
        more = len(faults) - SHOWN
        faults = [*faults[:SHOWN], Fault("...", f"and {more} more like it", todo=todo)]
    if faults:
        raise UserError(faults)
