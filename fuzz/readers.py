"""Targets: two readers of one file. What ours accepts, another reads the same, and a person sees in the diff."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json
from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.resolver import VersionedResolver
from typing_extensions import override

from fuzz.governed import json_seeds, yaml_seeds
from fuzz.target import Target
from modelsmith.repository.document import Document, Unreadable
from modelsmith.repository.json_reader import read_json
from modelsmith.repository.yaml_reader import read_yaml

OWN_ADDITIONS = ("timestamp", "value", "merge")
"""Types beside the core schema's that ruamel gives to plain text."""


class CoreResolver(VersionedResolver):
    """YAML 1.2 core: without ruamel's own additions, ``1_000`` as a number among them."""

    @override
    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        added = str(tag.suffix).endswith(OWN_ADDITIONS) or (kind is ScalarNode and "_" in value)
        return self.DEFAULT_SCALAR_TAG if added else tag


def other_yaml(text: str) -> object:
    """What ruamel's pure Python reader makes of it."""
    reader = YAML(typ="safe", pure=True)
    reader.Resolver = CoreResolver
    return reader.load(text)


def assert_same_yaml(data: bytes) -> None:
    """Whatever our reader on libyaml accepts, ruamel reads the same, and every key stands where a person sees it."""
    try:
        document = read_yaml("file.yaml", data)
    except Unreadable:
        return
    text = data.decode()
    assert same(document.data, other_yaml(text)), (document.data, other_yaml(text))
    assert_seen(document, text)


def assert_seen(document: Document, text: str) -> None:
    """Every key that was read is spelled on its line of the diff, and that line is no comment."""
    lines = text.split("\n")
    for location, place in document.keys.items():
        assert place.line is not None
        line = lines[place.line - 1]
        assert not line.lstrip(" ").startswith("#"), (location, line)
        assert str(location[-1]) in line or "\\" in line or "''" in line, (location, line)


def assert_same_json(data: bytes) -> None:
    """Whatever our reader accepts, the reader behind pydantic reads the same."""
    try:
        document = read_json("file.json", data)
    except Unreadable:
        return
    assert same(document.data, from_json(data, allow_inf_nan=False)), document.data


def same(value: object, other: object) -> bool:
    """Equal, and of the same types: 1 is neither 1.0 nor true."""
    return spelled(value) == spelled(other)


def spelled(value: object) -> str:
    """A value as text; mappings in the order of their keys."""
    return json.dumps(value, sort_keys=True, default=repr)


def _texts(seeds: list[bytes]) -> list[bytes]:
    return [seed.partition(b"\n")[2] for seed in seeds]


TARGETS = (
    Target("two-yaml-readers", assert_same_yaml, lambda: _texts(yaml_seeds())),
    Target("two-json-readers", assert_same_json, lambda: _texts(json_seeds())),
)
