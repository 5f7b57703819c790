"""Settings of plug-ins arrive in other processes with their plug-in, or with the news that it is not there."""

from __future__ import annotations

import pytest

from sim_core.config import ModelConfig
from sim_core.errors import Unavailable
from sim_core.jobs import Job
from sim_core.plugins.loading import Absent, arrived
from sim_core.simulate import RunSpec
from tasks.occupancy import Place
from tasks.ray_worker import expect_the_same
from tests.plugins.installed import Installed

SENT = """
import base64, sys
from multiprocessing.reduction import ForkingPickler
from sim_core.config import ModelConfig
from sim_core.detectors import DETECTORS, make_detector
from sim_core.randomness import Streams
"""


def test_a_configuration_brings_its_plugin_along(installed: Installed) -> None:
    sent = installed.answer(
        SENT
        + "config = ModelConfig.model_validate({'detector': {'kind': 'distance', 'learning_rate': 0.5}})\n"
        "found = base64.b64encode(ForkingPickler.dumps(config)).decode()"
    )
    rate, is_there = installed.answer(
        SENT + f"config = ForkingPickler.loads(base64.b64decode({sent!r}))\n"
        "there = 'distance' in DETECTORS\n"
        "found = [make_detector(config.detector, Streams(1, 0)).rate, there]"
    )
    assert (rate, is_there) == (0.5, True)


def test_node_without_the_package_is_refused_in_words() -> None:
    settings = arrived("detector", "distance", {"learning_rate": 0.5})
    assert isinstance(settings, Absent)
    config = ModelConfig().model_copy(update={"detector": settings})
    job: Job = (RunSpec("ab" * 32, config, seed=1, replicate=0), None)
    with pytest.raises(Unavailable, match="no installed package offers it") as refused:
        expect_the_same([job], {}, Place("node-7", 1))
    assert "node-7" in str(refused.value)
