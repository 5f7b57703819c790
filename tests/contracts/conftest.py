"""Failing checks show their values, as they do for whoever has the plug-in of pytest."""

import sim_core.contracts.pytest_plugin  # noqa: F401 - has assertions of checks rewritten
