"""Comparisons of points with a baseline: differences, corrected p-values, and a verdict in words.

Read in this order: `directions` (what is better), `differences` (estimates of one comparison),
`bootstrap`, `corrections` (the whole family), `planning` (how many replicates), `verdicts`,
`pairing` (which runs are compared), `report` (all of it), `telling` (in words). scipy.stats and statsmodels are imported
when they are needed, because they take 100 MB.
"""
