"""How proposals and decisions travel: topologies and disseminations, one registry."""

from __future__ import annotations

from sim_core.network.dissemination import (
    DISSEMINATIONS,
    Deliveries,
    Dissemination,
    make_dissemination,
)

__all__ = ["DISSEMINATIONS", "Deliveries", "Dissemination", "make_dissemination"]
