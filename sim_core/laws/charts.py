"""Average run lengths of control charts on independent N(shift, 1) input.

A run length is the number of observations up to the first alarm, that one included. The integral
equations are solved by Gauss-Legendre quadrature, the method of Crowder (1987) for both charts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Vector = NDArray[np.float64]
NODES = 120
"""Points of the quadrature; twice as many change the values below 1e-9 of themselves."""


def shewhart_run_length(limit: float, shift: float = 0.0, features: int = 1) -> float:
    """Return the average run length of a two-sided Shewhart chart.

    Of several independent features, the first beyond its limits gives the alarm (Shewhart 1931).

    >>> round(shewhart_run_length(3), 2), round(shewhart_run_length(3, 1), 2)
    (370.4, 43.89)
    """
    within = ndtr(limit - shift) - ndtr(-limit - shift)
    return float(1 / (1 - within**features))


def cusum_run_length(limit: float, slack: float, shift: float = 0.0) -> float:
    """Return the average run length of a two-sided CUSUM that starts at zero.

    1/L = 1/L_up + 1/L_down holds exactly where both sides have the same limit and slack (Kemp,
    "The average run length of the cumulative sum chart", 1961; van Dobben de Bruyn 1968).

    >>> round(cusum_run_length(5, 0.5), 2), round(cusum_run_length(5, 0.5, 1), 2)
    (465.44, 10.38)
    """
    up = one_sided_cusum_run_length(limit, slack, shift)
    down = one_sided_cusum_run_length(limit, slack, -shift)
    return 1 / (1 / up + 1 / down)


def one_sided_cusum_run_length(limit: float, slack: float, shift: float = 0.0) -> float:
    """Return the average run length of the upper CUSUM that starts at zero.

    Solves L(u) = 1 + L(0) Phi(k - u - shift) + integral over (0, h) of L(y) phi(y + k - u - shift)
    (Page, "Continuous inspection schemes", 1954), 0 being one more point of the system.
    """
    y, weight = _points(0.0, limit)
    starts = np.append(0.0, y)
    stays = slack - starts - shift
    kernel = np.empty((y.size + 1, y.size + 1))
    kernel[:, 0] = ndtr(stays)
    kernel[:, 1:] = weight * _density(y + stays[:, None])
    return float(np.linalg.solve(np.eye(starts.size) - kernel, np.ones(starts.size))[0])


def ewma_run_length(limit: float, weight: float, shift: float = 0.0) -> float:
    """Return the average run length of a two-sided EWMA that starts at zero.

    Limits are `limit` asymptotic standard deviations of the statistic (Crowder, "A simple method for
    studying run-length distributions of exponentially weighted moving average charts", 1987).

    >>> round(ewma_run_length(2.814, 0.1), 2), round(ewma_run_length(2.814, 0.1, 1), 2)
    (499.58, 10.33)
    """
    half = limit * np.sqrt(weight / (2 - weight))
    y, share = _points(-half, half)
    starts = np.append(0.0, y)
    observed = (y - (1 - weight) * starts[:, None]) / weight
    kernel = np.zeros((y.size + 1, y.size + 1))
    kernel[:, 1:] = share / weight * _density(observed - shift)
    return float(np.linalg.solve(np.eye(starts.size) - kernel, np.ones(starts.size))[0])


def _points(low: float, high: float) -> tuple[Vector, Vector]:
    """Return points and weights of the Gauss-Legendre quadrature over an interval."""
    y, weight = np.polynomial.legendre.leggauss(NODES)
    return low + (high - low) * (y + 1) / 2, weight * (high - low) / 2


def _density(x: Vector) -> Vector:
    """Return the standard normal density."""
    density: Vector = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return density
