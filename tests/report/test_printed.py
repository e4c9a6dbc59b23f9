"""What stages print at their end."""

from icm_rl.report.printed import metrics_table


def test_metrics_stand_a_line_each_and_their_parts_behind_each_other():
    metrics = {
        "method": "search",
        "utility": 79.28581,
        "confusion": {"1": {"1": 5, "2": 1}, "2": {"2": 0.25}},
    }
    assert metrics_table(metrics).splitlines() == [
        "   method  search",
        "  utility  79.2858",
        "confusion  1 (1 5, 2 1), 2 (2 0.25)",
    ]
