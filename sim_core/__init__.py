"""The simulated system: a network of nodes that detects, publishes, votes and learns.

Nothing in here knows Prefect, Ray, MLflow, Hydra or Great Expectations.
"""
