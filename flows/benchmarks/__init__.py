"""What `quorumlab benchmark` does: measure suites, keep the figures, compare them, and say where they tend.

`cases` (what is measured, and how samples are taken), `machine` (where), `suite_runs` (a whole suite,
in one process or several), `files` (what is written and read), `comparing` (two sets of figures),
`conditions` (under which they were measured), `history`, `publishing` and `trends` (earlier figures),
`nightly` (what is due by the clock), `showing` (in words), `command` (all of it together).
"""
