"""The search for the best point of an experiment.

Read in this order: `goals` (what counts), `space` (where to look), `trials` (what runs say of a
point), `asking` (which points come next; the only import of Optuna), `front` (what is best), `report`
(what was found). All of it are functions of what the ledger holds.
"""
