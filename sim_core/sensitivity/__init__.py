"""Which factors of a design matter for a metric, apart from what seeds do."""

from sim_core.sensitivity.morris import ElementaryEffects, elementary_effects
from sim_core.sensitivity.resampling import Estimate
from sim_core.sensitivity.sobol import SobolIndices, sobol_indices
from sim_core.sensitivity.variance import VarianceParts, split_variance

__all__ = [
    "ElementaryEffects",
    "Estimate",
    "SobolIndices",
    "VarianceParts",
    "elementary_effects",
    "sobol_indices",
    "split_variance",
]
