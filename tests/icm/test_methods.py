"""The seam between a data set and a way to label it, and the methods that ask once."""

from collections import Counter
from itertools import chain
from statistics import fmean

import pytest

from icm_rl.engines import LocalEngine, Request
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.finetune import BaseModel
from icm_rl.icm.labeling import prepared
from icm_rl.icm.measuring import baseline_metrics
from icm_rl.icm.methods import METHODS, Cost, Job, Labeling, Need, load_method
from icm_rl.icm.methods.bootstrap import Bootstrap
from icm_rl.icm.methods.folds import Folds
from icm_rl.icm.methods.random_few_shot import RandomFewShot, random_shots
from icm_rl.icm.methods.search import Search, _warn
from icm_rl.icm.methods.zero_shot import ZeroShot
from icm_rl.icm.objective import Scorer, log_odds
from icm_rl.icm.prompting import many_shot
from icm_rl.settings import identity, inputs
from icm_rl.tasks import TASKS, Dataset, Example

TASK = TASKS["preferences"]


@pytest.fixture
def job(preferences, engine, tmp_path) -> Job:
    return Job(preferences.examples[:40], TASK, engine, 3, tmp_path)


def by_hand(job: Job, example: Example, shots) -> tuple[float, ...]:
    """The answer to one example by itself, on an engine of its own."""
    engine = LocalEngine(job.engine.model, job.engine.tokenizer, list(TASK.verbalizers.values()))
    shown = chain.from_iterable(TASK.demonstration(other, label) for other, label in shots)
    [answer] = engine.label_log_probs([Request(tuple(shown), example.text)])
    return answer


@pytest.mark.parametrize("consistency", [True, False])
def test_zero_shot_labels_each_by_itself(job, consistency):
    found = ZeroShot(objective="mean_log_odds", consistency=consistency).label(job)
    answers = {e.id: by_hand(job, e, []) for e in job.examples}
    index = {label: k for k, label in enumerate(TASK.verbalizers)}
    for id, answer in answers.items():
        expected = log_odds(answer, index[found.labels[id]])
        assert found.log_odds[id] == pytest.approx(expected, abs=1e-3)
    if consistency:  # of the two orders of a pair the more confident decides
        for a, b in zip(job.examples[::2], job.examples[1::2], strict=True):
            sure = max((a, b), key=lambda e: abs(answers[e.id][0] - answers[e.id][1]))
            assert found.labels[sure.id] == TASK.most_likely(answers[sure.id])
            assert found.labels[a.id] != found.labels[b.id]
    else:
        assert found.labels == {id: TASK.most_likely(answer) for id, answer in answers.items()}
    assert found.cost.computed_tokens > 0 and found.cost.trained_tokens == 0
    assert not found.history


def test_what_was_answered_is_not_asked_again(job, monkeypatch):
    monkeypatch.setattr("icm_rl.icm.methods.answers._FEWEST", 16)
    first = ZeroShot().label(job)
    saved = sorted((job.folder / "answers").glob("*.json"))
    assert len(saved) == 3
    saved[1].unlink()
    before = job.engine.prompt_tokens
    again = ZeroShot().label(job)
    asked = job.engine.prompt_tokens - before
    one = sum(job.engine.count_tokens(e.text) + 1 for e in job.examples[16:32])
    assert asked == one
    assert again.labels == first.labels and again.log_odds == first.log_odds


def test_random_shots_are_of_other_groups_and_balanced(job):
    drawn = []
    for example in job.examples[:8]:
        shots = random_shots(job, example, 2, 9, 0)
        others = [other for other, _ in shots]
        assert len({e.id for e in others}) == 9
        assert all(e.group != example.group for e in others)
        assert sorted(Counter(label for _, label in shots).values()) == [4, 5]
        drawn.append([(e.id, label) for e, label in shots])
        assert shots == random_shots(job, example, 2, 9, 0)
        assert shots != random_shots(job, example, 2, 9, 1)
    assert len({tuple(one) for one in drawn}) == 8


def test_random_few_shot_is_the_mean_over_its_contexts(job):
    settings = {"objective": "mean_log_odds", "consistency": False}
    found = RandomFewShot(shots=5, draws=2, **settings).label(job)
    index = {label: k for k, label in enumerate(TASK.verbalizers)}
    for example in job.examples[:6]:
        answers = [by_hand(job, example, random_shots(job, example, 2, 5, k)) for k in range(2)]
        mean = [fmean(values) for values in zip(*answers, strict=True)]
        label = found.labels[example.id]
        assert label == TASK.most_likely(mean)
        assert found.log_odds[example.id] == pytest.approx(log_odds(mean, index[label]), abs=1e-3)


def test_by_default_as_many_shots_as_fit_at_most_32(preferences, engine, tmp_path):
    few = Job(preferences.examples[:10], TASK, engine, 0, tmp_path)
    assert RandomFewShot()._count(few) == 8  # all of other groups
    many = Job(preferences.examples[:200], TASK, engine, 0, tmp_path)
    assert RandomFewShot()._count(many) == 32
    short = LocalEngine(engine.model, engine.tokenizer, list(TASK.verbalizers.values()))
    short.context_length = 400
    tokens = [
        max(
            sum(map(engine.count_tokens, TASK.demonstration(e, label)))
            for label in TASK.verbalizers
        )
        for e in preferences.examples[:200]
    ]
    fit = max(k for k in range(1, 200) if sum(sorted(tokens)[-k:]) <= 399)
    tight = Job(preferences.examples[:200], TASK, short, 0, tmp_path)
    assert RandomFewShot()._count(tight) == fit - 1


def test_gold_labels_reach_a_method_only_where_it_says_so(preferences, engine, tmp_path):
    config = IcmConfig(output_dir=str(tmp_path))
    data = Dataset(preferences.examples[:16], preferences.gold)
    assert prepared(data, engine, config, Search()).gold == {}
    golden = Search(initial_labels="golden")
    assert golden.needs == {Need.CONTEXTS, Need.GOLD}
    assert prepared(data, engine, config, golden).gold == preferences.gold


def test_methods_say_what_they_need():
    needs = {name: method().needs for name, method in METHODS.items()}
    assert needs["search"] == needs["random_few_shot"] == {Need.CONTEXTS}
    assert needs["folds"] == needs["self_training"] == {Need.TRAINING}
    assert needs["ccs"] == needs["pca"] == needs["random_probe"] == {Need.HIDDEN_STATES}
    assert needs["golden"] == needs["perturbed"] == {Need.GOLD} and needs["human"] == {Need.HUMAN}
    assert not needs["zero_shot"] | needs["judge"] | needs["ensemble"]
    assert METHODS["easy_to_hard"](learn_by="fine_tuning").needs == {Need.TRAINING}
    assert Folds(initial_labels="bootstrap").needs == {Need.CONTEXTS, Need.TRAINING}
    assert Search(initial_labels="bootstrap").needs == {Need.CONTEXTS}
    assert Search(iterative=True).needs == {Need.CONTEXTS, Need.TRAINING}


@pytest.mark.parametrize("name", ["zero_shot", "random_few_shot"])
def test_folds_learn_the_labels_of_the_method_that_they_begin_with(job, tmp_path, name):
    own = Job(job.examples[:16], TASK, job.engine, 3, tmp_path / "own")
    begun = METHODS[name](**({} if name == "zero_shot" else {"shots": 8})).label(own)
    method = Folds(folds=2, rounds=1, num_train_epochs=8, learning_rate=1e-3, initial_labels=name)
    base = BaseModel("miniature", "float32")
    found = method.label(Job(own.examples, TASK, job.engine, 3, tmp_path / "folds", base))
    first, last = found.history
    assert first["changes"] == begun.labels
    assert first["mutual_predictability"] == pytest.approx(fmean(begun.log_odds.values()))
    assert last["changes"] == {
        id: label for id, label in found.labels.items() if begun.labels[id] != label
    }
    # half of the data is learned for each fold, and each example read once more than at first
    tokens = sum(job.engine.count_tokens(e.text) for e in own.examples)
    assert found.cost.trained_tokens == 8 * tokens
    assert found.cost.prompt_tokens == begun.cost.prompt_tokens + tokens + 16


def test_many_shot_prompting_shows_all_other_groups_with_their_labels(job, preferences):
    examples = job.examples[:12]
    labels = {e.id: preferences.gold[e.id] for e in examples}
    asked, answer = [], job.engine.label_log_probs
    job.engine.label_log_probs = lambda requests: asked.extend(requests) or answer(requests)
    try:
        found = many_shot(examples, labels, TASK, job.engine)
    finally:
        del job.engine.label_log_probs
    fresh = LocalEngine(job.engine.model, job.engine.tokenizer, list(TASK.verbalizers.values()))
    by_text = {request.query: request for request in asked}
    for example in examples:
        request = by_text[example.text]
        others = [e for e in examples if e.group != example.group]
        shown = ["".join(TASK.demonstration(e, labels[e.id])) for e in others]
        context = "".join(request.context)
        assert len(context) == sum(map(len, shown)) and all(one in context for one in shown)
        [(true, false)] = fresh.label_log_probs([request])
        assert found[example.id] == (true > false)


def test_folds_do_not_care_for_the_context(preferences, engine, tmp_path):
    short = LocalEngine(engine.model, engine.tokenizer, list(TASK.verbalizers.values()))
    short.context_length = 20
    job = Job(preferences.examples[:16], TASK, short, 0, tmp_path)
    load_method("folds")().check(job)
    load_method("zero_shot")().check(job)
    with pytest.raises(Exception, match="the context holds 19"):
        Search().check(job)


def test_what_decides_a_result_is_said_at_the_field():
    config, changed = IcmConfig(), IcmConfig()
    changed.cache_tokens, changed.processes, changed.trust_remote_code = 7, 9, True
    changed.output_dir, changed.concurrency, changed.device_map = "elsewhere", 1, "auto"
    assert identity(config, Search()) == identity(changed, Search())
    assert identity(config, Search()) != identity(config, Search(alpha=30))
    assert {"data", "model"} & identity(config).keys() == set()
    assert set(inputs(IcmConfig(data="pairs.jsonl"))) == {"data", "model"}


def searched(labels: str, labeled: int) -> dict:
    """What a search of one pool says: T and F for its labels, and how many of them it found."""
    return {"labels": dict(enumerate(labels)), "history": [{"labeled": 2}, {"labeled": labeled}]}


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        ([searched("TTTT", 4), searched("TFTF", 4)], "1 of 2 pools ended with one label for all"),
        (
            [searched("TFTFTF", 2), searched("TFTF", 4)],
            "in 1 of 2 pools most examples were labeled only after the search",
        ),
    ],
)
def test_labels_that_call_for_a_look_are_told(capsys, finished, said):
    _warn(finished, 50.0)
    assert capsys.readouterr().err.startswith(f"warning: {said}")


def test_labels_that_the_search_found_are_not_told(capsys):
    _warn([searched("TFTF", 2), searched("TTTF", 4)], 50.0)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("first", [ZeroShot, RandomFewShot, Bootstrap])
@pytest.mark.parametrize("sweeps", [0, 1])
def test_a_search_may_begin_with_a_methods_labels(job, first, sweeps):
    job.examples = job.examples[:12]
    settings = {"pool_size": 6, "sweeps": sweeps, "initial_examples": 2}
    settings["iterations_per_example"] = 0.2
    method = Search(initial_labels=first.name, **settings)
    method.check(job)
    found = method.label(job)
    shots = {} if first is ZeroShot else {"shots": 8}
    alone = first(**shots).label(Job(job.examples, TASK, job.engine, 3, job.folder / "alone"))
    begun: dict = {}
    for record in found.history:
        if record["iteration"] == 0:
            assert record["labeled"] == 6
            begun |= record["changes"]
    assert begun == alone.labels
    plain = Search(**settings).label(Job(job.examples, TASK, job.engine, 3, job.folder / "plain"))
    searched = found.cost.prompt_tokens - alone.cost.prompt_tokens
    assert searched > 0 and found.figures["labeled_in_search"] == 1
    assert plain.history[0]["labeled"] == (6 if sweeps else 2)


def test_gold_labels_are_scored_beside_those_found(job, preferences):
    method, ids = Search(objective="centered", alpha=30), [e.id for e in job.examples]
    gold = {id: preferences.gold[id] for id in ids}
    found = Labeling(gold, {}, Cost(), pools=[job.examples[:24], job.examples[24:]])
    data = Dataset(list(job.examples), gold)
    measured = baseline_metrics(found, method, data, job)["gold_utility"]
    utilities = []
    for pool in found.pools:
        of = Scorer(pool, TASK, job.engine, 30, "centered")
        labels = {e.id: gold[e.id] for e in pool}
        utilities.append(of.score(labels, of.arranged(labels)).utility)
    assert measured == pytest.approx(sum(utilities) / 2, abs=1e-2)
    del data.gold[ids[-1]]
    assert "gold_utility" not in baseline_metrics(found, method, data, job)
