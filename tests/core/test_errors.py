"""The tree of errors and the exit codes that scripts rely on."""

from __future__ import annotations

import inspect

import pytest

from sim_core import errors

EXIT_CODES = {
    "QuorumlabError": 1,
    "UserError": 2,
    "ConfigurationError": 2,
    "DataError": 2,
    "WorkspaceError": 2,
    "ExperimentConflict": 2,
    "Unavailable": 3,
    "Interrupted": 130,
    "OwnershipLost": 130,
    "RunFailed": 1,
    "RunTimeout": 1,
    "RunTooLarge": 1,
    "ServiceLost": 1,
    "WorkerDied": 1,
    "LedgerFailed": 1,
    "CheckpointUnwritten": 1,
    "FileUnwritten": 1,
    "CheckpointMismatch": 1,
}


@pytest.mark.parametrize(("name", "exit_code"), EXIT_CODES.items())
def test_exit_codes_are_the_documented_ones(name: str, exit_code: int):
    error = getattr(errors, name)
    assert issubclass(error, errors.QuorumlabError)
    assert error.exit_code == exit_code


def test_every_error_is_drawn_in_the_tree():
    classes = [
        n for n, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert sorted(classes) == sorted(EXIT_CODES)
    assert all(name in (errors.__doc__ or "") for name in classes)


def test_mismatch_says_which_file_what_was_expected_and_what_was_found():
    error = errors.CheckpointMismatch("a/b.ckpt", expected="schema 1", found=2)
    assert str(error) == "checkpoint a/b.ckpt: expected schema 1, found 2"
    assert (error.path, error.expected, error.found) == ("a/b.ckpt", "schema 1", 2)
