"""GRPO of a tiny random Llama, by the worker, in this process."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training.grpo_inputs import RUBRIC, SETTINGS, STEPS, rows
from trainings import Thread
from trl import GRPOTrainer

from modelsmith.artifacts.seal import seal
from modelsmith.evaluation.reward import reward_digest
from modelsmith.fleet.executor import Submitted
from modelsmith.fleet.folder import ERROR_FILE, HEARTBEAT_FILE, JOB_FILE, RESULT_FILE, lines_since, write_json
from modelsmith.fleet.worker import STOPPED
from modelsmith.schema.canonical import content_digest, file_digest
from modelsmith.schema.errors import ModelsmithError
from modelsmith.schema.rubric import JudgeCheck, Rubric
from modelsmith.schema.training import Lora, Tripwires
from modelsmith.schema.training_row import Prompt
from modelsmith.substrates.base_models import listing_digest
from modelsmith.training import grpo, loading, run, sampler, supervisor, tripped_before, worker
from modelsmith.training.checkpoints import is_intact
from modelsmith.training.job import Heartbeat, Inputs, JobFile, TrainJob, TrainResult, WorkerError, heartbeats, place
from modelsmith.training.judged import Reward
from modelsmith.training.measures import Measures, tripped
from modelsmith.training.packing import Tokens, pack_answers
from modelsmith.training.recovery import Recovery
from modelsmith.training.rows import read_rows, write_rows
from modelsmith.training.sampler import disagreement
from modelsmith.training.signs import Signs

assert rows  # a fixture of the other module


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Results are compared bit by bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prepared(
    folder: Path, model: Path, rows: Path, parent: Path | None = None, rubric: Rubric = RUBRIC, **changes: Any
) -> Path:
    """A job's folder, ready for the worker."""
    job = TrainJob(
        base=listing_digest(model),
        parent=file_digest(parent / "SHA256SUMS") if parent else None,
        rows=file_digest(rows),
        system="Name the cause.",
        training=SETTINGS.model_copy(update=changes),
        rubric=rubric,
    )
    folder.mkdir()
    write_json(folder / JOB_FILE, JobFile(identity=job.identity(), job=job))
    place(folder, job, Inputs(rows, parent))
    return folder


def work(folder: Path, model: Path, stop_at: int | None = None, *, dies: bool = False) -> int:
    """The worker; asked to stop after a step, as a closed lifeline does, or gone before the step's end."""
    event = threading.Event()
    if stop_at is None:
        return worker.main(folder, model, event)
    before = Signs.on_step_begin

    def on_step_begin(self: Signs, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == stop_at:
            event.set()
            if dies:
                raise RuntimeError("gone")
        before(self, args, state, control, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Signs, "on_step_begin", on_step_begin)
        return worker.main(folder, model, event)


def beats(folder: Path) -> list[Heartbeat]:
    return heartbeats(lines_since(folder / HEARTBEAT_FILE, 0)[0])


def result(folder: Path) -> TrainResult:
    assert (folder / RESULT_FILE).exists(), (folder / ERROR_FILE).read_text()
    return TrainResult.model_validate_json((folder / RESULT_FILE).read_bytes())


@pytest.fixture(scope="module")
def trained(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = prepared(tmp_path_factory.mktemp("grpo") / "job", tiny_model, rows)
    status = work(folder, tiny_model)
    assert status == 0, (folder / ERROR_FILE).read_text()
    return folder


def test_a_training_by_reward_ends_with_an_adapter_and_its_reward(trained: Path) -> None:
    training = result(trained)
    assert training.reward == reward_digest(content_digest(RUBRIC))
    assert {name.rpartition("/")[2] for name in training.files} == {"adapter_config.json", "adapter_model.safetensors"}
    weights = load_file(trained / "adapter" / "adapter_model.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name)


def test_every_step_says_what_is_watched(trained: Path) -> None:
    measured = {beat.step: beat.measures for beat in beats(trained)}
    assert list(measured) == list(range(1, STEPS + 1))
    assert all(measures and measures.entropy > 0 and measures.length > 0 for measures in measured.values())
    assert [step for step, attempt in measured.items() if attempt and attempt.held_in is not None] == [2, 4, 6]
    assert [step for step, measures in measured.items() if measures and measures.held_in_before is not None] == [1]
    moved = [measure.kl for measure in measured.values() if measure and measure.kl is not None]
    assert len(moved) == 3
    assert moved[-1] > 0


@pytest.mark.parametrize(("stop_at", "dies"), [(3, False), (6, True)])
def test_an_interrupted_or_killed_training_ends_in_the_same_adapter(
    trained: Path, tiny_model: Path, rows: Path, tmp_path: Path, stop_at: int, dies: bool
) -> None:
    """Killed before step 6, it goes on from its checkpoint of step 4: step 5 is taken again.

    So it does where activations are not kept.
    """
    folder = prepared(tmp_path / "job", tiny_model, rows, gradient_checkpointing=dies)
    assert work(folder, tiny_model, stop_at, dies=dies) == (1 if dies else STOPPED)
    assert work(folder, tiny_model) == 0
    assert result(folder).files == result(trained).files
    found_by_name = {beat.step: beat.measures for beat in beats(folder)}
    assert found_by_name == {beat.step: beat.measures for beat in beats(trained)}


def test_so_does_one_that_is_held_to_the_adapter_it_began_with(
    trained: Path, tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    parent = shutil.copytree(trained / "adapter", tmp_path / "parent")
    seal(parent)
    for name, stop_at in (("whole", None), ("halves", 3)):
        folder = prepared(tmp_path / name, tiny_model, rows, parent, beta=0.1, steps=4)
        if stop_at:
            assert work(folder, tiny_model, stop_at) == STOPPED
        assert work(folder, tiny_model) == 0, (folder / ERROR_FILE).read_text()
    assert result(tmp_path / "halves").files == result(tmp_path / "whole").files
    assert result(tmp_path / "whole").files != result(trained).files


@pytest.fixture(scope="module")
def bench(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """TRL's trainer as the worker makes it, with an adapter that changes every layer."""
    folder = prepared(tmp_path_factory.mktemp("bench") / "job", tiny_model, rows, lora=Lora(rank=4, alpha=8))
    signs = Signs(folder, threading.Event())
    job = JobFile.model_validate_json((folder / JOB_FILE).read_bytes()).job
    trainer = grpo.trainer(run._bench(folder, job, tiny_model, signs, Reward(RUBRIC)))
    generator = torch.Generator().manual_seed(3)
    for name, tensor in trainer.model.named_parameters():
        if "lora_B" in name:
            tensor.data.normal_(0, 0.3, generator=generator)
    return trainer


def test_answers_are_those_of_the_weights_under_training(bench: Any) -> None:
    bench.model.eval()
    outputs = bench._sampler.greedy(bench.model, bench._tokens, 6)
    for prompt, output in zip(bench._tokens, outputs, strict=True):
        ids = torch.tensor([prompt])
        out = bench.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, pad_token_id=0
        )
        assert out[0, len(prompt) :].tolist() == output.tokens
        assert disagreement(bench.model, prompt, output) is None


def test_sampling_follows_the_models_own_chances(bench: Any) -> None:
    """Of 4,000 first tokens the likeliest comes as often as the trained model says."""
    bench.model.eval()
    (prompt,) = bench._tokens[:1]
    drawn = bench._sampler.draw(bench.model, [prompt], 4000, 1, 0.7, seeds=[1])
    with torch.no_grad():
        chances = torch.softmax(bench.model(input_ids=torch.tensor([prompt])).logits[0, -1] / 0.7, dim=-1)
    likeliest = int(chances.argmax())
    share = sum(output.tokens == [likeliest] for output in drawn) / 4000
    assert share == pytest.approx(float(chances[likeliest]), abs=0.03)
    assert drawn == [output._replace(seconds=two.seconds) for output, two in zip(
        bench._sampler.draw(bench.model, [prompt], 4000, 1, 0.7, seeds=[1]), drawn, strict=True)]  # fmt: skip


def test_packed_log_probabilities_and_their_gradient_are_those_of_trl(bench: Any) -> None:
    bench.model.train()
    prompts = [bench._tokens[0]] * 3 + [bench._tokens[1]] * 2
    answers = [[5, 6, 7], [5, 6], [9], [8, 8, 8], [4]]
    width = max(map(len, prompts))
    ids = torch.tensor(
        [[0] * (width - len(p)) + p + a + [0] * (3 - len(a)) for p, a in zip(prompts, answers, strict=True)]
    )
    visible = torch.tensor(
        [
            [0] * (width - len(p)) + [1] * (len(p) + len(a)) + [0] * (3 - len(a))
            for p, a in zip(prompts, answers, strict=True)
        ]
    )
    gradients, values = [], []
    for computed in (grpo._Trainer, GRPOTrainer):
        bench.model.zero_grad()
        log_probs, entropy, _ = computed._get_per_token_logps_and_entropies(
            bench, bench.model, ids, visible, 3, compute_entropy=True
        )
        mask = visible[:, -3:].bool()
        (log_probs * mask).sum().backward()
        values.append(torch.cat([log_probs[mask], entropy[mask]]).detach())
        gradients.append(torch.cat([p.grad.flatten() for p in bench.model.parameters() if p.grad is not None]))
    torch.testing.assert_close(values[0], values[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-3, rtol=1e-3)


def test_long_answers_are_packed_in_several_sequences() -> None:
    rows = [Tokens([1, 2, 3 + number // 2], [7] * 5) for number in range(6)]
    packed = list(pack_answers(rows, most=12))
    assert [sequence.rows for sequence in packed] == [[0, 1], [2, 3], [4, 5]]
    assert [sequence.inputs["input_ids"][0].tolist().count(1) for sequence in packed] == [1, 1, 1]


def test_a_sampler_with_other_weights_than_the_trained_ends_the_training(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def stale(twin: Any, trained: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(sampler, "_merged", stale)
    folder = prepared(tmp_path / "job", tiny_model, rows, learning_rate=0.3)
    assert work(folder, tiny_model) == 1
    assert failure(folder).failure == "weights-differ"


def test_a_tripwire_ends_a_training_with_a_reason_and_so_does_going_on(
    tiny_model: Path, rows: Path, tmp_path: Path
) -> None:
    wires = Tripwires(most_kl=1e-9)
    folder = prepared(tmp_path / "job", tiny_model, rows, tripwires=wires)
    assert work(folder, tiny_model) == 1
    assert failure(folder).failure == "tripped"
    assert "nats a token" in failure(folder).message
    last = beats(folder)[-1].step
    assert last < STEPS
    assert is_intact(folder / "checkpoints" / f"checkpoint-{last}")
    assert work(folder, tiny_model) == 1
    assert (failure(folder).failure, beats(folder)[-1].step) == ("tripped", last)


def test_a_training_that_tripped_starts_no_worker_again_until_it_would_not_trip(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker loads a model for minutes, only to say once more what is known."""
    settings = SETTINGS.model_copy(update={"tripwires": Tripwires(most_kl=1e-9), "steps": 3})
    job = TrainJob(
        base=listing_digest(tiny_model), parent=None, rows=file_digest(rows), system="", training=settings,
        rubric=RUBRIC,
    )  # fmt: skip

    def ended() -> ModelsmithError:
        with pytest.raises(ModelsmithError) as error:
            supervisor.train(tmp_path / "job", job, Inputs(rows), threads(tiny_model), lambda beat: None)
        return error.value

    threads = Thread()
    first, again = ended(), ended()
    assert (first.code, threads.started) == ("training-tripped", 1)
    assert (again.code, again.message, again.mend) == (first.code, first.message, first.mend)
    assert "the same command ends here again" in again.mend
    monkeypatch.setattr(tripped_before, "tripped", lambda history, wires: None)
    assert ended().code == "training-tripped"
    assert threads.started == 2, "the rule is asked, not the old error"


def test_a_model_that_learns_only_the_form_of_answers_is_stopped(tiny_model: Path, rows: Path, tmp_path: Path) -> None:
    """A letter is all that it can learn here: what a right answer must say is out of its reach."""
    fields = {"id": "word", "text": "Says it.", "weight": 1}
    check = {"type": "text", "match": "contains", "expected": {"value": "out of reach"}}
    points = (*RUBRIC.model_dump(by_alias=True)["points"][1:], fields | {"check": check})
    rubric = Rubric.model_validate({"id": "r", "owner": "lead", "description": "D.", "points": points})
    wires = Tripwires(most_kl=1e9, most_growth=1e9, least_entropy=0, form_gain=0.05, form_steps=4)
    folder = prepared(tmp_path / "job", tiny_model, rows, rubric=rubric, steps=24, tripwires=wires)
    assert work(folder, tiny_model) == 1
    assert failure(folder).failure == "tripped"
    assert "only the form of answers has become better" in failure(folder).message
    last = beats(folder)[-1]
    assert last.measures
    assert (last.measures.content, last.step >= 8) == (0.0, True)
    assert is_intact(folder / "checkpoints" / f"checkpoint-{last.step}")


def failure(folder: Path) -> WorkerError:
    return WorkerError.model_validate_json((folder / ERROR_FILE).read_bytes())


FORM = {"reward": 0.45, "content": 0.2}
"""Of a step: the reward rose by 0.15, and the points of content did not."""


def history(*changes: dict[str, Any]) -> dict[int, Measures]:
    """Ten steps of a sound training or four and those changed, which are the last ones."""
    sound = Measures(reward=0.3, content=0.2, length=20, cut_off=0, entropy=0.6, equal_groups=0.2)
    steps = [sound] * max(4, 10 - len(changes)) + [sound.model_copy(update=change) for change in changes]
    return dict(enumerate([steps[0].model_copy(update={"held_in_before": 0.5}), *steps[1:]], start=1))


@pytest.mark.parametrize(
    ("said", "last"),
    [
        (None, []),
        ("entropy fell", [{"entropy": 0.1}] * 4),
        (None, [{"entropy": 0.1, "reward": 0.99}] * 4),
        ("answers grew", [{"length": 50}] * 4),
        (None, [{"length": 50}]),
        ("moved 1.50 nats", [{"kl": 1.5}]),
        ("earned the same", [{"equal_groups": 1}] * 8),
        (None, [{"equal_groups": 1}] * 7),
        (None, [{"equal_groups": 1, "reward": 1.0}] * 8),
        ("the reward rose", [{"reward": 0.5, "held_in": 0.39}] * 4),
        (None, [{"reward": 0.5, "held_in": 0.39}] * 3 + [{"reward": 0.5, "held_in": 0.55}]),
        (None, [{"reward": 0.2, "held_in": 0.39}] * 4),
        ("only the form of answers", [FORM] * 12),
        (None, [FORM] * 7),
        (None, [FORM | {"content": 0.23}] * 12),
        (None, [FORM | {"reward": 0.35}] * 12),
        (None, [FORM | {"content": None}] * 12),
    ],
)  # fmt: skip
def test_a_training_ends_where_it_does_not_become_better(said: str | None, last: list[dict[str, Any]]) -> None:
    trip = tripped(history(*last), Tripwires())
    assert (trip is None) if said is None else (trip is not None and said in trip.reason)


@pytest.mark.parametrize("wrong", ["rubric", "judge"])
def test_a_rubric_that_cannot_reward_the_prompts_is_refused_at_the_start(
    rows: Path, tiny_model: Path, tmp_path: Path, wrong: str
) -> None:
    check = {"type": "judge", "instruction": "Is it?"}
    other = RUBRIC.model_copy(
        update={"points": (RUBRIC.points[0].model_copy(update={"check": JudgeCheck.model_validate(check)}),)}
    )
    prompts = read_rows(rows, Prompt)
    if wrong == "judge":
        prompts = tuple(prompt.model_copy(update={"rubric": content_digest(other)}) for prompt in prompts)
    write_rows(tmp_path / "rows.jsonl", prompts)
    digest = file_digest(tmp_path / "rows.jsonl")
    job = TrainJob(
        base=listing_digest(tiny_model), parent=None, rows=digest, system="", training=SETTINGS, rubric=other
    )

    class NoExecutor:
        def submit(self, folder: Path) -> Submitted:
            raise AssertionError("a worker was started")

    with pytest.raises(ModelsmithError) as refused:
        supervisor.train(tmp_path / "job", job, Inputs(tmp_path / "rows.jsonl"), NoExecutor(), lambda beat: None)
    assert refused.value.code == {"rubric": "reward-differs", "judge": "judged-reward"}[wrong]


def test_an_adapter_over_a_base_in_bfloat16_learns_in_float32(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: small updates are not lost to rounding, and greedy answers are the trained model's within bounds."""
    real = loading.AutoModelForCausalLM.from_pretrained

    def in_half(path: str, **options: Any) -> Any:
        return real(path, **options | {"dtype": torch.bfloat16})

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", in_half)
    folder = prepared(tmp_path / "job", tiny_model, rows, steps=4)
    assert work(folder, tiny_model) == 0, (folder / ERROR_FILE).read_text()
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert any(bool((tensor != tensor.bfloat16().float()).any()) for name, tensor in weights.items() if "_B" in name)
    again, _ = loading.load(tiny_model, SETTINGS, folder / "adapter")
    loaded = {name: tensor for name, tensor in again.named_parameters() if tensor.requires_grad}
    assert len(loaded) == len(weights)
    for name, tensor in loaded.items():
        assert torch.equal(tensor, weights[name.replace(".default", "")])
    assert {tensor.dtype for tensor in again.get_base_model().model.embed_tokens.parameters()} == {torch.bfloat16}


def test_where_memory_runs_out_half_the_answers_are_learned_from_at_once(
    tiny_model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of this machine holds four answers; what is drawn, rewarded, learned and measured stays the same.

    Also by the loss that TRL divides by the tokens of what goes through the model at once.
    """

    def job() -> TrainJob:
        changes = {"steps": 3, "watch_every": 1, "lora": Lora(rank=4, alpha=8), "loss": "bnpo"}
        return TrainJob(
            base=listing_digest(tiny_model), parent=None, rows=file_digest(rows), system="", rubric=RUBRIC,
            training=SETTINGS.model_copy(update=changes),
        )  # fmt: skip

    def trained(name: str, beats: list[Heartbeat]) -> supervisor.TrainOutcome:
        return supervisor.train(tmp_path / name, job(), Inputs(rows), Thread()(tiny_model), beats.append)

    calm: list[Heartbeat] = []
    undisturbed = trained("calm", calm)
    real = grpo._Trainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.args.per_device_train_batch_size > 4:
            raise MemoryError("out of memory")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(grpo._Trainer, "compute_loss", compute_loss)
    beats: list[Heartbeat] = []
    outcome = trained("small", beats)
    assert outcome.recoveries == (Recovery(failure="oom", action="smaller-batch", step=0, rows_at_once=4),)
    for ours, theirs in zip(beats, calm, strict=True):
        assert ours.measures
        assert theirs.measures
        assert ours.measures.reward == theirs.measures.reward
        assert ours.measures.model_dump() == pytest.approx(theirs.measures.model_dump(), abs=1e-4), ours.step
    assert [beat.loss for beat in beats] == pytest.approx([beat.loss for beat in calm], abs=1e-4)
    weights, due = (load_file(training.adapter / "adapter_model.safetensors") for training in (outcome, undisturbed))
    for name, tensor in due.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=1e-3)
