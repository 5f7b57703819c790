"""Plots of a report: one look for all of them, and a module for each kind of picture.

`style` has colours, names and rules for light and dark; `canvas` draws SVG; `effects` shows
differences from a baseline, `factor_curves` a metric over a number, `heat_map` over two factors,
`parallel` many factors at once, `step_curves` the course of runs. They write SVG themselves, in milliseconds and kilobytes, where
matplotlib takes half a second for each picture and one to be imported.
"""
