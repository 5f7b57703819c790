"""The detector keeps its contract, also with another learning rate than the default."""

from quorumlab_example.detector import DistanceDetector

from sim_core.contracts.checks import keeps_its_contract


@keeps_its_contract(DistanceDetector(), DistanceDetector(learning_rate=0.2))
def test_detector(check):
    check()
