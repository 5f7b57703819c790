"""An adversary: votes against what others propose, whatever it is."""

from typing import Literal

import numpy as np

from sim_core.adversaries import Ballot
from sim_core.adversaries.strategies import Honest
from sim_core.config import AdversaryBase, Share
from sim_core.plugins import Plugin


class SaboteurAdversary(AdversaryBase):
    """Rejects what others propose, and accepts what it has proposed itself."""

    kind: Literal["saboteur"] = "saboteur"
    spite: Share = 1.0
    """Probability that it rejects what it would have accepted."""


class Saboteur(Honest):
    def __init__(self, config):
        self.spite = config.spite

    def ballots(self, opinion, *, own, by_liar, luck):
        spiteful = np.where(luck < self.spite, Ballot.REJECT, opinion)
        return np.where(own, Ballot.ACCEPT, spiteful).astype(np.uint8)


PLUGIN = Plugin(config=SaboteurAdversary, make=Saboteur)
