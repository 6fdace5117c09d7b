"""The transitions of the policy that the toolkit ships."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from modelsmith.schema.governance import Policy

_POLICY = Path(__file__).parents[1] / ".github/governance/policy.yaml"
SHIPPED = Policy.model_validate_json(json.dumps(yaml.safe_load(_POLICY.read_text()))).transitions
