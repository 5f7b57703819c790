"""Compiled passes over the flows of some nodes: what a step does to each flow.

Loops run over flows innermost, so that they vectorise; sums have the order that is written here. A
node's result depends on its own rows alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import float32, float64, int64, njit, uint32

from sim_core.state import RECENT_FLOWS, SCORE_BINS

TP, FP, TN, FN = 0, 1, 2, 3
EVERYONE, HONEST = 0, 1


@njit(cache=True, nogil=True)
def flag_flows(
    x: Any, score: Any, threshold: Any, up: Any, blacklist: Any,
    number: Any, centroid: Any, scale: Any, radius: Any, matched: Any, flagged: Any,
) -> None:  # fmt: skip
    """Write which flows match a held signature, and which of them are flagged.

    Args:
        x: Features `[n_nodes, n_features, n_flows]`.
        score: `[n_nodes, n_flows]`.
        threshold: `[n_nodes]`.
        up: `[n_nodes]`.
        blacklist: Numbers of the signatures held, -1 is empty `[n_nodes, capacity]`.
        number: Numbers of the known signatures, ascending `[n_signatures]`.
        centroid: `[n_signatures, n_features]`.
        scale: `[n_signatures, n_features]`.
        radius: Largest root mean square distance that is a match.
        matched: Written `[n_nodes, n_flows]`.
        flagged: Written `[n_nodes, n_flows]`.
    """
    n_nodes, n_features, n_flows = x.shape
    limit = float32(radius * radius * n_features)
    distance = np.empty(n_flows, np.float32)
    for i in range(n_nodes):
        matched[i, :] = False
        flagged[i, :] = False
        if not up[i]:
            continue
        for slot in range(blacklist.shape[1]):
            if blacklist[i, slot] < 0:
                continue
            s = np.searchsorted(number, blacklist[i, slot])
            distance[:] = float32(0)
            for d in range(n_features):
                center, inverse = centroid[s, d], float32(1) / scale[s, d]
                row = x[i, d]
                for b in range(n_flows):
                    z = (row[b] - center) * inverse
                    distance[b] += z * z
            for b in range(n_flows):
                matched[i, b] |= distance[b] <= limit
        for b in range(n_flows):
            flagged[i, b] = matched[i, b] | (score[i, b] > threshold[i])


@njit(cache=True, nogil=True)
def tally(
    y: Any, score: Any, matched: Any, flagged: Any, up: Any, honest: Any, step: int,
    counts: Any, blocked: Any, caught: Any, alarms: Any, first_alarm: Any, histogram: Any,
) -> None:  # fmt: skip
    """Add up what the metrics count.

    Args:
        y: Truth `[n_nodes, n_flows]`.
        score: `[n_nodes, n_flows]`.
        matched: `[n_nodes, n_flows]`.
        flagged: `[n_nodes, n_flows]`.
        up: `[n_nodes]`.
        honest: `[n_nodes]`.
        step: This step.
        counts: Added to: TP, FP, TN, FN of all nodes that are up, and of the honest ones `[2, 4]`.
        blocked: Added to: matched benign flows of honest nodes `[1]`.
        caught: Set: families of which an honest node flagged a flow `[n_families + 1]`.
        alarms: Written: flagged flows of each node `[n_nodes]`.
        first_alarm: Written where still -1 `[n_nodes]`.
        histogram: Added to: scores at honest nodes `[2, SCORE_BINS]`; nothing if it has no rows.
    """
    n_nodes, n_flows = y.shape
    bits = score.view(np.uint32)
    for i in range(n_nodes):
        alarms[i] = 0
        if not up[i]:
            continue
        tp, attacks, flags, benign_matched = 0, 0, 0, 0
        for b in range(n_flows):
            attack = y[i, b] > 0
            tp += attack & flagged[i, b]
            attacks += attack
            flags += flagged[i, b]
            benign_matched += matched[i, b] & (not attack)
        alarms[i] = flags
        if flags > 0 and first_alarm[i] < 0:
            first_alarm[i] = step
        for who in range(1 + honest[i]):
            counts[who, TP] += tp
            counts[who, FP] += flags - tp
            counts[who, FN] += attacks - tp
            counts[who, TN] += n_flows - flags - attacks + tp
        if not honest[i]:
            continue
        blocked[0] += benign_matched
        if tp > 0:
            for b in range(n_flows):
                if flagged[i, b]:
                    caught[y[i, b]] = True
        if histogram.shape[0] > 0:
            for b in range(n_flows):
                histogram[
                    int64(y[i, b] > 0), int64(bits[i, b] >> uint32(16)) & (SCORE_BINS - 1)
                ] += 1


@njit(cache=True, nogil=True)
def remember(recent: Any, count: Any, x: Any, flagged: Any, up: Any) -> None:
    """Write each node's last unflagged flows into its ring `[n_nodes, 32, n_features]`."""
    n_nodes, n_features, n_flows = x.shape
    for i in range(n_nodes):
        if not up[i]:
            continue
        total = 0
        for b in range(n_flows):
            total += not flagged[i, b]
        seen = 0
        for b in range(n_flows):
            if flagged[i, b]:
                continue
            if seen >= total - RECENT_FLOWS:
                slot = (count[i] + seen) % RECENT_FLOWS
                for d in range(n_features):
                    recent[i, slot, d] = x[i, d, b]
            seen += 1
        count[i] += total


@njit(cache=True, nogil=True)
def find_support(matched: Any, flagged: Any, able: Any, support: Any, count: Any) -> None:
    """Write the flagged flows that no held signature explains, and how many, of able nodes."""
    n_nodes, n_flows = flagged.shape
    for i in range(n_nodes):
        count[i] = 0
        if not able[i]:
            continue
        found = 0
        for b in range(n_flows):
            support[i, b] = flagged[i, b] & (not matched[i, b])
            found += support[i, b]
        count[i] = found


@njit(cache=True, nogil=True)
def draft_signatures(
    rows: Any, support: Any, x: Any, y: Any, score: Any, threshold: Any, protocol: Any,
    min_scale: Any, n_support: Any, centroid: Any, scale: Any, confidence: Any, is_true: Any,
    family: Any, dominant: Any,
) -> None:  # fmt: skip
    """Write a signature over the supporting flows of each of `rows`.

    Centroid and scale are mean and standard deviation of the supporting flows, the scale at least
    `min_scale`; confidence is the mean share by which their scores pass the threshold.

    Args:
        rows: Rows of the arrays below that propose `[n]`.
        support: Their supporting flows `[n_nodes, n_flows]`, at least one each.
        x: Features `[n_nodes, n_features, n_flows]`.
        y: Truth `[n_nodes, n_flows]`.
        score: `[n_nodes, n_flows]`.
        threshold: `[n_nodes]`.
        protocol: IANA protocol number of each flow `[n_nodes, n_flows]`.
        min_scale: Smallest scale.
        n_support: Written `[n]`, as all that follow.
        centroid: `[n, n_features]`.
        scale: `[n, n_features]`.
        confidence: In [0, 1].
        is_true: Over half of the supporting flows are attacks.
        family: Commonest family of the attacks if it is true, else 0.
        dominant: Commonest protocol.
    """
    n_features, n_flows = x.shape[1], x.shape[2]
    families = np.zeros(1 + np.iinfo(np.int16).max, np.int64)
    protocols = np.zeros(256, np.int64)
    for k in range(rows.shape[0]):
        i = rows[k]
        n, attacks, excess, largest = 0, 0, 0.0, 0
        for b in range(n_flows):
            if support[i, b]:
                n += 1
                families[y[i, b]] += 1
                largest = max(largest, y[i, b])
                protocols[protocol[i, b]] += 1
                attacks += y[i, b] > 0
                share = float32(1) - threshold[i] / max(score[i, b], float32(1e-30))
                excess += float64(min(max(share, float32(0)), float32(1)))
        for d in range(n_features):
            total = 0.0
            for b in range(n_flows):
                if support[i, b]:
                    total += float64(x[i, d, b])
            mean = total / n
            square = 0.0
            for b in range(n_flows):
                if support[i, b]:
                    square += (float64(x[i, d, b]) - mean) ** 2
            centroid[k, d] = mean
            scale[k, d] = max(np.sqrt(square / n), min_scale)
        n_support[k] = n
        confidence[k] = excess / n
        is_true[k] = 2 * attacks > n
        family[k] = 0
        if is_true[k]:
            family[k] = 1 + np.argmax(families[1 : largest + 1])
        dominant[k] = np.argmax(protocols)
        families[: largest + 1] = 0
        protocols[:] = 0


@njit(cache=True, nogil=True)
def count_neighbours(
    recent: Any, count: Any, nodes: Any, rows: Any, centroid: Any, scale: Any, radius: Any,
    unseen_radius: Any, covered: Any, near: Any,
) -> None:  # fmt: skip
    """Write how many recent flows of a node a signature covers, and how many lie near it.

    Args:
        recent: `[n_nodes, 32, n_features]`.
        count: Unflagged flows so far `[n_nodes]`.
        nodes: Node of each pair `[n_pairs]`.
        rows: Signature of each pair `[n_pairs]`.
        centroid: `[n_signatures, n_features]`.
        scale: `[n_signatures, n_features]`.
        radius: Largest root mean square distance that is covered.
        unseen_radius: Largest root mean square distance that is near.
        covered: Written `[n_pairs]`.
        near: Written `[n_pairs]`.
    """
    n_features = recent.shape[2]
    limit = float32(radius * radius * n_features)
    wide = float32(unseen_radius * unseen_radius * n_features)
    for k in range(nodes.shape[0]):
        i, s = nodes[k], rows[k]
        covered[k], near[k] = 0, 0
        for slot in range(min(count[i], RECENT_FLOWS)):
            distance = float32(0)
            for d in range(n_features):
                z = (recent[i, slot, d] - centroid[s, d]) * (float32(1) / scale[s, d])
                distance += z * z
            covered[k] += distance <= limit
            near[k] += distance <= wide


@njit(cache=True, nogil=True)
def put_on_blacklists(blacklist: Any, count: Any, node: Any, number: Any) -> None:
    """Put signatures into their nodes' rings, in this order; the oldest gives way."""
    for k in range(node.shape[0]):
        i = node[k]
        blacklist[i, count[i] % blacklist.shape[1]] = number[k]
        count[i] += 1


@njit(cache=True, nogil=True)
def find_places(flagged: Any, row: Any, column: Any) -> None:
    """Write the places that are set, in order; there are as many as `row` has entries."""
    k = 0
    for i in range(flagged.shape[0]):
        for b in range(flagged.shape[1]):
            if flagged[i, b]:
                row[k], column[k] = i, b
                k += 1


@njit(cache=True, nogil=True)
def write_alerts(
    alerts: Any, step: int, first: int, row: Any, column: Any, score: Any, matched: Any,
    timestamp: Any, source_ip: Any, destination_ip: Any, bytes_transferred: Any, protocol: Any,
) -> None:  # fmt: skip
    """Write one record of `ledger.blocks.ALERT` for each flow at (row, column)."""
    for k in range(row.shape[0]):
        i, b = row[k], column[k]
        alert = alerts[k]
        alert.step = step
        alert.node = first + i
        alert.flow = b
        alert.score = score[i, b]
        alert.matched = matched[i, b]
        alert.timestamp = timestamp[k]
        alert.source_ip = source_ip[k]
        alert.destination_ip = destination_ip[k]
        alert.bytes_transferred = bytes_transferred[k]
        alert.protocol = protocol[k]


@njit(cache=True, nogil=True)
def find_ordinary(flagged: Any, up: Any, ordinary: Any) -> None:
    """Write which flows of nodes that are up were not flagged `[n_nodes, n_flows]`."""
    for i in range(flagged.shape[0]):
        for b in range(flagged.shape[1]):
            ordinary[i, b] = up[i] & (not flagged[i, b])
