"""How runs are kept, scheduled and looked at, which never changes a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from sim_core.config.adaptation import AdaptationConfig
from sim_core.config.base import Frozen, Name, Positive
from sim_core.config.cache import CacheConfig
from sim_core.config.comparison import ComparisonConfig
from sim_core.config.design import DesignConfig, NoDesign
from sim_core.config.explain import describe_validation
from sim_core.config.intervention import InterventionConfig
from sim_core.config.ledger import LedgerConfig, SqliteLedger
from sim_core.config.log_settings import LoggingConfig
from sim_core.config.model import ModelConfig
from sim_core.config.monitoring import AlertsConfig, MonitoringConfig
from sim_core.config.optimise import OptimiseConfig
from sim_core.config.profiling import ProfilingConfig
from sim_core.config.retention import RetentionConfig
from sim_core.config.stopping import UntilConfig
from sim_core.errors import ConfigurationError
from sim_core.plugins.schema import open_to_plugins

open_to_plugins(InterventionConfig, "adversary")
open_to_plugins(ModelConfig, "traffic", "detector", "adversary")


class ExperimentSection(Frozen):
    """What is run."""

    name: Name | None = None
    """Name of the experiment; without it the study's name and the key of its content."""
    title: Name = "experiment"
    """First part of a default name (studies set their own)."""
    seed: int = Field(1, ge=0, lt=2**63)
    """Root seed; replicates of the same number share it over all points."""
    replicates: int = Field(5, ge=1, le=100_000)
    """Runs of each point, where `until` is null."""
    until: UntilConfig | None = None
    """When a point has runs enough; null: when it has `replicates`."""
    fork: bool = True
    """Whether steps that runs have in common before an intervention are simulated once."""


class CostConfig(Frozen):
    """What mistakes cost, if one figure is wanted."""

    missed: float | None = Field(None, ge=0)
    """Cost of an attack flow that was not flagged."""
    blocked: float | None = Field(None, ge=0)
    """Cost of a benign flow that was blocked."""


class CheckpointConfig(Frozen):
    """When a run's state is kept."""

    every: int = Field(10, ge=1)
    """Steps between checkpoints; also the steps of one ledger transaction."""
    keep: int = Field(2, ge=1, le=1_000)
    """Checkpoints kept of a run."""
    compress: bool = False
    """Whether workers compress them (Zstandard): less to send and to keep, some time for each."""


class LimitsConfig(Frozen):
    """What one run or request may take; what asks for more is refused before it starts."""

    max_seconds: Positive = 300.0
    """Wall seconds of one run, counted anew after a resume."""
    memory_mb: int | None = Field(None, ge=1)
    """Resident memory of the process of a run above which the run is stopped after its segment."""
    max_runs: int = Field(100_000, ge=1, le=10_000_000)
    """Runs of one experiment."""
    max_nodes: int = Field(1_000_000, ge=1)
    """Nodes of one network."""
    max_flows: int = Field(100_000_000, ge=1)
    """Flows that one network sees in a step: nodes times flows per node."""
    max_steps: int = Field(1_000_000, ge=1)
    """Steps of one run."""
    max_estimated_mb: int | None = Field(None, ge=1)
    """Estimated memory of the runs that are executed at once, beyond which an experiment is refused
    before it starts; null: the memory of the machine."""
    attempts: int = Field(3, ge=1, le=100)
    """Times a run is tried when its worker dies."""


class ValidationConfig(Frozen):
    """What happens to runs whose ledger breaks the protocol."""

    mode: Literal["strict", "warn", "off"] = "strict"
    """`strict` quarantines them and fails; `warn` reports; `off` does not look."""
    engine: Literal["great_expectations", "sql"] = "great_expectations"
    """Who holds the rows against the same rules: Great Expectations, or the database alone, which
    needs 300 MB and 5 s less."""


class OutputConfig(Frozen):
    """What is written into the experiment's folder besides summary.json and config.yaml."""

    tables: bool = True
    """`runs.parquet` and `steps.parquet`."""
    plots: bool = True
    """Pictures."""


class OrchestratorConfig(Frozen):
    """Who carries out an experiment; never changes a result."""

    kind: Literal["prefect", "none"] = "prefect"
    """`prefect`: a flow that can be watched and scheduled; `none`: this process, without a server."""


class TrackingConfig(Frozen):
    """Where results are published."""

    kind: Literal["mlflow_local", "mlflow_server", "off"] = "mlflow_local"
    uri: str | None = None
    """Address of the MLflow server; without it MLFLOW_TRACKING_URI."""


class ExecutorConfig(Frozen):
    """Where runs are executed; never changes a result."""

    kind: Literal["inline", "processes", "ray_local", "ray_cluster"] = "ray_local"
    address: str = Field("auto", pattern=r"^(auto|[A-Za-z0-9.\[\]:-]{1,253}:[0-9]{1,5})$")
    """Of the head of a Ray cluster, HOST:PORT; auto: what `RAY_ADDRESS` or `ray start` on this machine say."""
    min_nodes: int = Field(1, ge=1, le=10_000_000)
    """Where the largest network has fewer nodes, worker processes execute runs, and Ray is not started."""
    num_cpus: int | None = Field(None, ge=1, le=4_096)
    """Worker processes; without it all processors."""
    nice: int = Field(0, ge=0, le=19)
    """How far worker processes (of `processes`) stand back behind other programs."""
    object_store_mb: int = Field(128, ge=75)
    """Ray's object store (of `ray_local`)."""
    dashboard: bool = False
    """Whether Ray's own dashboard is started with it, on the loopback (of `ray_local`)."""
    max_in_flight: int | None = Field(None, ge=1)
    """Shards handed out at once; without it one more than `num_cpus`."""
    shard_runs: int | None = Field(None, ge=1)
    """Runs of one shard; without it chosen from the number of runs."""
    network_shards: int = Field(1, ge=1, le=4_096)
    """Processes that one network is spread over (executors on Ray; for networks that are large)."""


class ExperimentConfig(ModelConfig):
    """One experiment: the base of its points, and how they are run."""

    workspace: Path = Path("workspace")
    """Folder of everything that is kept."""
    experiment: ExperimentSection = ExperimentSection()
    design: DesignConfig = NoDesign()
    optimise: OptimiseConfig = OptimiseConfig()
    cost: CostConfig = CostConfig()
    comparison: ComparisonConfig = ComparisonConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    limits: LimitsConfig = LimitsConfig()
    ledger: LedgerConfig = SqliteLedger()
    cache: CacheConfig = CacheConfig()
    validation: ValidationConfig = ValidationConfig()
    tracking: TrackingConfig = TrackingConfig()
    output: OutputConfig = OutputConfig()
    orchestrator: OrchestratorConfig = OrchestratorConfig()
    executor: ExecutorConfig = ExecutorConfig()
    adaptation: AdaptationConfig = AdaptationConfig()
    retention: RetentionConfig = RetentionConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    alerts: AlertsConfig = AlertsConfig()
    profiling: ProfilingConfig = ProfilingConfig()
    logging: LoggingConfig = LoggingConfig()

    def model_part(self) -> ModelConfig:
        """Return the part that results depend on.

        Raises:
            ConfigurationError: an intervention lacks its step, or what it replaces.
        """
        try:
            return ModelConfig.model_validate(
                self.model_dump(include=set(ModelConfig.model_fields))
            )
        except ValidationError as error:
            raise ConfigurationError(describe_validation(error)) from error

    @model_validator(mode="after")
    def _intervention_is_whole(self) -> ExperimentConfig:
        return self  # points may complete the base; `model_part` looks at each of them

    def with_settings(self, settings: dict[str, Any]) -> ExperimentConfig:
        """Return a copy whose top-level fields in `settings` are replaced, validated again.

        Raises:
            ConfigurationError: naming the setting that cannot be.
        """
        try:
            return ExperimentConfig.model_validate({**self.model_dump(), **settings})
        except ValidationError as error:
            raise ConfigurationError(describe_validation(error)) from error
