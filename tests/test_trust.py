"""recipes/forecast.py as a user runs it."""

import pytest

from icm_rl.report.names import SIGNALS
from tests.conftest import run

pytestmark = pytest.mark.process

FORECAST = ("recipes/forecast.py", "--config", "recipes/configs/miniature/icm.yaml")


def figures(text: str) -> dict[str, str]:
    """The rows of the table that is printed."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {cell[0]: cell[1] for cell in cells if len(cell) == 2}


def test_labels_are_forecast_before_there_are_any(data):
    rows = figures(run(*FORECAST, "--data", data / "preferences_train.jsonl").stdout)
    assert rows["examples asked"] == "48 of 768"
    assert set(SIGNALS.values()) <= rows.keys()
    right = float(rows["right by the gold labels"].split()[0])
    low, high = (float(bound) for bound in rows["90 % interval"].removesuffix(" %").split(" – "))
    forecast = float(rows["labels right, forecast"].split()[0])
    assert low < forecast < high
    assert abs(forecast - right) < 15
    assert rows["verdict"] in ("trust", "look first", "do not use")
    assert ("to be judged by you" in rows) == (rows["verdict"] == "look first")


def test_too_few_groups_are_told(data):
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 3)
    refused = run(*FORECAST, *flags, check=False)
    assert refused.returncode == 2
    assert refused.stderr.strip().splitlines()[-1] == (
        "error: a forecast takes 4 consistency groups that fit the model's context of 2048 tokens "
        "together; give more examples, shorter ones, or a model with a longer context"
    )
