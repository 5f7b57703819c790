"""Two Gaussians, ordinary and shifted, told apart by a score that grows with the value."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri


def gaussian_auroc(shift: float, features: int = 1) -> float:
    """Return P(attack scores above benign) for unit Gaussians `shift` apart.

    Green and Swets, "Signal detection theory and psychophysics" (1966): Phi(shift / sqrt 2). For the
    largest of several features it is the integral of the maximum's distributions.

    >>> round(gaussian_auroc(1), 5), round(gaussian_auroc(2), 5)
    (0.76025, 0.92135)
    """
    if features == 1:
        return float(ndtr(shift / np.sqrt(2)))
    z = np.linspace(-9, 9 + shift, 200_001)
    benign, attack = ndtr(z) ** features, ndtr(z - shift) ** features
    return float(np.sum((benign[1:] + benign[:-1]) / 2 * np.diff(attack)))


def recall_at(false_alarm_rate: float, shift: float) -> float:
    """Return the share of shifted values above the limit that a share of ordinary ones exceeds.

    >>> round(recall_at(0.01, 3.6078994), 6)
    0.9
    """
    return float(ndtr(shift + ndtri(false_alarm_rate)))


def precision_at(base_rate: float, recall: float, false_alarm_rate: float) -> float:
    """Return the share of alarms that are attacks, by Bayes's theorem.

    Axelsson, "The base-rate fallacy and the difficulty of intrusion detection" (2000).

    >>> [round(precision_at(share, 0.9, 0.01), 6) for share in (0.1, 0.001)]
    [0.909091, 0.082645]
    """
    caught = base_rate * recall
    return caught / (caught + (1 - base_rate) * false_alarm_rate)
