import json
import re

import pytest

from icm_rl.errors import InputError
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.objective import inconsistent_pairs
from icm_rl.icm.writing import preference_rows
from icm_rl.tasks import configured, group_members

ROWS = [
    {"id": "p", "prompt": "Name a color.", "responses": ["Red.", "Soup.", "Blue."]},
    {"id": "q", "prompt": "Name a tree.", "responses": ["Oak.", "Oak.", "Rain.", " "]},
]


def loaded(tmp_path, rows, **settings):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return configured("responses", **settings).load(file)


def test_each_response_is_an_example_of_its_prompts_group(tmp_path):
    data = loaded(tmp_path, ROWS, template="{query} {response} Good:")
    assert [(e.id, e.group, e.text) for e in data.examples] == [
        ("p:0", "p", "Name a color. Red. Good:"),
        ("p:1", "p", "Name a color. Soup. Good:"),
        ("p:2", "p", "Name a color. Blue. Good:"),
        ("q:0", "q", "Name a tree. Oak. Good:"),
        ("q:2", "q", "Name a tree. Rain. Good:"),
    ]


def test_labels_are_one_a_response(tmp_path):
    rows = [ROWS[0] | {"labels": [True, 0, "true"], "human_labels": [False, False, True]}]
    data = loaded(tmp_path, rows)
    assert data.gold == {"p:0": True, "p:1": False, "p:2": True}
    assert data.human == {"p:0": False, "p:1": False, "p:2": True}


def test_a_label_may_be_unknown_and_prefers_nothing_then(tmp_path):
    rows = [ROWS[0] | {"labels": [True, None, False]}, ROWS[1] | {"labels": [None] * 4}]
    data = loaded(tmp_path, rows)
    assert data.gold == {"p:0": True, "p:2": False}
    assert preferred(preference_rows(data, data.gold)) == [("Red.", "Blue.", None)]
    assert preferred(preference_rows(data, data.gold, pairing="best")) == [("Red.", "Blue.", None)]


def preferred(rows):
    return [
        (row["chosen"][0]["content"], row["rejected"][0]["content"], row.get("log_odds"))
        for row in rows
    ]


def test_preferences_are_made_from_the_log_odds(tmp_path):
    data = loaded(tmp_path, ROWS[:1])
    labels = {"p:0": True, "p:1": False, "p:2": True}
    odds = {"p:0": 0.5, "p:1": 2.0, "p:2": 0.75}
    best = preference_rows(data, labels, odds, "best")
    assert preferred(best) == [("Blue.", "Red.", 0.25), ("Blue.", "Soup.", 2.75)]
    assert best[0]["prompt"] == [{"role": "user", "content": "Name a color."}]
    every = preference_rows(data, labels, odds, "all")
    assert preferred(every) == [*preferred(best), ("Red.", "Soup.", 2.5)]
    sure = preference_rows(data, labels, odds, "all", min_log_odds=2.6)
    assert preferred(sure) == [("Blue.", "Soup.", 2.75)]
    by_labels = preferred(preference_rows(data, labels))
    assert by_labels == [("Red.", "Soup.", None), ("Blue.", "Soup.", None)]


@pytest.mark.parametrize(
    ("relation", "labels", "contradictions"),
    [
        ("exactly_one", (True, False, False), 0),
        ("exactly_one", (True, True, False), 1),
        ("exactly_one", (False, False, False), 3),
        ("exactly_one", (False, False), 0),  # the third may yet be True
        ("at_most_one", (True, True, True), 3),
        ("at_most_one", (False, False, False), 0),
        ("none", (True, True, True), 0),
    ],
)
def test_relations_of_a_prompts_responses(tmp_path, relation, labels, contradictions):
    data = loaded(tmp_path, ROWS[:1])
    task = configured("responses", relation=relation)
    known = {e.id: label for e, label in zip(data.examples, labels, strict=False)}
    found = inconsistent_pairs(group_members(data.examples), task, known)
    assert len(list(found)) == contradictions


def test_of_exactly_one_the_likeliest_is_true_where_none_would_be(tmp_path):
    data = loaded(tmp_path, ROWS[:1])
    odds = {"p:0": (-3.0, 3.0), "p:1": (-1.0, 1.0), "p:2": (-2.0, 2.0)}
    found = consistency_fix_maxprob(
        data.examples, configured("responses", relation="exactly_one"), odds
    )
    assert found == {"p:0": False, "p:1": True, "p:2": False}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"responses": ["Red."]}, "the field 'responses' has one response, which is better than"),
        ({"responses": "Red."}, "the field 'responses' must be a list of texts"),
        ({"labels": [True]}, "the field 'labels' must be a list of 3 labels"),
        ({"labels": [True, "maybe", False]}, "the field 'labels' is 'maybe', outside the label"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, message):
    with pytest.raises(InputError, match=f"rows.jsonl, line 2: {re.escape(message)}"):
        loaded(tmp_path, [ROWS[0], ROWS[0] | {"id": "r"} | row])


def test_prompts_whose_responses_are_all_the_same_are_left_out(tmp_path):
    same = {"prompt": "?", "responses": ["Yes.", "Yes.", ""]}
    data = loaded(tmp_path, [same, ROWS[0]])
    assert data.left_out == {"0": "whose responses are empty or all the same"}
    with pytest.raises(InputError, match=r"task 'responses' \(they are prompts whose"):
        loaded(tmp_path, [same])


def test_a_template_names_query_and_response(tmp_path):
    with pytest.raises(InputError, match=r"names \{a\}; for the task 'responses' it can name"):
        loaded(tmp_path, ROWS, template="{query} {a}")


def test_a_pair_of_doubtful_labels_is_kept_unless_a_bound_says_otherwise(preferences):
    labels = {e.id: e.key == "A>B" for e in preferences.examples[:4]}
    odds = {
        e.id: -0.5 if e.group == preferences.examples[0].group else 1.0
        for e in preferences.examples
    }
    rows = preference_rows(preferences, labels, odds)
    assert [row["log_odds"] for row in rows] == [-0.5, 1.0]
    assert len(preference_rows(preferences, labels, odds, min_log_odds=0.0)) == 1
