"""Run the studies that the documentation publishes, and write their pages.

    .venv/bin/python docs/write_studies.py [STUDY ...] [--workspace FOLDER]

Each page is a template in docs/studies/templates/ whose figures, tables and pictures come from runs of
the preset of the same name in conf/study/. What a template says in words is tied to these figures: where
they no longer bear it out, nothing is written and the command says which sentence is wrong. Runs are
kept in the workspace, so that an interrupted or repeated command executes only what is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from scipy.stats import hypergeom

from flows.compose import compose_experiment
from flows.inspect import find_experiment, opened
from flows.launch import launch_experiment
from flows.report import spots_of
from sim_core.comparison.report import Question, Report, compare
from sim_core.comparison.verdicts import Comparison
from sim_core.comparison.wording import percent, probability
from sim_core.config import ExperimentConfig
from sim_core.errors import QuorumlabError
from sim_core.identity import content_hash
from sim_core.ledger.stored import stored_points
from sim_core.plan import Point, plan_runs
from sim_core.results import RunRecord, collect_findings, in_words
from sim_core.workspace import write_whole
from tasks.plots.canvas import NoPicture, Picture
from tasks.plots.effects import draw_effects
from tasks.plots.factor_curves import draw_factor_curves
from tasks.plots.heat_map import draw_heat_map

DOCS = Path(__file__).resolve().parent
TEMPLATES = DOCS / "studies" / "templates"
SUFFIX = ".md.jinja"
STUDIES = tuple(sorted(path.name.removesuffix(SUFFIX) for path in TEMPLATES.glob(f"*{SUFFIX}")))
PLAINLY = (
    "tracking=off", "orchestrator=none", "executor=processes", "validation.engine=sql", "output.plots=false"
)  # fmt: skip
"""How studies are run here: what comes out is the same under Prefect, on Ray and with MLflow."""


class NotBorneOutError(Exception):
    """A page says what the figures do not show."""


class StudyPage:
    """The figures of a study, as its template asks for them."""

    def __init__(
        self,
        name: str,
        key: str,
        labels: Sequence[str],
        records: Sequence[RunRecord],
        metrics: Sequence[str],
    ) -> None:
        """Take the runs of a study.

        Args:
            name: The preset.
            key: What its results depend on, as a hash.
            labels: Its points, in order.
            records: Its runs.
            metrics: What is compared; p-values are corrected over all of it.
        """
        self.name, self.key, self.labels = name, key, list(labels)
        self.records, self.metrics = list(records), tuple(metrics)
        self.spots = spots_of(labels, records)
        self.pictures: dict[str, str] = {}
        self._by_label = {spot.label: spot for spot in self.spots}
        self.against = cache(self._against)

    def mean(self, point: str, metric: str) -> float:
        """Return the mean over replicates."""
        found = self._by_label[point].mean(metric)
        if found is None:
            raise NotBorneOutError(f"{self.name}: {metric} is undefined at {point}")
        return found

    def min_mean(self, points: Sequence[str], metric: str) -> float:
        """Return the smallest mean of some points."""
        return min(self.mean(point, metric) for point in points)

    def max_mean(self, points: Sequence[str], metric: str) -> float:
        """Return the largest mean of some points."""
        return max(self.mean(point, metric) for point in points)

    def half(self, point: str, metric: str) -> float:
        """Return half of the 95 % interval."""
        found = self._by_label[point].intervals[metric]
        if found.ci_high is None or found.mean is None:
            raise NotBorneOutError(f"{self.name}: {metric} has no interval at {point}")
        return found.ci_high - found.mean

    def value(self, point: str, metric: str) -> str:
        """Return mean and half of its interval."""
        return in_words(self._by_label[point].intervals.get(metric))

    def change(self, point: str, baseline: str, metric: str) -> str:
        """Return a difference with its interval and corrected p."""
        found = self._comparison(point, baseline, metric)
        return f"{found.amount}, {probability(found.p_adjusted)}"

    def verdict(self, point: str, baseline: str, metric: str) -> str:
        """Return the verdict: better, worse, higher, lower, no difference, ..."""
        return str(self._comparison(point, baseline, metric).verdict)

    def holds(self, is_so: bool, sentence: str) -> str:  # noqa: FBT001
        """Return a sentence that figures bear out.

        Raises:
            NotBorneOutError: they do not.
        """
        if not is_so:
            raise NotBorneOutError(f"{self.name}: the figures do not bear out: {sentence}")
        return sentence

    def table(self, points: Sequence[str], metrics: Sequence[str]) -> str:
        """Return means with intervals, a row per point."""
        heads = ["point", *metrics]
        rows = [[point, *(self.value(point, metric) for metric in metrics)] for point in points]
        return markdown_table(heads, rows)

    def differences(self, baseline: str, points: Sequence[str], metrics: Sequence[str]) -> str:
        """Return differences from a baseline with verdicts, a row per point and metric."""
        found = [self._comparison(point, baseline, m) for point in points for m in metrics]
        rows = [
            [c.point, c.metric, c.amount, probability(c.p_adjusted), str(c.verdict)] for c in found
        ]
        return markdown_table(["point", "metric", "difference", "p", "verdict"], rows)

    def curves(self, metric: str) -> str:
        """Return a metric over the factor of the study, as a picture."""
        return self._picture(draw_factor_curves(metric, self.spots))

    def heat_map(self, metric: str) -> str:
        """Return a metric over two factors, as a picture."""
        return self._picture(draw_heat_map(metric, self.spots))

    def effects(self, metric: str, baseline: str) -> str:
        """Return the differences of all points from a baseline, as a picture."""
        found = [c for c in self.against(baseline).comparisons if c.metric == metric]
        return self._picture(draw_effects(found))

    def majority_by_lot(self, nodes: int, liars: int, voters: int) -> float:
        """Return the probability that more than half of some voters, drawn by lot, are liars."""
        return float(hypergeom.sf(voters // 2, nodes, liars, voters))

    def percent(self, share: float) -> str:
        """Return a share in words."""
        return percent(share)

    def origin(self) -> str:
        """Return how the figures came to be, and how to have them again."""
        finished = [record for record in self.records if record.state == "finished"]
        replicates = len(finished) / len(self.labels)
        return (
            f"{len(finished):,} runs: {len(self.labels)} points, {replicates:g} replicates each, which share "
            "their random numbers. Figures are means ± half of their 95 % t interval; differences are paired; "
            "p-values are corrected after Holm over all points and these metrics, one family per baseline: "
            f"{', '.join(self.metrics)}.\n\n"
            f"<!-- not run: minutes -->\n```bash\nquorumlab run +study={self.name}\n"
            f"quorumlab compare EXPERIMENT --html report.html\n```\n\n"
            f"This page, figures included, is written by `.venv/bin/python docs/write_studies.py {self.name}`. "
            f"<!-- study: {self.key} -->"
        )

    def _against(self, baseline: str) -> Report:
        question = Question(baseline=baseline, metrics=self.metrics)
        return compare(self.records, self.labels, question)

    def _comparison(self, point: str, baseline: str, metric: str) -> Comparison:
        for found in self.against(baseline).comparisons:
            if (found.point, found.metric) == (point, metric):
                return found
        raise NotBorneOutError(f"{self.name}: no comparison of {point} with {baseline} in {metric}")

    def _picture(self, found: Picture | NoPicture) -> str:
        if isinstance(found, NoPicture):
            raise NotBorneOutError(f"{self.name}: no picture: {found.reason}")
        file = f"{self.name}_{found.name}.svg"
        self.pictures[file] = found.as_file()
        return f"![{found.alternative}](../images/studies/{file})"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---:|
    | 1 | 2 |
    """
    rule = "|---|" + "---:|" * (len(heads) - 1)
    lines = [f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def run_study(name: str, workspace: Path, overrides: Sequence[str] = ()) -> StudyPage:
    """Run what is missing of a study, and return its figures."""
    words = [f"+study={name}", f"workspace={workspace}", f"experiment.name={name}"]
    config, points = compose_experiment([*words, *PLAINLY, *overrides])
    key = key_of(config, points)
    launch_experiment(config, points)
    with opened(workspace) as (_, ledger):
        stored, _ = stored_points(find_experiment(ledger, name))
        found = collect_findings(ledger, name, stored.cost)
    metrics = config.comparison.metrics
    return StudyPage(name, key, found.labels, found.records, metrics)


def key_of(config: ExperimentConfig, points: Sequence[Point]) -> str:
    """Return what the results of a study depend on, as a hash; what has its default is left out."""
    configs = plan_runs(config, points).configs
    dumps = [part.model_dump(mode="json", exclude_defaults=True) for part in configs]
    section = config.experiment
    return content_hash([dumps, section.seed, section.replicates, config.comparison.metrics])


def render(page: StudyPage) -> str:
    """Return a page as Markdown; its pictures are in `page.pictures` afterwards.

    Raises:
        NotBorneOutError: the figures do not bear out a sentence.
    """
    environment = Environment(  # noqa: S701 (Markdown of our own, no page for browsers)
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template(page.name + SUFFIX)
    names = [name for name in dir(page) if not name.startswith("_")]
    return template.render({name: getattr(page, name) for name in names})


def write(page: StudyPage) -> Path:
    """Write a page and its pictures; return the page's file."""
    text = render(page)
    for name, picture in page.pictures.items():
        write_whole(DOCS / "images" / "studies" / name, picture)
    file = DOCS / "studies" / f"{page.name}.md"
    write_whole(file, text)
    return file


def main() -> None:
    """Write the pages that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--workspace", type=Path, default=Path("workspace/studies"))
    asked = parser.parse_args()
    if unknown := set(asked.studies) - set(STUDIES):
        parser.error(
            f"no template for {', '.join(sorted(unknown))}: there are {', '.join(STUDIES)}"
        )
    for name in asked.studies or STUDIES:
        try:
            print(write(run_study(name, asked.workspace)))
        except (NotBorneOutError, QuorumlabError) as error:
            sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    main()
