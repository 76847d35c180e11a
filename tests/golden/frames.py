"""What the samples of `tests/frames` promise of each frame: which members it has, and of what type."""

import json
from typing import Any

from tests.support.processes import ROOT

Json = dict[str, Any]
ANY_NAME = {"panels", "cursors"}  # objects whose members are named by ids


def shapes() -> Json:
    """By endpoint, kind and name: the paths of the members that any sample has, each with its types."""
    found: dict[str, dict[str, set[str]]] = {}
    for path in sorted((ROOT / "tests" / "frames").glob("*.json")):
        for sample in json.loads(path.read_text()):
            frame = sample["frame"]
            shape = found.setdefault(f"{path.stem} {sample['kind']} {sample['name']}", {})
            _see(json.loads(frame) if isinstance(frame, str) else frame, "", shape)
    return {frame: {path: sorted(types) for path, types in shape.items()} for frame, shape in found.items()}


def _see(value: Any, path: str, shape: dict[str, set[str]]) -> None:
    if path:
        shape.setdefault(path, set()).add(type(value).__name__)
    if isinstance(value, list):
        for one in value:
            _see(one, f"{path}[]", shape)
    if isinstance(value, dict) and path.rpartition(".")[2] not in ANY_NAME:
        for name, one in value.items():
            _see(one, f"{path}.{name}", shape)
