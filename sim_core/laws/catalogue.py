"""Every law: what is compared, and how it is measured. A study of the same name has the points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sim_core.config import ModelConfig
from sim_core.laws import readings as read
from sim_core.laws.findings import Measurement, RunResult


@dataclass(frozen=True)
class Quantity:
    """One figure of a law."""

    symbol: str
    exact: Callable[[ModelConfig], float]
    measure: Callable[[ModelConfig, RunResult], Measurement]
    is_square: bool = False
    """Compared as a variance, shown as its square root."""


@dataclass(frozen=True)
class Law:
    """A law, and how runs are read."""

    name: str
    title: str
    method: str
    """What is exact, and how it is measured, in Markdown."""
    parameters: Callable[[ModelConfig], str]
    """What identifies a point, in words."""
    quantities: tuple[Quantity, ...]


CONDORCET = Law(
    "condorcet",
    "Condorcet's jury theorem",
    "Of n voters, each right with probability p, more than half are right with probability "
    "$\\sum_{k > n/2} \\binom n k p^k (1-p)^{n-k}$ (Condorcet 1785). All flows are attacks and no signature "
    "matches another, so each proposal is true and one trial; confirmed ones are counted among those decided. "
    "Honest voters are committees drawn from 200 nodes. Voters that are always wrong are colluders, who "
    "reject what others propose and find nothing to propose themselves.",
    read.describe_voters,
    (Quantity("P(right)", read.jury, read.confirmed("true_confirmations")),),
)
BFT_CONFIRM = Law(
    "bft_confirm",
    "Byzantine quorum with silent liars",
    "A true signature is confirmed if at least $q = \\lfloor (n + f) / 2 \\rfloor + 1$ of all n accept (Lamport, "
    "Shostak and Pease 1982); liars are silent, so $P(\\mathrm{Bin}(n - f, p) \\ge q)$. Proposals as before, decided "
    "in the step after they are made, whoever has voted.",
    read.describe_voters,
    (Quantity("P(confirmed)", read.confirms_true, read.confirmed("true_confirmations")),),
)
BFT_FALSE_CONFIRM = Law(
    "bft_false_confirm",
    "Byzantine quorum with colluding liars",
    "Without attacks, colluders propose ordinary flows, which all of them accept and honest nodes accept by mistake "
    "with probability 1 - p: $P(\\mathrm{Bin}(n - f, 1 - p) \\ge q - f)$. Where committees are drawn from more "
    "nodes, the mean of that over the hypergeometric number of liars in a committee.",
    read.describe_voters,
    (Quantity("P(confirmed)", read.confirms_false, read.confirmed("false_confirmations")),),
)
GOSSIP = Law(
    "gossip",
    "Gossip on the complete graph",
    "T is the number of rounds until all n know a rumour that one began, each node calling one other node in a round "
    "(Frieze and Grimmett 1985; Pittel 1987), each call succeeding with probability p. Exact from the Markov chain of the "
    "number informed. Consensus is unanimity of all nodes, all of them always right, so a proposal is decided "
    "in the step in which the last node hears of it: `decision_steps` is the mean of T over a run's rumours. These "
    "share their calls, so a run is one draw. sd[T] comes from the mean of $(T - E[T])^2$.",
    read.describe_gossip,
    (
        Quantity("E[T]", read.expected_rounds, read.metric("decision_steps")),
        Quantity("sd[T]", read.variance_of_rounds, read.squared_deviation, is_square=True),
    ),
)
REED_FROST = Law(
    "reed_frost",
    "Reed-Frost epidemic",
    "Who is infectious infects each susceptible one of N with probability $R_0 / N$, for one step (Abbey 1952). Exact "
    "from the chain of susceptible and infectious nodes. `infected_share` is the mean over the worms of a run, which "
    "are independent of each other. Over in 30 steps but for 7 of 1,000,000,000.",
    read.describe_outbreak,
    (Quantity("E[new]", read.expected_infections, read.infected),),
)
REED_FROST_ZERO = Law(
    "reed_frost_zero",
    "Reed-Frost epidemic: nobody is infected",
    "$(1 - R_0 / N)^{i N}$ for i infective nodes. Worms spread for one step, one after the other, so that the "
    "infections of a step are those of one worm; steps without any are counted.",
    read.describe_outbreak,
    (Quantity("P(0)", read.infects_nobody, read.died_out_at_once),),
)
LARGE_EPIDEMIC = Law(
    "large_epidemic",
    "Epidemic in a large network",
    "The share r ever infected solves $1 - r = (1 - i) e^{-R_0 r}$, i being infected at the start (Kermack and McKendrick "
    "1927); for i to 0 these are the limits .582812 ($R_0$ = 1.5), .796812 (2) and .940480 (3). Exact "
    "for infinitely many nodes; for n nodes it is off by O(1/n), here 0.00005 times a small number.",
    read.describe_large_outbreak,
    (Quantity("share infected", read.final_share, read.metric("infected_share")),),
)
SHEWHART = Law(
    "shewhart",
    "Run length of a Shewhart chart",
    "Flows up to the first with $|x|$ above the limit, that one included: $1 / P(|x| > L)$ (Shewhart 1931). One flow a "
    "step, moments known, learning off; `run_length_steps` is the mean over a run's nodes. A node without an alarm "
    "counts with the horizon, which makes the mean short by $e^{-\\mathrm{horizon} / \\mathrm{ARL}}$ of itself, "
    "below 0.00001.",
    read.describe_chart,
    (Quantity("ARL", read.shewhart, read.metric("run_length_steps")),),
)
CUSUM = Law(
    "cusum",
    "Run length of a CUSUM chart",
    "Two-sided, from zero (Page 1954). Exact by the integral equation of one side, solved by Gauss-Legendre "
    "quadrature, and $1/L = 1/L_+ + 1/L_-$ (Kemp 1961). Measured as for the Shewhart chart.",
    read.describe_chart,
    (Quantity("ARL", read.cusum, read.metric("run_length_steps")),),
)
EWMA = Law(
    "ewma",
    "Run length of an EWMA chart",
    "Two-sided, from zero, with asymptotic limits (Roberts 1959). Exact by the integral equation of Crowder (1987). "
    "Measured as for the Shewhart chart.",
    read.describe_chart,
    (Quantity("ARL", read.ewma, read.metric("run_length_steps")),),
)
AUROC = Law(
    "auroc",
    "AUROC of two Gaussians",
    "$\\Phi(d / \\sqrt 2)$ for unit Gaussians d apart (Green and Swets 1966). The score is $-\\log(1 - \\Phi(x))$, of the "
    "largest of several features. AUROC is that of a histogram whose bins are 1/128 wide relative to the "
    "score, ties counted half; that makes it too small by less than 0.00002.",
    read.describe_gaussians,
    (Quantity("AUROC", read.auroc, read.metric("auroc")),),
)
PRECISION = Law(
    "precision",
    "Precision at a base rate",
    "By Bayes's theorem, $\\pi r / (\\pi r + (1 - \\pi) a)$ for the base rate $\\pi$, recall r and false-alarm rate a "
    "(Axelsson 2000). a follows from the threshold, r from that and the shift; each alarm is a trial.",
    read.describe_base_rate,
    (Quantity("precision", read.precision, read.alarms),),
)
LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        CONDORCET, BFT_CONFIRM, BFT_FALSE_CONFIRM, GOSSIP, REED_FROST, REED_FROST_ZERO,
        LARGE_EPIDEMIC, SHEWHART, CUSUM, EWMA, AUROC, PRECISION,
    )
}  # fmt: skip
"""All laws by name, in the order of the table."""
