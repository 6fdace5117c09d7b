"""What stands below a field is its documentation: for editors, for the help of commands, for messages."""

from pydantic import Field

from modelsmith.operations.table import OPERATIONS
from modelsmith.schema.base import Frozen
from modelsmith.schema.catalog import json_schemas
from modelsmith.schema.docs import Documented, field_docs


class Above(Frozen):
    """A base."""

    kept: int
    """Said once,
    for whoever inherits it."""


class Below(Above):
    """Inherits a field."""

    given: int = Field(alias="handed-in", description="Said with the field.")
    """Said below it, too."""
    bare: int
    inner: Above
    """Another type."""


def test_the_text_below_a_field_is_its_documentation():
    docs = {"kept": "Said once,\nfor whoever inherits it.", "given": "Said with the field.", "inner": "Another type."}
    assert field_docs(Below) == docs


def test_a_schema_says_it_under_the_name_that_is_written():
    properties = Below.model_json_schema(by_alias=True, schema_generator=Documented)["properties"]
    assert {name: part.get("description") for name, part in properties.items()} == {
        "kept": "Said once,\nfor whoever inherits it.",
        "handed-in": "Said with the field.",
        "bare": None,
        "inner": "Another type.",
    }


def test_every_kind_of_governed_file_and_every_option_is_explained():
    parts = [part for schema in json_schemas().values() for part in (schema, *schema.get("$defs", {}).values())]
    fields = [field for part in parts for field in part.get("properties", {}).values()]
    assert sum("description" in field for field in fields) > len(fields) / 2
    for operation in OPERATIONS:
        request = operation.load().request
        assert set(field_docs(request)) == set(request.model_fields), operation.name
