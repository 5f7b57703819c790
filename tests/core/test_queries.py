"""Reading many rows: in batches that miss and double nothing, and the most active sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import pytest

from sim_core.errors import UserError
from sim_core.ledger.blocks import KINDS
from sim_core.ledger.queries import stream_entries, top_sources
from sim_core.ledger.store import Ledger
from sim_core.ledger.tables import ENTRY_TABLES
from sim_core.simulate import RunSpec, Segment


@pytest.fixture
def finished(
    ledger: Ledger,
    register: Callable[..., None],
    execute: Callable[..., list[Segment]],
    make_spec: Callable[..., RunSpec],
) -> tuple[Ledger, RunSpec, list[Segment]]:
    spec = make_spec(detail="all")
    register(ledger, spec)
    return ledger, spec, execute(ledger, spec)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows_at_once", [1, 7, 10_000])
def test_stream_yields_every_row_once_in_the_order_of_keys(
    finished: Any, kind: str, rows_at_once: int
):
    ledger, _, segments = finished
    n_rows = sum(len(segment.rows[kind]) for segment in segments)
    parts = list(stream_entries(ledger, 1, kind, rows_at_once=rows_at_once))
    rows = [row for part in parts for row in part]
    n_keys = len(ENTRY_TABLES[kind].primary_key)
    assert len(rows) == n_rows > 0
    assert rows == sorted(rows, key=lambda row: row[:n_keys])
    assert all(len(part) == rows_at_once for part in parts[:-1])


def test_stream_goes_on_after_a_key_and_sees_what_is_committed_meanwhile(
    ledger: Ledger, register: Any, make_spec: Any
):
    from sim_core.simulate import simulate

    spec = make_spec()
    register(ledger, spec)
    (claim,) = ledger.claim([spec])
    first, *rest = simulate(spec)
    ledger.commit(claim, first)
    stream = stream_entries(ledger, claim.run, "metrics", rows_at_once=2)
    assert [row[1] for row in next(stream)] == [0, 1]
    for segment in rest:
        ledger.commit(claim, segment)
    assert [row[1] for part in stream for row in part] == list(range(2, 12))
    later = stream_entries(ledger, claim.run, "metrics", after=(9,))
    assert [row[1] for part in later for row in part] == [10, 11]


def test_top_sources_are_those_counted_from_the_alerts(finished: Any):
    ledger, spec, segments = finished
    alerts = [a for s in segments for a in s.rows["alert"] if 3 <= a["step"] <= 8]
    counted = Counter(int(a["source_ip"]) for a in alerts)
    found = top_sources(ledger, spec.run_key, first_step=3, last_step=8, at_least=2)
    assert found
    assert {s.address: s.alerts for s in found} == {
        str(IPv4Address(address)): n for address, n in counted.items() if n >= 2
    }
    assert [s.alerts for s in found] == sorted((s.alerts for s in found), reverse=True)
    for source in found:
        mine = [a for a in alerts if str(IPv4Address(int(a["source_ip"]))) == source.address]
        assert source.total_bytes == sum(int(a["bytes_transferred"]) for a in mine)
        assert source.mean_score == pytest.approx(sum(float(a["score"]) for a in mine) / len(mine))
        assert source.last_step == max(int(a["step"]) for a in mine)
    assert len(top_sources(ledger, spec.run_key, at_least=1, most=3)) == 3


def test_top_sources_are_refused_where_no_alerts_are_kept(
    ledger: Ledger, register: Any, execute: Any, make_spec: Any
):
    spec = make_spec()
    register(ledger, spec)
    execute(ledger, spec)
    with pytest.raises(UserError, match=r"keeps no alerts .* ledger\.detail=alerts"):
        top_sources(ledger, spec.run_key)
    with pytest.raises(UserError, match="no run 0123"):
        top_sources(ledger, "0123")
