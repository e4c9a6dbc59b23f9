import math

import pytest

from icm_rl.engines import LocalEngine, Request
from icm_rl.rewardbench.benchmark import BenchmarkRow
from icm_rl.rewardbench.judge import PairwiseJudge, more_confident, orders_agree
from icm_rl.rewardbench.scoring import RowScore
from icm_rl.tasks import TASKS, configured

TASK = TASKS["preferences"]
PAIR = BenchmarkRow("0", "hep-go", "What is 2 + 3?", ("2 + 3 = 5.",), ("2 + 3 = 4.",))
BEST_OF = BenchmarkRow("1", "Math", PAIR.prompt, PAIR.chosen, ("2 + 3 = 4.", "Six.", "No."))


class Scripted:
    """An engine that gives, in their order, log-odds of True."""

    def __init__(self, *log_odds):
        self.log_odds = log_odds

    def label_log_probs(self, requests):
        assert len(requests) == len(self.log_odds)
        return [(odds, 0.0) for odds in self.log_odds]


@pytest.mark.parametrize(
    ("log_odds", "credit", "confident", "agree"),
    [
        ((2, -1), 1, 1, True),  # both orders name the chosen answer
        ((-2, 1), 0, 0, True),  # both name the rejected one
        ((2, 1), 0.5, 1, False),  # each order names its first answer
        ((1, 2), 0.5, 0, False),
        ((-1, -2), 0.5, 1, False),  # each names its second one
    ],
)
def test_the_verdicts_of_both_orders(log_odds, credit, confident, agree):
    [score] = PairwiseJudge(Scripted(*log_odds), TASK).score([PAIR])
    assert score == RowScore([log_odds[0]], [log_odds[1]], credit)
    assert (more_confident(score), orders_agree(score)) == (confident, agree)


@pytest.mark.parametrize(
    ("log_odds", "credit"),
    [
        ((1, -1, 1, -1, 1, -1), 1),
        ((1, -1, 1, 1, 1, -1), 1 / 2),
        ((1, 1, -1, -1, 1, -1), 1 / 3),
        ((1, -1, -1, 1, 1, 1), 0),
    ],
)
def test_the_chosen_answer_must_beat_each_of_the_rejected(log_odds, credit):
    [score] = PairwiseJudge(Scripted(*log_odds), TASK).score([BEST_OF])
    assert score.credit == credit


def test_it_asks_as_icm_does_without_demonstrations(engine, preferences, model, tokenizer):
    judge = PairwiseJudge(engine, TASK)
    pairs = list(preferences.pairs.items())[:3]
    rows = [
        BenchmarkRow(id, "hep-go", pair.prompt, (pair.responses[0],), (pair.responses[1],))
        for id, pair in pairs
    ]
    by_id = {example.id: Request((), example.text) for example in preferences.examples}
    for (id, _), score in zip(pairs, judge.score(rows), strict=True):
        answers = engine.label_log_probs([by_id[f"{id}:A>B"], by_id[f"{id}:B>A"]])
        expected = [true - false for true, false in answers]
        assert [*score.chosen, *score.rejected] == pytest.approx(expected, abs=1e-4)


def test_a_chat_model_is_asked_as_its_user(model, tokenizer):
    task = configured("preferences", "{query}: {a} or {b}?", {True: "A", False: "B"})
    engine = LocalEngine(model, tokenizer, list(task.verbalizers.values()))
    [score] = PairwiseJudge(engine, task, tokenizer).score([PAIR])
    for found, (a, b) in (
        (score.chosen[0], ("2 + 3 = 5.", "2 + 3 = 4.")),
        (score.rejected[0], ("2 + 3 = 4.", "2 + 3 = 5.")),
    ):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": f"What is 2 + 3?: {a} or {b}?"}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
        )
        logits = model(ids).logits[0, -1]
        odds = [logits[tokenizer.encode(x, add_special_tokens=False)[0]] for x in "AB"]
        assert found == pytest.approx((odds[0] - odds[1]).item(), abs=1e-3)
        assert not math.isclose(found, 0)
