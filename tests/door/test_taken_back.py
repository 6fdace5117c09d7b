"""The door with its real recorder: what fails is taken back, and from then on nothing of it is asked."""

from doors import CLUSTER, WATCHED, measured


def test_a_specialist_that_fails_gets_nothing_once_it_is_taken_back(play, tmp_path):
    async def scene(door):
        recorder = measured(door, tmp_path)
        door.serve(0.5)
        door.specialist.status = 503
        try:
            for _ in range(200):
                assert (await door.ask())[0] == 200, "the incumbent answers in its place"
                if recorder.latched(WATCHED.record):
                    break
            recorder.flush()
            assert recorder.latched(WATCHED.record)
            count = len(door.specialist.asked)
            for _ in range(40):
                status, headers, _ = await door.ask()
                assert (status, headers["x-modelsmith-specialist"]) == (200, "iter-001-0000000a")
            assert len(door.specialist.asked) == count
        finally:
            recorder.close()

    play(scene)


def test_an_answer_s_id_comes_back_with_its_outcome(play, tmp_path):
    async def scene(door):
        recorder = measured(door, tmp_path)
        door.serve(0.5)
        try:
            _, headers, _ = await door.ask()
            report = {
                "decision_id": headers["x-modelsmith-decision"], "metric": "won", "value": 1, "idempotency_key": "a",
            }  # fmt: skip
            url = f"http://127.0.0.1:{door.port}/v1/feedback"
            for result in ("taken", "repeated"):
                async with door.session.post(url, json=report) as answer:
                    assert (answer.status, (await answer.json())["result"]) == (200, result)
            async with door.session.post(url, json=report | {"decision_id": "x.y"}) as answer:
                assert answer.status == 403
            async with door.session.get(f"http://127.0.0.1:{door.port}/metrics") as answer:
                assert f'modelsmith_feedback_total{{cluster="{CLUSTER}",result="taken"}} 1.0' in await answer.text()
        finally:
            recorder.close()

    play(scene)
