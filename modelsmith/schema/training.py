"""Training: stages of one method each. A method has a block of settings of its own, which knows no other method's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from modelsmith.schema.base import Frozen, Seed, Slug
from modelsmith.schema.canonical import content_digest, digest
from modelsmith.schema.source import TeacherModel
from modelsmith.schema.training_row import PairSource

Method = Literal["sft", "dpo", "grpo"]
"""Methods of training; `training.worker.METHODS` has the module of each."""
Sampler = Literal["auto", "embedded", "vllm"]
"""What writes the answers that a training by reward samples: the decoding in the trainer's own process, a vLLM server
beside it, or (``auto``) the server where the host has a CUDA GPU and vLLM for it, and the process elsewhere."""
_GPU_SHARE = 0.4


class Lora(Frozen):
    """Low-rank adapter on the linear layers."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[int, Field(ge=1)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    top_layers: Annotated[int, Field(ge=1)] | None = None
    """Adapt only this many layers counted from the output; all when not set."""


class Settings(Frozen):
    """Settings that training by any method needs."""

    seed: Seed = 17
    rows: Annotated[int, Field(ge=1)] = 480
    """Training rows drawn from the generators for one iteration."""
    steps: Annotated[int, Field(ge=1)] = 48
    """Optimizer steps."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Rows per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    lora: Lora = Lora.defaults()
    checkpoint_every: Annotated[int, Field(ge=1)] = 16
    """Steps between checkpoints; a killed run resumes from the last."""
    gradient_checkpointing: bool = False
    """Keep no layer's activations, and compute them again on the way back: less memory for about a third more time."""
    load_in_4bit: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """QLoRA: hold the base model in 4 bits (NF4, its scales quantised again) while it is trained. The adapter is for
    the base model as it is pinned, with which evals answer."""
    judge_calls: Annotated[Annotated[int, Field(ge=1)] | None, Field(exclude_if=lambda calls: calls is None)] = None
    """Questions that the judge may be asked in the whole stage, where it decides points of the rubric: about rows of
    other sources, answers that pairs are made of, or sampled answers that are rewarded. What it said before in the same
    stage costs nothing again."""


RowShare = Annotated[float, Field(gt=0, le=0.9)]
"""Largest share of each capability's rows that a source may give; a generator's rows fill the rest."""


class OwnSamples(Frozen):
    """Rejection sampling: answers of the model itself to training prompts, of which those are kept that pass."""

    share: RowShare = 0.25
    samples: Annotated[int, Field(ge=1, le=64)] = 4
    """Answers drawn for each prompt; the first that passes is kept."""
    temperature: Annotated[float, Field(ge=0.01, le=2)] = 1.0
    """Temperature of those samples."""


class Teacher(TeacherModel):
    """A model that writes prompts in other words and answers them; a row is kept where its answer passes."""

    share: RowShare = 0.25


class Datasets(Frozen):
    """The customer's own rows."""

    share: RowShare = 0.25
    """Share of the rows that comes from all data sets together."""
    names: Annotated[tuple[Slug, ...], Field(min_length=1, max_length=32)]
    """Manifests of the eval set, by id."""


class Sources(Frozen):
    """Where rows come from besides the declared generators; nothing that is not named is used."""

    own_samples: OwnSamples | None = None
    teacher: Teacher | None = None
    datasets: Datasets | None = None
    most_alike: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Similarity of two prompts from which on the later row is a near-duplicate and dropped; own samples answer the
    generators' prompts, and are not compared."""

    @property
    def shares(self) -> dict[PairSource, float]:
        """The share of each source that is used."""
        used: dict[PairSource, OwnSamples | Teacher | Datasets | None] = {
            "own-sample": self.own_samples,
            "teacher": self.teacher,
            "dataset": self.datasets,
        }
        return {name: source.share for name, source in used.items() if source}

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if not self.shares:
            raise ValueError("name a source, or leave sources out")
        if sum(self.shares.values()) > 0.9:
            raise ValueError("the shares add up to more than 0.9, and generators fill the rest")
        return self


class Sft(Settings):
    """Supervised fine-tuning on the rows' answers."""

    method: Literal["sft"] = "sft"
    sources: Annotated[Sources | None, Field(exclude_if=lambda sources: sources is None)] = None
    """Sources of rows besides the generators; none when not set."""

    @model_validator(mode="after")
    def _judges_what_comes(self) -> Self:
        if self.judge_calls is not None and self.sources is None:
            raise ValueError("judge_calls goes with sources: the rows of generators are declared right")
        return self


class Dpo(Settings):
    """Direct preference optimisation (Rafailov et al., 2023): right answers preferred to the model's own wrong ones."""

    method: Literal["dpo"]
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    """How strongly the model is held to what it was when the stage began; less lets it move further."""
    loss: Literal["sigmoid", "ipo", "hinge"] = "sigmoid"
    """TRL's ``loss_type``: DPO itself, IPO (which does not overfit certain preferences), or SLiC's hinge."""
    samples: Annotated[int, Field(ge=1, le=64)] = 4
    """Answers drawn from the model for each prompt; its failing ones become what is rejected."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Temperature of those samples."""


_UNCLEAR = 0.1


class Tripwires(Frozen):
    """When a training by reward ends with a reason and a checkpoint, because the model is not becoming better."""

    least_entropy: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Entropy of the answers, as a share of what it was in the first steps."""
    most_growth: Annotated[float, Field(gt=1)] = 2.0
    """Length of the answers, as a multiple of what it was in the first steps."""
    most_kl: Annotated[float, Field(gt=0)] = 1.0
    """Nats a token from what the model was when the stage began."""
    equal_steps: Annotated[int, Field(ge=2)] = 8
    """Steps in a row in which all answers to each prompt earn the same."""
    held_in_loss: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Greedy score on the prompts set aside that may be lost while the reward rises."""
    form_gain: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Reward that may be gained while the points of content do not rise; 1 looks at nothing of the kind."""
    least_content: Annotated[float, Field(ge=0, le=1)] = 0.1
    """How much the score by points of content must rise, as a share of what the reward rises."""
    form_steps: Annotated[int, Field(ge=4)] = 12
    """Steps over whose mean that counts: form may be learned before content."""
    most_unclear: Annotated[float, Field(ge=0, le=0.5, exclude_if=lambda share: share == _UNCLEAR)] = _UNCLEAR
    """Share of sampled answers on which the judge may come to no verdict, over four steps."""


class Grpo(Settings):
    """Group relative policy optimisation (Shao et al., 2024): sampled answers, rewarded by the rubric's own score."""

    method: Literal["grpo"]
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Answers per optimizer step: whole groups."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    group_size: Annotated[int, Field(ge=2, le=128)] = 8
    """Answers to each prompt, which are compared with one another."""
    max_completion_tokens: Annotated[int, Field(ge=1, le=32768)] = 128
    """Longest sampled answer."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    beta: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight of the KL divergence from what the model was when the stage began."""
    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """How far one step may move the probability of a token."""
    loss: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "dapo"
    """TRL's ``loss_type``: how the tokens of answers of unequal length are weighed. ``bnpo`` divides by the tokens of
    the whole step, as ``dapo`` does."""
    scale_rewards: Literal["group", "batch", "none"] = "none"
    """Whose standard deviation advantages are divided by."""
    watch_every: Annotated[int, Field(ge=1)] = 4
    """Steps between greedy answers to the prompts set aside."""
    tripwires: Tripwires = Tripwires.defaults()
    sampler: Annotated[Sampler, Field(exclude_if=lambda sampler: sampler == "auto")] = "auto"
    """The engine that writes the sampled answers."""
    gpu_memory_share: Annotated[float, Field(ge=0.05, le=0.9, exclude_if=lambda share: share == _GPU_SHARE)] = (
        _GPU_SHARE
    )
    """Share of a GPU's memory that vLLM takes beside the training; on a CPU it says nothing."""

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.batch_size % self.group_size:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of group_size {self.group_size}")
        return self

    @model_validator(mode="after")
    def _samples_from_what_it_trains(self) -> Self:
        if self.load_in_4bit and self.sampler == "vllm":
            raise ValueError(
                "a vLLM server answers with the whole base model, and load_in_4bit trains over another: leave sampler "
                "out, or load_in_4bit"
            )
        return self


def _by_default_sft(value: Any) -> Any:
    """A block without a method is one of supervised fine-tuning, as it was before there were others."""
    return {"method": "sft", **_tuples(value)} if isinstance(value, dict) else value


def _tuples(value: Any) -> Any:
    """The same with lists as the tuples that strict types ask for: what is looked at before is no longer JSON."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


Stage = Annotated[Sft | Dpo | Grpo, Field(discriminator="method"), BeforeValidator(_by_default_sft)]
"""One training by one method, with the settings of that method and no other's."""


def _shape(value: Any) -> str:
    return "<stages>" if isinstance(value, list | tuple) else "<stage>"


Training = Annotated[
    Annotated[Stage, Tag("<stage>")] | Annotated[tuple[Stage, ...], Tag("<stages>"), Field(min_length=1, max_length=9)],
    Discriminator(_shape),
]
"""How a candidate is trained: one stage, or stages in order, of which each goes on from the adapter of the last."""


def unfit(stage: Stage, devices: int) -> str | None:
    """Why the stage cannot be trained on so many devices together, in one sentence; None where it can."""
    if devices > 1 and isinstance(stage, Grpo):
        prompts = stage.batch_size // stage.group_size
        if stage.sampler == "vllm":
            return "a vLLM server writes the answers of one device only; sampler: embedded writes on each"
        if prompts % devices:
            return (
                f"the {prompts} prompts of a step (batch_size by group_size) cannot be shared evenly by "
                f"{devices} devices"
            )
    if stage.batch_size % devices:
        return f"batch_size {stage.batch_size} cannot be shared evenly by {devices} devices"
    return None


def stages_of(training: Training) -> tuple[Stage, ...]:
    """The stages, in order; one that stands alone is a recipe of one."""
    return training if isinstance(training, tuple) else (training,)


def training_digest(training: Training) -> str:
    """Identity of a recipe: that of its only stage, or of the list of its stages' digests. Defaults do not count."""
    each = [content_digest(stage) for stage in stages_of(training)]
    return each[0] if len(each) == 1 else digest(each)
