import json

import pytest
from datasets import Dataset

from icm_rl.errors import InputError
from icm_rl.tasks import TASKS, configured
from tests.conftest import SHARED


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_pair_becomes_both_orders(tmp_path):
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "label": 1, "human_label": False}
    data = TASKS["preferences"].load(write(tmp_path / "pairs.jsonl", row))
    first, second = data.examples
    assert "Response A: x\nResponse B: y\n" in first.text
    assert "Response A: y\nResponse B: x\n" in second.text
    assert first.text.endswith("I think this claim is")
    assert data.gold == {first.id: True, second.id: False}
    assert data.human == {first.id: False, second.id: True}


@pytest.mark.skipif(not SHARED.exists(), reason="the paper's files are not beside the project")
@pytest.mark.parametrize(
    ("task", "file", "rows", "groups"),
    [
        ("truthfulqa", "icm_truthfulqa_train.json", 2608, 652),
        ("truthfulqa", "icm_truthfulqa_test.json", 1000, None),
        ("gsm8k", "icm_gsm8k_test.json", 2972, 743),
        ("alpaca", "icm_alpaca_test.json", 934, 467),
    ],
)
def test_the_papers_files_load(task, file, rows, groups):
    data = TASKS[task].load(SHARED / file)
    assert len(data.examples) == len(data.gold) == rows
    if groups:
        assert len({example.group for example in data.examples}) == groups


def test_limit_keeps_whole_groups(data):
    few = TASKS["truthfulqa"].load(data / "facts_train.jsonl", limit=3)
    assert len(few.examples) == len(few.gold) == 12


def test_the_two_orders_of_a_pair_must_be_of_one_pair(tmp_path):
    row = {"question": "q", "choice": "x", "choice_2": "y", "consistency_id": 0}
    path = write(tmp_path / "rows.jsonl", row, {**row, "choice_2": "z"})
    with pytest.raises(InputError, match=r"line 2: group '0' has another prompt"):
        TASKS["alpaca"].load(path)


def test_csv_parquet_and_a_hub_directory_hold_what_jsonl_does(data, tmp_path):
    rows = [json.loads(line) for line in (data / "facts_train.jsonl").read_text().splitlines()]
    table = Dataset.from_list(rows)
    table.to_csv(tmp_path / "facts.csv")
    table.to_parquet(tmp_path / "facts.parquet")
    (tmp_path / "hub").mkdir()
    table.to_parquet(tmp_path / "hub" / "train.parquet")
    whole = TASKS["truthfulqa"].load(data / "facts_train.jsonl")
    for name in ("facts.csv", "facts.parquet", "hub"):
        assert TASKS["truthfulqa"].load(tmp_path / name) == whole, name


def test_truthfulqa_as_the_hub_has_it(tmp_path):
    targets = {"choices": ["right", "wrong", "worse"], "labels": [1, 0, 0]}
    rows = [{"question": f"q{k}?", "mc1_targets": targets, "mc2_targets": {}} for k in range(20)]
    data = TASKS["truthfulqa"].load(write(tmp_path / "rows.jsonl", *rows))
    assert len({example.group for example in data.examples}) == 20
    assert all(data.gold[e.id] == (e.key == "right") for e in data.examples)
    assert all(f"Claim: {e.key}\n" in e.text for e in data.examples)
    places = {[e.key for e in data.examples[k : k + 3]].index("right") for k in range(0, 60, 3)}
    assert places == {0, 1, 2}


SHEPHERD = (
    "A hen lays 2 eggs a day, another 3. How many in a week? Step 1: They lay 2+3 = "
    "<<2+3=5>>5 eggs a day. {one}\nStep 2: That is 5*7 = {answer} a week. The answer is: "
    "{answer} {two}"
)


def test_gsm8k_as_math_shepherd_has_it(tmp_path):
    def row(two, answer, task="GSM8K"):
        text = SHEPHERD.format(one="ки", two="ки", answer=answer)
        label = SHEPHERD.format(one="+", two=two, answer=answer)
        return {"input": text, "label": label, "task": task}

    rows = row("+", 35), row("-", 36), row("-", 35, "MATH"), row("+", 35)
    data = TASKS["gsm8k"].load(write(tmp_path / "rows.jsonl", *rows))
    assert [data.gold[e.id] for e in data.examples] == [True, False, True]
    assert [e.key for e in data.examples] == ["35", "36", "35"]
    assert {e.group for e in data.examples} == {"0"}
    assert data.examples[0].text == (
        "Question: A hen lays 2 eggs a day, another 3. How many in a week?\nClaim: Step 1: They "
        "lay 2+3 = <<2+3=5>>5 eggs a day.\nStep 2: That is 5*7 = 35 a week. The answer is: 35\n"
        "I think this claim is"
    )


def test_alpaca_as_the_hub_has_it(tmp_path):
    row = {"instruction": "Add.", "input": "1 and 2", "output_1": "3", "output_2": "4"}
    rows = {**row, "preference": 1}, {**row, "input": "", "preference": 2}
    data = TASKS["alpaca"].load(write(tmp_path / "rows.jsonl", *rows))
    assert [data.gold[e.id] for e in data.examples] == [True, False, False, True]
    assert [e.key for e in data.examples] == ["A>B", "B>A"] * 2
    assert data.examples[1].text.startswith(
        "Query: Add.\n\n1 and 2\nResponse A: 4\nResponse B: 3\n"
    )
    assert data.examples[2].text.startswith("Query: Add.\nResponse A: 3\n")


DIALOGUE = "\n\nHuman: How do I nap?\n\nAssistant: Lie down.\n\nHuman: And then?\n\nAssistant:"


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": f"{DIALOGUE} Close your eyes.", "rejected": f"{DIALOGUE} Close the door."},
        {
            "prompt": [
                {"role": "user", "content": "How do I nap?"},
                {"role": "assistant", "content": "Lie down."},
                {"role": "user", "content": "And then?"},
            ],
            "chosen": [{"role": "assistant", "content": "Close your eyes."}],
            "rejected": [{"role": "assistant", "content": "Close the door."}],
        },
    ],
)
def test_chosen_and_rejected_become_pairs(tmp_path, row):
    data = TASKS["hhh"].load(write(tmp_path / "rows.jsonl", row))
    pair = data.pairs["0"]
    assert [message["role"] for message in pair.prompt] == ["user", "assistant", "user"]
    right = next(e for e in data.examples if data.gold[e.id])
    assert right.text == (
        "Query: Human: How do I nap?\n\nAssistant: Lie down.\n\nHuman: And then?\n"
        "Output A: Close your eyes.\nOutput B: Close the door.\n"
        "Claim: Output A is more helpful, harmless, and honest than Output B\n"
        "I think this claim is"
    )


def test_chosen_stands_first_half_the_time(tmp_path):
    rows = [{"prompt": f"q{k}", "chosen": "good", "rejected": "bad"} for k in range(200)]
    data = TASKS["preferences"].load(write(tmp_path / "rows.jsonl", *rows))
    first = sum(data.gold[f"{k}:A>B"] for k in range(200))
    assert 80 < first < 120


def test_chosen_and_rejected_need_one_prompt(tmp_path):
    row = {"chosen": "good", "rejected": "bad"}
    with pytest.raises(InputError, match="line 1: 'chosen' and 'rejected' do not answer one"):
        TASKS["hhh"].load(write(tmp_path / "rows.jsonl", row))


def test_author_gender_pairs_a_man_with_a_woman(tmp_path):
    def post(k, gender):
        return {"text": f"post {k} of one {gender}. " * 20, "gender": gender, "age": 20}

    genders = ["male", "male", "female", "male", "female", "female", "male"]
    rows = [post(k, gender) for k, gender in enumerate(genders)]
    rows.insert(2, {"text": "too short", "gender": "female"})
    data = TASKS["author_gender"].load(write(tmp_path / "rows.jsonl", *rows))
    assert len(data.pairs) == 3
    for group, pair in data.pairs.items():
        assert sum(" one male" in response for response in pair.responses) == 1
        assert data.gold[f"{group}:A>B"] == (" one male" in pair.responses[0])
    assert len(TASKS["author_gender"].load(tmp_path / "rows.jsonl", limit=2).pairs) == 2


def test_poems_are_liked_for_the_sun(tmp_path):
    poems = ["The sun has gone to bed. ", "A sunset is no word for it. "] * 3
    rows = [{"content": f"{k} {poem * 12}"} for k, poem in enumerate(poems)]
    data = TASKS["poems"].load(write(tmp_path / "rows.jsonl", *rows))
    assert len(data.pairs) == 3
    for group, pair in data.pairs.items():
        assert data.gold[f"{group}:A>B"] == ("The sun" in pair.responses[0])
        assert "sun" not in data.examples[0].text.split("Claim:")[1]


def test_claims_of_the_users_own(tmp_path):
    (tmp_path / "claims.csv").write_text(
        "river,over,kind,label\nNile,6000,river,true\nNile,7000,river,false\nOka,1000,river,\n"
    )
    task = configured(
        "claims",
        "The {kind} {river} is longer than {over} km.\nTrue or false?",
        {"True": " true", "False": " false"},
        "implication",
        "river",
        "over",
    )
    data = task.load(tmp_path / "claims.csv")
    nile, longer, oka = data.examples
    assert longer.text == "The river Nile is longer than 7000 km.\nTrue or false?"
    assert (nile.group, longer.key, oka.group) == ("Nile", "7000", "Oka")
    assert data.gold == {nile.id: True, longer.id: False}
    assert "".join(task.demonstration(nile, False)).endswith("True or false? false\n\n")
    assert not task.consistent(nile, False, longer, True)


def test_labels_of_the_users_own(tmp_path):
    labels = '{"north": " north", "south": " south", "east": " east"}'
    task = configured("claims", "{town} lies", labels)
    rows = {"town": "Ur", "label": "South"}, {"town": "Troy", "label": "north"}
    data = task.load(write(tmp_path / "rows.jsonl", *rows))
    assert list(data.gold.values()) == ["south", "north"]
    assert task.most_likely((-3.0, -1.0, -2.0)) == "south"
    with pytest.raises(InputError, match=r"'label' is 'west', outside .* \(north, south, east\)"):
        task.load(write(tmp_path / "rows.jsonl", {"town": "Ur", "label": "west"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "{question"}, "--template cannot be read"),
        ({"template": "Is it so?"}, "--template needs {placeholders}"),
        ({"verbalizers": "yes"}, "--verbalizers is not JSON"),
        ({"verbalizers": {"yes": " Yes"}}, "--verbalizers must map two labels or more"),
        (
            {"verbalizers": {"yes": " Yes", "no": 0}},
            "--verbalizers: 'no' must stand for text, not 0",
        ),
        ({"verbalizers": {"yes": " Yes", "no": " No"}}, "need the labels True and False"),
        ({"relation": "nun"}, "--relation 'nun' is not known"),
        ({"group_column": "g"}, "--group_column is for tasks of claims"),
    ],
)
def test_settings_that_do_not_go(settings, message):
    with pytest.raises(InputError, match=message):
        configured("preferences", **settings)


def test_a_template_for_pairs_names_what_pairs_have(tmp_path):
    path = write(tmp_path / "p.jsonl", {"prompt": "p", "response_a": "x", "response_b": "y"})
    with pytest.raises(
        InputError, match=r"--template names \{answer\}; for the task 'preferences' it can name"
    ):
        configured("preferences", "{query} {answer}").load(path)
    [first, _] = configured("preferences", "{query}: {b} or {a}?").load(path).examples
    assert first.text == "p: y or x?"


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path):
    for name, text in (
        ("rows.jsonl", '{"question": "q", "choice": "a", "consistency_id": 0}\n'),
        ("rows.json", '[{"question": "q", "choice": "a", "consistency_id": 0}]'),
        ("rows.csv", "question,choice,consistency_id\nq,a,0\n"),
    ):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        [example] = TASKS["truthfulqa"].load(tmp_path / name).examples
        assert example.text == "Question: q\nClaim: a\nI think this claim is"


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("question,choice,question,consistency_id\nq,a,r,0\n")
    with pytest.raises(InputError, match=r"rows.csv: two columns are named 'question'"):
        TASKS["truthfulqa"].load(tmp_path / "rows.csv")


def test_bad_csv_is_told_by_its_row(tmp_path):
    (tmp_path / "rows.csv").write_text("question,choice,consistency_id\nq,a,0\nq,b\n")
    with pytest.raises(InputError, match=r"rows.csv, row 2: not as many fields"):
        TASKS["truthfulqa"].load(tmp_path / "rows.csv")
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"rows.parquet: cannot be read"):
        TASKS["truthfulqa"].load(tmp_path / "rows.parquet")
