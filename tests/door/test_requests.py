"""Who answers a request, what the answer says of itself, and what happens when a backend gives none."""

from __future__ import annotations

import asyncio
import json
import re

import openai
import pytest
from doors import CLUSTER, INCUMBENT, WATCHED, client, event, measured, until

from modelsmith.door.http_upstream import HttpModel
from modelsmith.door.upstream import Price
from modelsmith.schema.router import Router, Rule, StickyKey


def test_the_official_client_gets_whole_and_streamed_answers(play):
    async def scene(door):
        raw = await client(door.url).chat.completions.with_raw_response.create(
            model=CLUSTER, messages=[{"role": "user", "content": "Why?"}]
        )
        assert raw.parse().choices[0].message.content == "from specialist"
        found_by_name = {
            name: raw.headers[f"x-modelsmith-{name}"] for name in ("decision", "cluster", "specialist", "record")
        }
        assert found_by_name == {
            "decision": "d1", "cluster": CLUSTER, "specialist": WATCHED.specialist, "record": WATCHED.record,
        }  # fmt: skip
        stream = await client(door.url).chat.completions.create(
            model=CLUSTER, messages=[{"role": "user", "content": "Why?"}], stream=True
        )
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "xxxxx"
        assert [model.id async for model in client(door.url).models.list()] == [CLUSTER]
        assert (await client(door.url).models.retrieve(CLUSTER)).owned_by == "modelsmith"
        with pytest.raises(openai.NotFoundError, match="no such model"):
            await client(door.url).models.retrieve("other")
        async with door.session.get(f"{door.url}/chat/completions") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        ends = [end for _, end in door.recorder.ends]
        assert [(end.status, end.tokens_in, end.tokens_out) for end in ends] == [(200, 7, 3), (200, 0, 7)]
        assert ends[0].first_token_ms is None
        assert 0 < ends[1].first_token_ms <= ends[1].total_ms

    play(scene)


def test_what_a_request_leaves_out_is_as_in_the_eval(play):
    async def scene(door):
        await door.ask()
        assert door.specialist.asked[0] == {
            "model": "specialist", "max_tokens": 16, "temperature": 0.0, "top_p": 1.0,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        }  # fmt: skip
        own = [{"role": "developer", "content": "Rhyme."}, {"role": "user", "content": "Why?"}]
        await door.ask({"messages": own, "temperature": 0.5, "max_completion_tokens": 4, "metadata": {"a": "b"}})
        request = door.specialist.asked[1]
        assert (request["messages"], request["temperature"], request["max_completion_tokens"]) == (own, 0.5, 4)
        assert "max_tokens" not in request

    play(scene)


def test_requests_of_one_key_stay_with_one_model_and_the_share_holds(play):
    rules = Router(rules=(Rule(name="all", cluster=CLUSTER, key=StickyKey(header="x-user")),))

    async def scene(door):
        door.serve(0.25, rules)
        for _ in range(2):
            await asyncio.gather(*(door.ask(**{"X-User": str(user)}) for user in range(200)))
        arms = {}
        for key, decision in zip(door.recorder.keys, door.recorder.decisions, strict=True):
            assert arms.setdefault(key, decision.arm) == decision.arm
        share = sum(arm == "specialist" for arm in arms.values()) / len(arms)
        assert len(arms) == 200
        assert 0.15 < share < 0.35
        assert {d.share for d in door.recorder.decisions} == {0.25}
        await door.ask()
        await door.ask()
        assert len(set(door.recorder.keys[-2:])) == 2
        assert all(len(key) >= 16 for key in door.recorder.keys[-2:])

    play(scene)


def test_the_incumbent_answers_for_a_specialist_that_is_down(play):
    async def scene(door):
        for status in (500, 404, 401, 302):
            door.specialist.status = status
            code, headers, answer = await door.ask()
            assert (code, answer["choices"][0]["message"]["content"]) == (200, "from incumbent")
            assert headers["x-modelsmith-specialist"] == INCUMBENT.specialist
            assert headers["x-modelsmith-record"] == INCUMBENT.record
            assert headers["x-modelsmith-failed-over-from"] == WATCHED.specialist
        door.specialist.status, door.specialist.pause = 200, 600.0
        door.silence_seconds = 1.0
        door.serve(1.0)
        assert (await door.ask())[0] == 200
        ends = door.recorder.ends
        assert [decision.arm for decision, _ in ends] == ["specialist"] * 5
        assert [(end.status, end.failed_over) for _, end in ends] == [
            (500, True), (502, True), (502, True), (502, True), (504, True),
        ]  # fmt: skip

    play(scene)


def test_nobody_else_is_asked_where_the_request_is_to_blame(play):
    async def scene(door):
        door.specialist.status = 400
        assert (await door.ask())[0] == 400
        assert door.incumbent.asked == []
        assert door.recorder.ends[0][1].status == 400

    play(scene)


def test_without_anybody_left_the_caller_is_told_when_to_come_again(play):
    async def scene(door):
        door.specialist.status = door.incumbent.status = 503
        status, headers, answer = await door.ask()
        assert (status, headers["Retry-After"], answer["error"]["code"]) == (503, "2", "backend-down")
        assert headers["x-modelsmith-decision"] == "d1"
        ((_, end),) = door.recorder.ends
        assert (end.status, end.failed_over) == (503, False)

    play(scene)


@pytest.mark.parametrize("dies_after", [0, 1, 3])
def test_a_stream_that_has_begun_is_never_begun_again(play, dies_after):
    """Before the first event another may be asked; after it the caller is told that the answer broke off."""

    async def scene(door):
        door.specialist.dies_after = dies_after
        stream = await client(door.url).chat.completions.create(
            model=CLUSTER, messages=[{"role": "user", "content": "Why?"}], stream=True
        )
        parts = []

        async def listen():
            async for chunk in stream:
                parts.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 (what came before an error counts)

        if dies_after == 0:
            await listen()
            assert "".join(parts) == "xxxxx"
            assert len(door.incumbent.asked) == 1
        else:
            with pytest.raises(openai.APIError):
                await listen()
            assert parts == ["x"] * dies_after
            assert door.incumbent.asked == []
        await until(lambda: len(door.recorder.ends) == 1)
        ((_, end),) = door.recorder.ends
        assert end.status in (502, 503)
        assert end.failed_over == (dies_after == 0)

    play(scene)


def test_a_fault_of_the_door_s_own_is_an_error_and_nobody_hung_up(play, monkeypatch):
    async def scene(door):
        monkeypatch.setattr(HttpModel, "ask", lambda self, body: "no context"[99])
        status, _, answer = await door.ask()
        assert (status, answer["error"]["code"]) == (500, "bug")
        ((_, end),) = door.recorder.ends
        assert (end.status, end.hung_up) == (500, False)

    play(scene)


def test_a_caller_that_hangs_up_stops_the_backend(play):
    async def scene(door):
        door.specialist.events, door.specialist.pause = 10_000, 0.01
        stream = await client(door.url).chat.completions.create(
            model=CLUSTER, messages=[{"role": "user", "content": "Why?"}], stream=True
        )
        for _ in range(3):
            await anext(stream.__aiter__())
        await stream.close()
        await until(lambda: door.specialist.stopped != [])
        assert door.specialist.stopped[0] < 100
        await until(lambda: len(door.recorder.ends) == 1)
        assert door.recorder.ends[0][1].hung_up
        assert door.incumbent.asked == []

    play(scene)


def test_a_deployment_that_was_taken_back_gets_nothing(play):
    async def scene(door):
        door.recorder.taken_back.add(WATCHED.record)
        _, headers, _ = await door.ask()
        assert headers["x-modelsmith-specialist"] == INCUMBENT.specialist
        (decision,) = door.recorder.decisions
        assert (decision.specialist, decision.arm, decision.share) == (INCUMBENT.specialist, "incumbent", 0.0)
        assert door.specialist.asked == []

    play(scene)


def test_no_request_is_lost_through_a_hundred_reloads(play):
    """Each answer comes whole from the models that stood when its request came, whatever was obeyed meanwhile."""

    async def scene(door):
        door.specialist.pause = door.incumbent.pause = 0.002
        over = asyncio.Event()

        async def asking():
            count = 0
            while not over.is_set():
                async with door.session.post(
                    f"{door.url}/chat/completions",
                    json={"model": CLUSTER, "messages": [{"role": "user", "content": "?"}], "stream": True},
                ) as answer:
                    assert answer.status == 200
                    assert await answer.read() == event("x") * 5 + event("", "stop") + b"data: [DONE]\n\n"
                count += 1
            return count

        callers = [asyncio.create_task(asking()) for _ in range(8)]
        for number in range(100):
            door.serve((None, 0.5, 1.0)[number % 3])
            await asyncio.sleep(0.005)
        over.set()
        counts = await asyncio.gather(*callers)
        await until(lambda: len(door.recorder.ends) == sum(counts))
        assert all(end.status == 200 and not end.failed_over for _, end in door.recorder.ends)
        assert {decision.stage for decision in door.recorder.decisions} == {"canary", "full"}

    play(scene)


def test_neither_log_nor_metrics_hold_what_was_said(play):
    async def scene(door):
        await door.ask({"messages": [{"role": "user", "content": "SECRET-PROMPT"}]}, **{"X-User": "SECRET-USER"})
        async with door.session.get(door.url.removesuffix("/v1") + "/metrics") as answer:
            metrics = await answer.text()
        await until(lambda: door.log.exists() and door.log.read_text().endswith("\n"))
        text = door.log.read_text()
        assert json.loads(text.splitlines()[0])["specialist"] == WATCHED.specialist
        assert "# counted" in metrics
        assert "modelsmith_door_main_obeyed 1.0" in metrics
        for secret in ("SECRET", "from specialist"):
            assert secret not in text
            assert secret not in metrics

    play(scene)


def test_an_answer_costs_what_the_tokens_of_whoever_gave_it_cost(play, tmp_path):
    """Counted for the arm that was assigned; a copy costs, too, and an answer that nobody gave does not."""

    async def scene(door):
        recorder = measured(door, tmp_path)
        door.price = Price(1.0, 100.0)
        door.serve(1.0)
        door.specialist.status = 500
        await door.ask()
        door.incumbent.status = 500
        await door.ask()
        door.incumbent.status = 200
        door.copied = 1.0
        door.serve(None)
        await door.ask()
        await until(lambda: not door.door.counting.shadows.under_way)
        recorder.flush()
        async with door.session.get(f"http://127.0.0.1:{door.port}/metrics") as answer:
            rows = [line for line in (await answer.text()).splitlines() if line.startswith("modelsmith_cost_total")]
        recorder.close()
        costs = {
            (re.search('arm="(.*?)"', line)[1], re.search('of="(.*?)"', line)[1]): line.split()[-1] for line in rows
        }
        assert costs == {
            ("specialist", "request"): "307.0", ("incumbent", "request"): "307.0", ("specialist", "copy"): "307.0"
        }  # fmt: skip

    play(scene)
