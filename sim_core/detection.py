"""What the nodes saw in one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Detection:
    """Scores and alarms of all nodes."""

    score: NDArray[np.float32]
    """`[n_nodes, n_flows]`."""
    threshold: NDArray[np.float32]
    """`[n_nodes]`."""
    matched: Mask
    """Matched by a signature that the node holds `[n_nodes, n_flows]`."""
    flagged: Mask
    """Above threshold or matched, at nodes that are up `[n_nodes, n_flows]`."""
