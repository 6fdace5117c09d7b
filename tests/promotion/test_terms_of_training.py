"""A training that main has overtaken is begun again: its candidate would be refused for good."""

from __future__ import annotations

import pytest
import yaml
from worlds import CLUSTER

from modelsmith.loop.iterate import Loop
from modelsmith.loop.state import Iteration
from modelsmith.promotion.harness import Harness
from modelsmith.repository.workspace import Workspace

PATH = f"clusters/{CLUSTER}/cluster.yaml"


def edited(repository, change):
    document = yaml.safe_load(repository.main.tree.read(PATH))
    change(document)
    return repository.commit({PATH: yaml.safe_dump(document, sort_keys=False).encode()})


def longer(document):
    document.setdefault("training", {})["steps"] = 49


def retold(document):
    document["description"] = "Other words."


@pytest.mark.parametrize(("change", "number"), [(longer, 2), (retold, 1)])
def test_a_training_by_other_terms_than_main_s_is_begun_again(repository, change, number):
    """Terms are the base model, the settings, the rubric and the generators; words are none."""
    harness = Harness.__new__(Harness)
    object.__setattr__(harness, "workspace", Workspace(repository.git.path, repository.people / "home"))
    now = edited(repository, change)
    begun = Iteration(cluster=CLUSTER, number=1, phase="seal", commit=repository.tip, reference="base")
    assert Loop(harness, CLUSTER)._resume(begun, now.tip).number == number
