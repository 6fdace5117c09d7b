"""An agent runs the loop from a repository in which nothing has run to a person's gate, by tools alone, and stops."""

from __future__ import annotations

import json
import time

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from worlds import CLUSTER, COMMAND

FORGED = "refs/modelsmith/pulls/4/approvals/maya"


class Agent:
    """What a client's model does with its tools."""

    def __init__(self, client):
        self.client = client

    async def does(self, name, **arguments):
        reply = await self.client.call_tool(name, arguments)
        assert not reply.is_error, reply.content[0].text
        return reply.structured_content

    async def is_refused(self, name, **arguments):
        reply = await self.client.call_tool(name, arguments)
        assert reply.is_error
        return json.loads(reply.content[0].text)["code"]

    async def waits_for(self, job):
        end = time.monotonic() + 500
        while True:
            status = (await self.does("modelsmith_train_status", jobId=job, detail=True))["result"]
            if status["job"]["status"] not in ("queued", "running"):
                return status
            assert time.monotonic() < end, status
            await anyio.sleep(1)


def server(world, role):
    return Client(
        StdioServerParameters(
            command=str(COMMAND), args=["mcp", "--role", role], cwd=world.clone, env=world.environment()
        )
    )


def test_an_agent_takes_the_loop_to_a_person_by_tools_and_no_further(fresh):
    async def first():
        async with server(fresh, "operator") as client:
            agent = Agent(client)
            assert (await agent.does("modelsmith_validate"))["result"]["valid"]
            status = (await agent.does("modelsmith_status"))["result"]["clusters"][0]
            assert status["next"] == {"operation": "iterate", "arguments": {"cluster": CLUSTER}}
            return (await agent.does("modelsmith_iterate", cluster=CLUSTER))["result"]["jobId"]

    async def second(job):
        async with server(fresh, "operator") as client:
            agent = Agent(client)
            ended = await agent.waits_for(job)
            assert (ended["job"]["status"], ended["job"]["exit"]) == ("done", 4), ended
            number, specialist = ended["result"]["pull"], ended["result"]["specialist"]
            answer = await agent.does("request_approval", number=number)
            assert (answer["exit"], answer["result"]["waiting_for"]) == (4, ["@head-of-trading"])
            bundle = (await agent.does("evidence_bundle", specialist=specialist))["result"]
            assert "evidence.json" in bundle["files"]
            gate = await agent.does("policy_gate", number=number)
            assert (gate["exit"], gate["result"]["gate"]) == (4, "waiting")
            chain = (await agent.does("approver_chain", number=number))["result"]
            deploy = next(gate for gate in chain["gates"] if gate["event"] == "customer-deployed")
            assert deploy["gate"] == "head-of-trading"
            names = {event["event"]["name"] for event in (await agent.does("events", limit=100))["result"]["events"]}
            assert names >= {"eval.complete", "training.complete", "promotion.pending_approval", "promotion.advanced"}
            assert await agent.is_refused("pr_merge", number=number) == "approval-missing"
            again = await agent.does("promote", cluster=CLUSTER)
            assert (again["exit"], again["result"]["pull"]) == (4, number), "asking again opens no other gate"
            fleet = (await agent.does("modelsmith_fleet_status"))["result"]["clusters"][0]
            assert fleet["serving"] == [{"specialist": "base", "share": 1.0}]
            return number

    job = anyio.run(first)
    number = anyio.run(second, job)
    pushed = fresh.git_command("push", "--quiet", "origin", f"HEAD:{FORGED}")
    assert pushed.code != 0, "a forged receipt is not taken"
    assert fresh.modelsmith("pr", "merge", str(number), "--json").code == 4
    assert fresh.modelsmith("approve", str(number), "--key", fresh.key("maya")).code == 0
    assert fresh.modelsmith("pr", "merge", str(number)).code == 0, "the control: a person opens it"
