"""Responses graded by claims: what they are, what is consistent, preferences, and the recipe."""

import json

import pytest

from icm_rl.errors import InputError
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.measuring import labeling_metrics
from icm_rl.icm.methods import METHODS, Cost, Labeling
from icm_rl.icm.writing import preference_rows
from icm_rl.tasks import configured
from icm_rl.tasks.grades import grades_of
from tests.conftest import rows, run

ROWS = [
    {"id": "p", "prompt": "Name a color.", "responses": ["Red.", "Soup.", "Blue."]},
    {"id": "q", "prompt": "Name a tree.", "responses": ["Oak.", "Oak.", "Rain."]},
]
TASK = configured("grades", highest_grade=3)


def loaded(tmp_path, rows, limit=None):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TASK.load(file, limit)


def test_a_response_is_a_group_of_claims(tmp_path):
    data = loaded(tmp_path, ROWS)
    assert [(e.id, e.group, e.key) for e in data.examples] == [
        (f"{response}:{k}", response, str(k))
        for response in ("p:0", "p:1", "p:2", "q:0", "q:2")
        for k in (2, 3)
    ]
    assert data.examples[1].text == (
        "Query: Name a color.\nResponse: Red.\nClaim: This response deserves at least 3 of 3 "
        "points\nI think this claim is"
    )
    assert [e.id for e in loaded(tmp_path, ROWS, limit=1).examples[-2:]] == ["p:2:2", "p:2:3"]


def test_a_gold_grade_says_which_claims_are_true(tmp_path):
    data = loaded(tmp_path, [ROWS[0] | {"labels": [3, None, 1]}])
    assert data.gold == {"p:0:2": True, "p:0:3": True, "p:2:2": False, "p:2:3": False}
    assert grades_of(data, data.gold) == {"p:0": 3, "p:2": 1}


@pytest.mark.parametrize("grade", [0, 4, 2.5, True, "2"])
def test_a_grade_is_a_whole_number_in_its_range(tmp_path, grade):
    with pytest.raises(InputError) as error:
        loaded(tmp_path, [ROWS[0] | {"labels": [1, grade, 2]}])
    assert f"the field 'labels' has the grade {grade!r}" in str(error.value)
    assert "give whole numbers from 1 to 3 (--highest_grade), or null" in str(error.value)


def test_the_surest_claim_decides_on_those_that_it_implies(tmp_path):
    data = loaded(tmp_path, [ROWS[0]])
    members = data.examples[:2]  # at least 2, at least 3
    sure_of_more = {"p:0:2": (-0.5, 0.5), "p:0:3": (2.0, -2.0)}
    assert consistency_fix_maxprob(members, TASK, sure_of_more) == {"p:0:2": True, "p:0:3": True}
    sure_of_less = {"p:0:2": (-2.0, 2.0), "p:0:3": (0.5, -0.5)}
    assert consistency_fix_maxprob(members, TASK, sure_of_less) == dict.fromkeys(
        ("p:0:2", "p:0:3"), False
    )


def test_preferences_have_the_distance_of_the_grades_as_margin(tmp_path):
    data = loaded(tmp_path, [ROWS[0]])
    labels = {
        **{"p:0:2": True, "p:0:3": True},  # 3
        **{"p:1:2": False, "p:1:3": False},  # 1
        **{"p:2:2": True, "p:2:3": False},  # 2
    }
    odds = dict(zip(labels, (3.0, 1.0, 2.0, 4.0, 1.0, 0.5), strict=True))
    found = [
        (row["chosen"][0]["content"], row["rejected"][0]["content"], row["log_odds"], row["margin"])
        for row in preference_rows(data, labels, odds, "all")
    ]
    # the means of the log-odds of True: 2, -3 and 0.25
    assert found == [
        ("Red.", "Blue.", 1.75, 0.5),
        ("Red.", "Soup.", 5.0, 1.0),
        ("Blue.", "Soup.", 3.25, 0.5),
    ]
    without = [row["margin"] for row in preference_rows(data, labels)]
    assert without == [0.5, 1.0, 0.5]


def test_which_grades_were_found_of_each(tmp_path):
    data = loaded(tmp_path, [ROWS[0] | {"labels": [3, 1, 3]}])
    labels = {e.id: e.key == "2" for e in data.examples}  # all 2
    labels["p:2:3"] = True  # but the last
    labeling = Labeling(labels, dict.fromkeys(labels, 1.0), Cost())
    found = labeling_metrics(labeling, METHODS["zero_shot"](), data, TASK)
    assert found["confusion"] == {"1": {"2": 1}, "3": {"2": 1, "3": 1}}


@pytest.mark.process
def test_the_recipe_grades_the_miniatures_statements(data, tmp_path):
    config = "recipes/configs/miniature/grades.yaml"
    flags = ("--data", data / "grades.jsonl", "--output_dir", tmp_path / "out", "--limit", "4")
    done = run("recipes/icm.py", "--config", config, *flags, "--shots", 6, "--rounds", 1)
    assert "confusion" in done.stdout
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["examples"] == 4 * 4 * 3 and metrics["inconsistencies"] == 0
    assert sum(n for row in metrics["confusion"].values() for n in row.values()) == 16
    preferences = rows(tmp_path / "out" / "preferences.jsonl")
    assert {round(3 * row["margin"], 6) for row in preferences} <= {0, 1, 2, 3}
    said = run("recipes/icm.py", "--config", config, "--task", "responses", check=False).stderr
    assert "--highest_grade is for --task grades, not responses; drop it" in said
