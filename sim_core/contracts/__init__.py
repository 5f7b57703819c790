"""What every detector, adversary and traffic source must do, as checks that anybody can run.

The built-in kinds are held to them by `tests/contracts`, plug-ins by `pytest --quorumlab-contracts` or by
a test of their own (`sim_core.contracts.checks`). Checks need Hypothesis and pytest, which experiments do
without: `pip install quorumlab[contracts]`.
"""
