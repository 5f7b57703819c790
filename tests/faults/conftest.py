"""Tests that start the real program several times take minutes on a busy machine."""

from __future__ import annotations

from pathlib import Path

import pytest

LONGEST_SECONDS = 1_200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time before they are taken for hanging."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(LONGEST_SECONDS))
