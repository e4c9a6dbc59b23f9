"""The house: what may import what, and how large a file may be."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "icm_rl"
# each knows those before it, and nothing of those after it; what stands together is one layer
LAYERS = (
    ("errors", "shipped", "progress", "functions", "rules", "terminal"),
    ("gguf",),
    ("files", "models", "data", "batching"),
    ("cards", "settings", "runner", "shards"),
    ("trainer", "cluster"),
    ("tasks",),
    ("engines", "generation"),
    ("icm",),
    ("reward",),
    ("rl",),
    ("rewardbench",),
    ("miniature",),
    ("programs",),
    ("pipeline",),
    ("report",),
    ("experiment",),
    ("cli",),
)
ORDER = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in ("icm_rl", "recipes", "eval", "tests")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_runs_from_a_lower_layer_to_a_higher_one(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        return
    own = ORDER[parts[0]]
    for name in imported(path):
        words = name.split(".")
        assert words[0] == "icm_rl" and words[1] in ORDER, f"{path} imports {name}"
        assert ORDER[words[1]] <= own, f"{path} imports {name}, which is of a higher layer"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
