"""What the nodes watch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sim_core.config.base import Frozen, Positive, PositiveShare, Share

ATTACK_FAMILIES = ("port_scan", "ddos", "brute_force", "exfiltration", "beacon", "worm")
AttackFamily = Literal["port_scan", "ddos", "brute_force", "exfiltration", "beacon", "worm"]


class Campaign(Frozen):
    """One attack: which family, when, on which nodes, in which share of their flows."""

    family: AttackFamily
    """Attack family."""
    start: int = Field(ge=0)
    """First step of the campaign (absolute)."""
    duration: int = Field(ge=1)
    """Length in steps."""
    node_share: PositiveShare = 1.0
    """Share of the nodes that are hit (spread `static`)."""
    flow_share: PositiveShare = 0.2
    """Share of a hit node's flows that belong to the attack."""
    intensity: Positive = 1.0
    """Factor on the family's shift of the features."""
    spread: Literal["static", "worm"] = "static"
    """`static`: the same nodes all the time; `worm`: infected nodes infect their neighbours."""
    first_infected: int = Field(1, ge=1)
    """Nodes infected at the start (spread `worm`)."""
    transmission: Share = 0.05
    """Probability that an infectious node infects a neighbour in a step (spread `worm`)."""
    infectious_steps: int | None = Field(None, ge=1)
    """Steps that a node stays infected and infectious (spread `worm`); without it to the end."""


class CampaignTraffic(Frozen):
    """What sources with a schedule of attacks have in common."""

    warmup_flows: int = Field(256, ge=8, le=100_000)
    """Benign flows per node, seen before step 0, that start detector and threshold."""
    campaigns: tuple[Campaign, ...] = Field((), max_length=64)
    """Schedule of attacks."""
    drift: float = Field(0.0, ge=0)
    """Drift of each node's traffic: standard deviations of every feature in 1,000 steps, up or down."""
    day_amplitude: float = Field(0.0, ge=0)
    """Amplitude of the day cycle of the volume features, in standard deviations."""
    day_steps: int = Field(1_440, ge=2)
    """Length of a day in steps."""


class SyntheticTraffic(CampaignTraffic):
    """Benign flows from service profiles, attacks from a schedule of campaigns."""

    kind: Literal["synthetic"] = "synthetic"
    mixture_alpha: Positive = 1.0
    """Dirichlet parameter of each node's mixture of services: small, and nodes differ a lot."""


class GaussianTraffic(CampaignTraffic):
    """Standard normal benign flows; attacks shift every feature. For controls and laws."""

    kind: Literal["gaussian"] = "gaussian"
    features: int = Field(1, ge=1, le=256)
    """Features of a flow; a campaign shifts each by `intensity` standard deviations."""


class ReplayTraffic(Frozen):
    """What all replays of recorded flows have in common."""

    path: str | None = None
    """Folder of the data files, or the file; without it that data set below QUORUMLAB_DATA."""
    split: Literal["iid", "dirichlet", "column", "time"] = "iid"
    """How rows belong to nodes: all rows to each, by Dirichlet(`split_alpha`) over labels, by the
    values of an id column, or as consecutive pieces in order of time."""
    split_alpha: Positive = 1.0
    """Dirichlet parameter of split `dirichlet`: small, and nodes see very different labels."""
    order: Literal["random", "time"] = "random"
    """`random`: each flow is drawn from the node's rows with replacement; `time`: each row once,
    in order of time."""
    attack_share: Share | None = None
    """Share of attack flows (order `random`: drawn; `time`: surplus rows are left out at random);
    without it that of the data."""
    transform: Literal["none", "log1p"] = "none"
    """Transform of the numeric columns before scaling."""
    symbolic: Literal["drop", "one_hot"] = "drop"
    """What becomes of symbolic columns."""
    warmup_share: PositiveShare = 0.5
    """Share of the benign rows that start scaler, detector and threshold and are not replayed,
    where no other file gives them (order `time`: the first ones)."""


class NslKddTraffic(ReplayTraffic):
    """Replay of NSL-KDD (Tavallaee et al. 2009)."""

    kind: Literal["nsl_kdd"] = "nsl_kdd"
    file: Literal["KDDTest+.txt", "KDDTrain+_20Percent.txt"] = "KDDTest+.txt"
    """File that is replayed."""
    warmup_file: Literal["KDDTest+.txt", "KDDTrain+_20Percent.txt"] = "KDDTrain+_20Percent.txt"
    """File whose benign rows give scaler, detector and threshold their start."""
    split_column: Literal["service", "protocol_type", "flag"] = "service"
    """Column of split `column`."""


class SmtpTraffic(ReplayTraffic):
    """Replay of the smtp set of ADBench (Han et al. 2022), from KDD Cup 1999."""

    kind: Literal["smtp"] = "smtp"

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> SmtpTraffic:
        if self.split == "column":
            raise ValueError("traffic=smtp has no id column: choose another traffic.split")
        return self


NabFile = Literal[
    "ec2_network_in_257a54",
    "ec2_network_in_5abac7",
    "elb_request_count_8c0756",
    "iio_us-east-1_i-a2eb1cd9_NetworkIn",
    "ec2_request_latency_system_failure",
]


class NabTraffic(Frozen):
    """Telemetry of the Numenta Anomaly Benchmark (Ahmad et al. 2017): a univariate stream per node."""

    kind: Literal["nab"] = "nab"
    path: str | None = None
    """Folder with `data` and `labels`; without it QUORUMLAB_DATA/nab."""
    files: tuple[NabFile, ...] = Field(("ec2_network_in_257a54",), min_length=1)
    """Streams; node i replays number i modulo their count, a flow per row in order of time."""
    lags: int = Field(1, ge=1, le=256)
    """Features of a flow: the value and the `lags - 1` before it."""
    warmup_share: PositiveShare = 0.15
    """First share of the rows (at most 750) that starts scaler, detector and threshold (the
    probationary period of the benchmark)."""


class TableColumns(Frozen):
    """Which columns of a table mean what."""

    label: str
    """Column of the labels."""
    benign: tuple[str, ...] = Field(("0", "0.0", "normal", "benign", "BENIGN"), min_length=1)
    """Labels that are benign; each other label is an attack family of its own."""
    numeric: tuple[str, ...] | None = None
    """Numeric columns; without it all that are numbers and have no other meaning."""
    symbolic: tuple[str, ...] = ()
    """Symbolic columns."""
    ignore: tuple[str, ...] = ()
    """Columns that are left out."""
    node: str | None = None
    """Column of the id by which rows belong to nodes (split `column`)."""
    time: str | None = None
    """Column of the order in time; without it that of the rows."""
    bytes_transferred: str | None = None
    """Column of the bytes of a flow, for its record."""
    protocol: str | None = None
    """Column of the protocol (a name or an IANA number), for its record."""


class TableTraffic(ReplayTraffic):
    """Replay of any labelled table: CSV, Parquet or npz."""

    kind: Literal["table"] = "table"
    columns: TableColumns | None = None
    """Which columns mean what; npz files have `X` (columns x0, x1, ...) and `y` (column y)."""
    warmup_path: str | None = None
    """Another file whose benign rows start scaler, detector and threshold."""

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> TableTraffic:
        if self.split == "column" and (self.columns is None or self.columns.node is None):
            raise ValueError("split=column needs traffic.columns.node, the column of the id")
        return self


TrafficConfig = Annotated[
    SyntheticTraffic | GaussianTraffic | NslKddTraffic | SmtpTraffic | NabTraffic | TableTraffic,
    Field(discriminator="kind"),
]
