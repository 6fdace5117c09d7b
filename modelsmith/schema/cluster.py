"""Clusters: one specialist's line of work, from intake to serving."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from modelsmith.schema.base import Currency, Digest, EvalSetName, Frozen, Slug
from modelsmith.schema.beside import BesideServing
from modelsmith.schema.evalset import Fraction, Thresholds
from modelsmith.schema.source import Baseline, BaseModelSource
from modelsmith.schema.training import Sft, Stage, Training, stages_of
from modelsmith.schema.watch import GUARDS, Rule

_LONGEST_WINDOW: Final = 1_000_000
"""Minutes; almost two years."""


OnDrift = Literal["tell", "roll-back", "iterate"]


class Rollback(Frozen):
    """Terms that are approved together with a deployment: when and how traffic goes back."""

    metric: Slug
    """Live metric that is watched."""
    max_drop: Fraction
    """Largest drop, relative to the incumbent's value: 0.04 allows a rate of 0.24 beside 0.25, and not 0.21."""
    window_minutes: Annotated[int, Field(ge=1)]
    """Watch window in which rollback is automatic."""
    manual_hours: Annotated[int, Field(ge=1)]
    """How long the previous specialist stays ready for a manual rollback."""
    rule: Annotated[Rule | None, Field(exclude_if=lambda rule: rule is None)] = None
    """How the front door judges live traffic. With it traffic goes back by itself, and ``production-validated`` needs
    live evidence; without, counts are brought by hand (``modelsmith rollback --window``)."""
    on_drift: Annotated[OnDrift, Field(exclude_if=lambda value: value == "tell")] = "tell"
    """What the front door does when a validated specialist leaves its envelope, beside telling it: propose the rollback
    to its owner, or start an iteration. Nothing is taken back without a person."""

    @model_validator(mode="after")
    def _rule_can_be_judged(self) -> Self:
        if self.rule and (self.metric in GUARDS or self.metric in self.rule.outcomes):
            raise ValueError(
                f"{self.metric} is the contract's metric, so it is no name of a guard or a further outcome"
            )
        if self.rule and not 0 < self.max_drop < 1:
            raise ValueError("with a rule, max_drop lies above 0 and below 1")
        if self.on_drift != "tell" and not self.rule:
            raise ValueError("on_drift needs a rule: without one nobody watches for drift")
        if self.rule and self.window_minutes > _LONGEST_WINDOW:
            raise ValueError(f"with a rule, window_minutes is at most {_LONGEST_WINDOW}")
        return self


class Deployment(Frozen):
    """How a deployed specialist receives traffic."""

    traffic_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of requests before production is validated."""
    shadow_share: Annotated[float, Field(ge=0, le=1, exclude_if=lambda share: share == 0)] = 0.0
    """Share of the incumbent's requests that the newest exported specialist gets a copy of, before it is deployed. What
    it answers reaches nobody: the front door measures it and throws it away."""
    target: Slug = "local"
    """Where it will serve, as the people who approve it call that place. A name only: no address follows from it."""


class Prices(Frozen):
    """Prices of a decision on this hardware."""

    currency: Currency = "USD"
    compute_per_hour: Annotated[float, Field(ge=0)] = 0.0
    """Cost of the machine for one hour."""


class Plateau(Frozen):
    """When iterating has stopped paying."""

    iterations: Annotated[int, Field(ge=1, le=100)] = 3
    """Candidates in a row that are looked at."""
    least_gain: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Composite that the best of them must gain over the best before them."""
    then: Literal["recommend", "next-stage"] = "recommend"
    """``recommend``: every iteration runs all stages of `training`, and the loop ends with what to do instead.
    ``next-stage``: iterations run the first stage alone, and at each plateau one more; the loop ends at the last's."""


class Loop(Frozen):
    """When the iterate loop stops."""

    max_iterations: Annotated[int, Field(ge=1)] = 3
    """Iterations of one turn, each of which answers the failures of the candidate before."""
    hold_iterations: Annotated[int, Field(ge=1, le=100)] | None = None
    """Candidates in a row that pass, after which a scheduled loop ends; it goes on when not set."""
    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Hours after which one call begins no further iteration."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """The same by what the machine costs, in the currency of `prices`; what servers charge for tokens is not in it."""
    seeds: Annotated[int, Field(ge=1, le=16)] = 1
    """Times that a candidate is trained, each with another seed. The best on prompts set aside goes on; how many there
    were stands in its evidence."""
    judge_calls: Annotated[int, Field(ge=1)] | None = None
    """Questions that the judge may be asked in each try of several seeds, where it decides points of the rubric: about
    the answers by which they are chosen."""
    plateau: Plateau | None = None
    """After what no further iteration is begun; what to do instead is said. No plateau is looked for when not set."""


LOCAL: Final = "local"
"""The host that is this machine."""
STORE = r"^(/|~/)(?:[^/\x00-\x1f]{1,200}(?:/|$))*$"
StorePath = Annotated[str, Field(pattern=STORE, max_length=1024)]
"""An absolute folder, or one in the home (``~/``) of whoever runs the toolkit; another user's home may not be there."""


Devices = Annotated[int, Field(ge=1, le=64, exclude_if=lambda number: number == 1)]
TrackerName = Literal["mlflow", "trackio", "wandb"]


class Tracking(Frozen):
    """A tracker of one's own that gets the figures of every training.

    Where it is, and its key, are its library's own settings on the machine that trains: no address stands here.
    """

    to: TrackerName
    project: Slug | None = None
    """Experiment or project in it; the cluster's name when not set."""


class ClusterDefaults(Frozen):
    """``clusters/defaults.yaml``: what clusters share; each cluster may override it."""

    store: StorePath | None = None
    """Folder of the artifact store, outside the clone; ``~/.local/share/modelsmith/store`` when not set."""
    hosts: tuple[Slug, ...] = (LOCAL,)
    """Hosts on which training may run, by names that each machine gives an address to: the first free one is taken, and
    where it is lost, the next. ``local`` is the machine itself."""
    devices: Devices = 1
    """GPUs of the host on which a stage is trained together, each by a process of its own; without a GPU, processes."""
    beside_serving: Annotated[BesideServing | None, Field(exclude_if=lambda value: value is None)] = None
    """What trainings and evals leave to a front door on their machine; they wait for none when not set."""
    training: Training = Sft.defaults()
    tracking: Tracking | None = None
    """None: figures of trainings stay on the machine."""
    prices: Prices = Prices.defaults()
    loop: Loop = Loop.defaults()


class Cluster(Frozen):
    """``clusters/<cluster>/cluster.yaml``: the intake."""

    cluster: Slug
    """Equals the folder's name."""
    domain: Slug
    owner: Slug
    """Role that answers for this line of work."""
    description: str
    base_model: BaseModelSource
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the base model and its specialists in an eval: this process, or a vLLM server started for it."""
    baselines: tuple[Baseline, ...] = ()
    """Other models that are evaluated on the same set."""
    eval_set: EvalSetName
    """``<domain>/<set>`` under ``evals/``."""
    gate: Thresholds
    """Thresholds of this cluster; the stricter of these and the eval set's holds."""
    rollback: Rollback
    deployment: Deployment = Deployment.defaults()
    store: StorePath | None = None
    hosts: tuple[Slug, ...] = (LOCAL,)
    devices: Devices = 1
    """GPUs of the host on which a stage is trained together, each by a process of its own; without a GPU, processes."""
    beside_serving: Annotated[BesideServing | None, Field(exclude_if=lambda value: value is None)] = None
    """What trainings and evals leave to a front door on their machine; they wait for none when not set."""
    training: Training = Sft.defaults()
    tracking: Tracking | None = None
    """None: figures of trainings stay on the machine."""
    prices: Prices = Prices.defaults()
    loop: Loop = Loop.defaults()

    @model_validator(mode="after")
    def _shadow_is_measured(self) -> Self:
        rule = self.rollback.rule
        if self.deployment.shadow_share and not (rule and (rule.errors or rule.slow or rule.format)):
            raise ValueError(
                "deployment.shadow_share needs a rollback.rule with errors, slow or format: answers that reach nobody "
                "have no other measure"
            )
        return self

    @model_validator(mode="after")
    def _cost_can_be_told(self) -> Self:
        if self.loop.max_cost is not None and not self.prices.compute_per_hour:
            raise ValueError("loop.max_cost needs prices.compute_per_hour: without it nothing costs anything")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of its training, in order."""
        return stages_of(self.training)

    @property
    def stage_by_stage(self) -> bool:
        """Whether a candidate may be trained by the first of several stages, since a plateau adds the next."""
        plateau = self.loop.plateau
        return len(self.stages) > 1 and plateau is not None and plateau.then == "next-stage"


class Serving(Frozen):
    """One line of ``routing.yaml``: who serves which share."""

    specialist: str
    """Specialist id, or ``base`` for the cluster's base model."""
    artifact: Digest | None
    """Artifact id; none for the base model."""
    share: Fraction
    record: Digest | None
    """Digest of the record that put it there."""


class Routing(Frozen):
    """``clusters/<cluster>/routing.yaml``: rendered from promotion records, never written by hand."""

    cluster: Slug
    serving: tuple[Serving, ...]
    """Shares sum to one."""
