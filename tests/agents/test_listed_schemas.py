"""What a client reads of tools before it does anything: small, whole by itself, and true of every answer."""

from __future__ import annotations

import json
from random import Random

import anyio
import pytest
from jsonschema import Draft202012Validator
from mcp import Client
from mcp.shared.exceptions import MCPError
from views.any_value import value

from modelsmith.mcp.calls import Session, call
from modelsmith.mcp.schemas import outline
from modelsmith.mcp.server import make_server
from modelsmith.mcp.tools import DESCRIBED, tools
from modelsmith.mcp.watching import Watch

BUDGET = {"reviewer": 42_000, "promoter": 23_000, "operator": 66_000}
"""Bytes of a role's list of tools, at most. It lay at 210,000 and more, of which some clients' models read all."""
each = pytest.mark.parametrize("tool", tuple(tools()), ids=lambda tool: tool.name)


def connected(world, role):
    """The official client of a session of the role."""
    return Client(make_server(lambda: Session(world.clone, role), Watch(world.clone)))


def unbounded(schema):
    """The schema without bounds of numbers, which values made from types alone do not keep."""
    if isinstance(schema, list):
        return [unbounded(subschema) for subschema in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: unbounded(subschema) for name, subschema in schema.items() if not name.endswith("imum")}


@pytest.mark.parametrize("role", BUDGET)
def test_the_list_of_tools_keeps_to_its_budget(role, fresh):
    async def visit():
        async with connected(fresh, role) as client:
            listed = (await client.list_tools()).model_dump_json(by_alias=True, exclude_none=True)
            assert len(listed.encode()) <= BUDGET[role]

    anyio.run(visit)


@each
def test_a_listed_schema_needs_nothing_outside_of_itself(tool):
    """Clients are known that lose definitions, and that ask their model for whatever may be null."""
    takes, gives = tool.schemas()
    for schema in (takes, gives):
        assert '"$' not in json.dumps(schema)
    for name, subschema in takes["properties"].items():
        assert {"type": "null"} not in subschema.get("anyOf", ()), name
        assert subschema.get("type") or subschema.get("anyOf"), name
        assert subschema.get("description"), name


@each
def test_a_description_ends_with_a_whole_sentence(tool):
    text = tool.description()
    assert text.endswith(".")
    assert len(text) <= DESCRIBED


@each
def test_every_answer_holds_by_the_outline_and_by_the_whole_schema(tool):
    for in_the_end in (False, True):
        whole = unbounded(tool.whole_answer(in_the_end))
        schemas = [whole, outline(whole)]
        for schema in schemas:
            Draft202012Validator.check_schema(schema)
        for round_ in range(8):
            result = value(tool.answer(in_the_end), "some words", Random(f"{tool.name} {round_}"))
            body = {
                "exit": 0, "marker": "data-1", "shortened": [{"at": "/rows", "of": 30, "offset": 0, "shown": 20}],
                "result": json.loads(result.model_dump_json(by_alias=True, warnings=False)),
            }  # fmt: skip
            for schema in schemas:
                Draft202012Validator(schema).validate(body)
            body["result"] = "a text"
            assert not Draft202012Validator(schemas[1]).is_valid(body), "an outline can refuse"


def test_a_whole_schema_can_be_read_by_whoever_has_the_tool(fresh):
    async def visit():
        async with connected(fresh, "reviewer") as client:
            assert "modelsmith://schemas/{tool}" in {
                template.uri_template for template in (await client.list_resource_templates()).resource_templates
            }
            resource = await client.read_resource("modelsmith://schemas/modelsmith_status")
            schema = json.loads(resource.contents[0].text)["outputSchema"]
            answer = await client.call_tool("modelsmith_status", {})
            Draft202012Validator(schema).validate(answer.structured_content)
            assert "$defs" in schema
            for name in ("promote", "..", "nothing"):
                with pytest.raises(MCPError):
                    await client.read_resource(f"modelsmith://schemas/{name}")
        async with connected(fresh, "operator") as client:
            resource = await client.read_resource("modelsmith://schemas/modelsmith_eval_run")
            assert json.loads(resource.contents[0].text).keys() == {"outputSchema", "inTheEnd"}

    anyio.run(visit)


def test_an_argument_that_is_null_is_left_out(fresh):
    """Models say null for what they do not give, whatever the schema says."""
    session = Session(fresh.clone, "reviewer")
    assert call(session, "modelsmith_status", {"detail": None, "offset": None}).body["exit"] == 0
    missing = call(session, "modelsmith_balance", {"target": None})
    assert missing.refused
    assert missing.body["code"] == "usage"
    listed = call(session, "events", {"since": None, "limit": None})
    assert not listed.refused
    refused = call(session, "modelsmith_why", {"nothing": None})
    assert "takes no argument" in refused.body["message"]


def test_a_whole_number_may_have_a_point(fresh):
    """JSON Schema calls 4.0 an integer, and some clients write every number so."""
    session = Session(fresh.clone, "reviewer")
    takes = Draft202012Validator(next(tool for tool in tools() if tool.name == "events").schemas()[0])
    for arguments, works in (({"limit": 5.0, "offset": 0.0}, True), ({"limit": 5.5}, False), ({"limit": True}, False)):
        assert takes.is_valid(arguments) == works
        assert call(session, "events", arguments).refused != works
