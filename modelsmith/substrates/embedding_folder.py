"""How a folder of weights wants its texts embedded, as sentence-transformers writes it down. No weights are read.

Read are ``modules.json``, the pooling's ``config.json``, ``sentence_bert_config.json`` and
``config_sentence_transformers.json`` (https://sbert.net/docs/package_reference). All of them are data: a module that we
do not know is refused, never imported.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

from modelsmith.schema.embedding import EmbeddingModel, Pooling
from modelsmith.schema.errors import InvalidInput

_FLAGS: Final[dict[str, Pooling]] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_WORDS: Final[dict[str, Pooling]] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_LONGEST: Final = 512
"""Tokens of a window where neither settings nor model name a smaller one."""


class Way(NamedTuple):
    """How a model's folder wants texts turned into vectors: pooling, window, prefix, letter case."""

    weights: Path
    """Folder of the transformer and its tokenizer."""
    pooling: Pooling
    prefix: str
    window: int
    """Tokens that are read at once."""
    lower: bool
    """Whether texts are put into lower case first."""


def way_of(folder: Path, model: EmbeddingModel) -> Way:
    """How a folder's model makes vectors: what the folder says, under what policy says.

    Raises:
        InvalidInput: ``embedding-format`` for modules, poolings or files that this version cannot follow.
    """
    modules = _read(folder, "modules.json", list) or [{"type": "Transformer", "path": ""}]
    kinds = [str(_field(module, "type")).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise _refused(folder, "modules.json", f"it is made of {', '.join(kinds)[:200]}")
    weights = _inside(folder, str(_field(modules[0], "path")))
    settings = _read(weights, "sentence_bert_config.json", dict) or {}
    config = _read(weights, "config.json", dict) or {}
    limits = [settings.get("max_seq_length"), config.get("max_position_embeddings"), _LONGEST]
    prompts = _read(folder, "config_sentence_transformers.json", dict) or {}
    named = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name") or "")
    own = _pooling(_inside(folder, str(_field(modules[1], "path")))) if len(modules) > 1 else "mean"
    return Way(
        weights,
        model.pooling or own,
        model.prefix if model.prefix is not None else named if isinstance(named, str) else "",
        min(limit for limit in limits if isinstance(limit, int) and limit > 0),
        settings.get("do_lower_case") is True,
    )


def _pooling(folder: Path) -> Pooling:
    settings = _read(folder, "config.json", dict) or {}
    word = settings.get("pooling_mode")
    modes = (
        [word] if isinstance(word, str) else [name for name, on in settings.items() if on is True and "_mode_" in name]
    )
    poolings = [_WORDS.get(name) or _FLAGS.get(name) for name in modes]
    if settings.get("include_prompt") is False or len(poolings) != 1 or poolings[0] is None:
        raise _refused(folder, "config.json", f"it pools by {', '.join(map(str, modes))[:200] or 'nothing'}")
    return poolings[0]


def _inside(folder: Path, path: str) -> Path:
    if Path(path).is_absolute() or any(part.startswith(".") for part in Path(path).parts):
        raise _refused(folder, "modules.json", "a module's path leaves the folder, or is hidden from its digest")
    return folder / path


def _field(value: Any, name: str) -> Any:
    return value.get(name, "") if isinstance(value, dict) else ""


def _read(folder: Path, name: str, kind: type) -> Any:
    path = folder / name
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise _refused(folder, name, "it cannot be read")
    return value


def _refused(folder: Path, name: str, problem: str) -> InvalidInput:
    return InvalidInput(
        "embedding-format",
        f"The embedding model's {folder.name}/{name} cannot be followed: {problem}.",
        "Take a model of a transformer with mean, cls or last-token pooling, or set embedding.pooling in policy.yaml "
        "over a folder without modules.json.",
        file=name,
    )
