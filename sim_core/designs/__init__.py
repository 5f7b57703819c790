"""Which configurations an experiment looks at: from factors to the points of a design."""

from sim_core.designs.rows import Design, make_design

__all__ = ["Design", "make_design"]
