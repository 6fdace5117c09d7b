"""What every substrate promises, whichever engine is behind it. A test class inherits this and gives a `substrate`."""

from __future__ import annotations

from modelsmith.schema.errors import InvalidInput
from modelsmith.schema.evalset import Sampling
from modelsmith.schema.run import EngineFacts
from modelsmith.schema.scenario import Message
from modelsmith.substrates.port import Completion, Prompt, Substrate

SYSTEM = "Name the cause of the incident."
SHORT = Sampling(max_new_tokens=8)
TEXTS = [
    "Bids are late.",
    "Spend is down since Tuesday; why?",
    "Clicks come from one address only, and nobody buys.",
    "Größe, 広告, \U0001f600 and a tab\t.",
]


def say(text: str, key: str = "p") -> Prompt:
    return Prompt(key, (Message(role="user", content=text),))


def ask(substrate: Substrate, texts: list[str], sampling: Sampling = SHORT, system: str = SYSTEM) -> list[Completion]:
    prompts = [say(text, f"core/s-{i}/0/0") for i, text in enumerate(texts)]
    return sorted(substrate.complete(prompts, system, sampling), key=lambda completion: completion.key)


class SubstrateContract:
    """The port's promises."""

    def test_every_prompt_comes_back_once_under_its_key(self, substrate: Substrate) -> None:
        completions = ask(substrate, TEXTS * 10)
        assert sorted(completion.key for completion in completions) == sorted(f"core/s-{i}/0/0" for i in range(40))
        assert [completion.error for completion in completions] == [None] * 40

    def test_no_prompts_give_no_completions(self, substrate: Substrate) -> None:
        assert list(substrate.complete([], SYSTEM, SHORT)) == []

    def test_completions_have_text_tokens_finish_and_time(self, substrate: Substrate) -> None:
        for completion in ask(substrate, TEXTS):
            assert completion.text.encode()
            assert completion.finish in ("stop", "length")
            assert completion.prompt_tokens > 0
            assert 0 < completion.completion_tokens <= SHORT.max_new_tokens
            assert completion.seconds > 0

    def test_the_limit_of_new_tokens_holds_and_is_named(self, substrate: Substrate) -> None:
        (completion,) = ask(substrate, ["Tell everything."], Sampling(max_new_tokens=2))
        assert (completion.finish, completion.completion_tokens) == ("length", 2)

    def test_greedy_answers_repeat(self, substrate: Substrate) -> None:
        first, again = (ask(substrate, TEXTS) for _ in range(2))
        assert [(completion.key, completion.text) for completion in first] == [
            (completion.key, completion.text) for completion in again
        ]

    def test_sampling_with_another_seed_gives_other_answers(self, substrate: Substrate) -> None:
        texts = [
            [
                completion.text
                for completion in ask(substrate, TEXTS, Sampling(max_new_tokens=16, temperature=1.0, seed=seed))
            ]
            for seed in (1, 2)
        ]
        assert texts[0] != texts[1]

    def test_system_prompt_and_earlier_turns_reach_the_model(self, substrate: Substrate) -> None:
        (plain,) = ask(substrate, TEXTS[:1])
        (longer,) = ask(substrate, TEXTS[:1], system=f"{SYSTEM} Answer in one short and plain sentence.")
        turns = (
            Message(role="user", content="Bids are late."),
            Message(role="assistant", content="Since when?"),
            Message(role="user", content="Since noon."),
        )
        (talk,) = substrate.complete([Prompt("p", turns)], SYSTEM, SHORT)
        assert longer.prompt_tokens > plain.prompt_tokens
        assert talk.prompt_tokens > plain.prompt_tokens

    def test_a_prompt_beyond_the_context_is_an_error_and_others_are_answered(self, substrate: Substrate) -> None:
        completions = ask(substrate, ["short", "long " * 9000, "short too"])
        assert [completion.error is None for completion in completions] == [True, False, True]
        assert isinstance(completions[1].error, InvalidInput)
        assert (completions[1].error.code, completions[1].finish, completions[1].text) == (
            "prompt-too-long",
            "error",
            "",
        )

    def test_a_reader_may_stop_early_and_ask_again(self, substrate: Substrate) -> None:
        reading = iter(substrate.complete([say(text, text) for text in TEXTS * 5], SYSTEM, SHORT))
        next(reading)
        del reading
        assert [completion.error for completion in ask(substrate, TEXTS)] == [None] * 4

    def test_the_facts_name_the_engine_and_no_place(self, substrate: Substrate) -> None:
        facts = substrate.facts
        assert EngineFacts.model_validate_json(facts.model_dump_json()) == facts
        assert "/" not in facts.version
        assert "127.0.0.1" not in facts.model_dump_json()
