"""A plan's tokens are those of the run, its sizes those of the model."""

import json
import re

import pytest
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM, MambaConfig

from icm_rl.engines import LocalEngine
from icm_rl.errors import InputError
from icm_rl.icm.finetune import BaseModel
from icm_rl.icm.methods import Cost, Job
from icm_rl.icm.methods.folds import Folds
from icm_rl.icm.methods.judge import Judge
from icm_rl.icm.methods.random_few_shot import RandomFewShot
from icm_rl.icm.methods.search import Search
from icm_rl.icm.methods.zero_shot import ZeroShot
from icm_rl.icm.planning import CountingEngine, Size, planned, tokens_a_second
from icm_rl.tasks import TASKS
from tests.conftest import run

TASK = TASKS["preferences"]
WORDS = list(TASK.verbalizers.values())


@pytest.fixture
def counting(engine):
    return CountingEngine(engine.model.config, engine.tokenizer, WORDS, 200_000)


@pytest.mark.parametrize(
    "method",
    [
        ZeroShot(),
        RandomFewShot(shots=6),
        Folds(folds=2, rounds=1, num_train_epochs=1, learning_rate=1e-4),
        Folds(folds=2, rounds=1, num_train_epochs=1, initial_labels="random_few_shot"),
    ],
)
def test_what_does_not_depend_on_answers_is_planned_to_the_token(
    method, preferences, engine, counting, tmp_path
):
    examples = preferences.examples[:24]
    plan = planned(examples, TASK, method, counting, 3)
    own = LocalEngine(engine.model, engine.tokenizer, WORDS, 200_000)
    base = BaseModel("miniature", "float32")
    cost = method.label(Job(examples, TASK, own, 3, tmp_path, base)).cost
    assert plan.exact and plan.parts == 1
    for name in ("prompt_tokens", "computed_tokens", "trained_tokens"):
        assert getattr(plan.cost, name) == getattr(cost, name)
    assert sum(map(len, plan.asked)) >= len(examples)
    longest = max(counting.count_tokens(e.text) for e in examples)
    assert longest / 2 < plan.mean_prompt < len(examples) * longest


def test_a_search_is_planned_by_one_of_its_pools(preferences, engine, counting, tmp_path):
    examples, method = preferences.examples[:48], Search(pool_size=16, iterations_per_example=1)
    plan = planned(examples, TASK, method, counting, 0)
    assert not plan.exact and plan.parts == pytest.approx(3, rel=0.2)
    own = LocalEngine(engine.model, engine.tokenizer, WORDS, 200_000)
    cost = method.label(Job(examples, TASK, own, 0, tmp_path)).cost
    assert plan.cost.computed_tokens == pytest.approx(cost.computed_tokens, rel=0.4)
    assert tokens_a_second(own, plan, 1.0) > 0


def test_what_is_learned_between_pools_counts_all_pools_before(preferences, counting):
    examples = preferences.examples[:64]
    method = Search(pool_size=16, iterations_per_example=0.1, iterative=True, num_train_epochs=2)
    plan = planned(examples, TASK, method, counting, 0)
    assert round(plan.parts) == 4
    # one, two and three quarters of the data, twice each
    assert plan.cost.trained_tokens == pytest.approx(2 * 1.5 * plan.tokens, rel=0.01)


def test_a_judge_cannot_be_planned(preferences, counting):
    with pytest.raises(InputError, match="--method judge cannot be planned"):
        planned(preferences.examples[:4], TASK, Judge(), counting, 0)


@pytest.mark.parametrize("tied", [True, False])
def test_a_size_is_that_of_the_weights(tied):
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    size, model = Size.of(config), LlamaForCausalLM(config)
    assert size.parameters == model.num_parameters()
    assert size.computing == model.num_parameters() - 40 * 16 * (1 if tied else 2)
    assert size.kept == 3 * 2 * 2 * 4 and size.width == 16
    # two a parameter and token, and four for each of 3 layers, 16 numbers and 10 tokens before
    read = size.operations(Cost(computed_tokens=5), mean_prompt=20)
    assert read == 5 * (2 * size.computing + 4 * 3 * 16 * 10)
    assert size.operations(Cost(trained_tokens=5), mean_prompt=20) == 3 * read


@pytest.mark.parametrize("config", [GPT2Config(n_layer=2), MambaConfig(num_hidden_layers=2)])
def test_architectures_name_their_sizes_differently(config):
    size = Size.of(config)
    assert size.parameters > size.computing > 0 and size.layers == 2
    has_attention = isinstance(config, GPT2Config)
    assert size.kept == (2 * 2 * 768 if has_attention else 0)


@pytest.mark.process
def test_the_recipe_says_what_a_labeling_takes(data, tmp_path):
    config = ("--method", "zero_shot", "--data", data / "preferences_train.jsonl", "--limit", 20)
    said = run(
        *("recipes/plan.py", *config, "--gpus", 2, "--gpu_teraflops", 100, "--price", 3),
    ).stdout
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", said, re.M))
    run("recipes/icm.py", *config, "--output_dir", tmp_path / "out", "--baselines", "false")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert rows["of these computed"] == f"{metrics['computed_tokens']:,}"
    assert rows["weights"] == "0.01 GiB" and float(rows["GPU hours"]) > 0
    measured = run("recipes/plan.py", *config, "--calibrate", 1).stdout
    assert "computed a second, measured" in measured and "hours of one process" in measured
