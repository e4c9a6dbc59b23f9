"""Each kind of bad input ends a recipe with exit code 2 and one clear line."""

import json

import pytest

from icm_rl.errors import InputError
from icm_rl.files import open_stage, write_json
from tests.conftest import ROOT, run

pytestmark = pytest.mark.process

PAIR = {"prompt": "p", "response_a": "x", "response_b": "y"}
QA = {"question": "q", "choice": "a", "consistency_id": 0, "label": True}


def lines(*rows) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


LONG = {**PAIR, "response_a": "the lake is red " * 800}
COLORS = '{"a": " red", "b": " blue", "c": " green"}'
CASES = {
    "missing file": (None, [], "no such file"),
    "not JSON": (lines(PAIR, "{nope"), [], "line 2: not JSON"),
    "not an object": (lines(PAIR, "[1]x"), [], "line 2: not JSON"),
    "missing field": (
        lines(PAIR, {"prompt": "p"}),
        [],
        "line 2: the field 'response_a' is missing",
    ),
    "empty": ("", [], "the data set is empty"),
    "strange label": (
        lines({**PAIR, "label": "maybe"}),
        [],
        "line 1: the field 'label' is 'maybe'",
    ),
    "one label only": (
        lines(*({**QA, "choice": c} for c in "ab")),
        ["--task", "truthfulqa"],
        "every gold label is True",
    ),
    "duplicate id": (
        lines({**PAIR, "id": "z"}, {**PAIR, "id": "z"}),
        [],
        "line 2: the id 'z:A>B' is there twice",
    ),
    "contradicting gold": (
        lines(QA, {**QA, "label": False}),
        ["--task", "truthfulqa"],
        "the gold labels of '0' and '1' in group '0' contradict each other",
    ),
    "too long": (lines(LONG), [], "shorten it, remove it or use a model with a longer context"),
    "pool too large": (
        lines(*(PAIR for _ in range(200))),
        ["--pool_size", "300"],
        "fit: set --pool_size",
    ),
    "unknown flag": (lines(PAIR), ["--pool-sise", "4"], "did you mean 'pool_size'?"),
    "bad value": (lines(PAIR), ["--pool_size", "many"], "invalid"),
    "labels": (lines(PAIR), ["--labels", "True, False"], "--verbalizers is not JSON"),
    "template": (lines(PAIR), ["--template", "{question}"], "--template names {question}"),
    "no gold": (
        lines(PAIR),
        ["--initial_labels", "golden"],
        "needs a gold label for every example; 2 of 2 have none",
    ),
    "no opposite": (
        lines({"text": "t"}),
        ["--task", "claims", "--template", "{text}", "--labels", COLORS, "--try_reverse"],
        "--try_reverse is for two labels, which have an opposite, not 3",
    ),
    "no search": (lines(PAIR), ["--restarts", "0"], "--restarts is 0; give 1 or more"),
    "two processes": (lines(PAIR, "{nope"), ["--processes", "2"], "line 2: not JSON"),
    "twice quantised": (
        lines(PAIR),
        ["--load_in_8bit", "--load_in_4bit"],
        "--load_in_8bit and --load_in_4bit exclude each other; drop one",
    ),
    "quantised training": (
        lines(PAIR),
        ["--load_in_4bit", "--method", "folds"],
        "--method folds trains the model's weights, which are fixed when quantised",
    ),
    "spread training": (
        lines(PAIR),
        ["--device_map", "auto", "--method", "folds"],
        "--method folds trains the model, which accelerate launch shards, and not --device_map",
    ),
    "steps in parts": (
        lines(PAIR),
        ["--method", "folds", "--gradient_accumulation_steps", "3"],
        "--train_batch_size 16 is not a multiple of the processes (1) times "
        "--gradient_accumulation_steps (3); change one of them",
    ),
    "not installed": (lines(PAIR), ["--load_in_4bit"], "pip install icm_rl[quantized]"),
    "not a number": (
        '{"prompt": "p", "response_a": "x", "response_b": "y", "label": NaN}\n',
        [],
        "line 1: the field 'label' is nan, outside the label set",
    ),
    "half a label": (lines({**PAIR, "label": 0.5}), [], "the field 'label' is 0.5, outside"),
    "nested too deep": (
        lines(PAIR, "[" * 100_000 + "]" * 100_000),
        [],
        "line 2: its objects or lists are nested too deep to be read",
    ),
    "one list nested too deep": ("[" * 100_000, [], "data.jsonl: its objects or lists are nested"),
    "no preference": (
        lines({**PAIR, "response_b": "x"}),
        [],
        "is of use to the task 'preferences' (they are prompts with two identical responses)",
    ),
    "alpha": (lines(PAIR), ["--alpha", "-5"], "--alpha is -5.0; give 0 or more"),
    "alpha NaN": (lines(PAIR), ["--alpha", "nan"], "--alpha is nan; give a finite number"),
    "temperature": (
        lines(PAIR),
        ["--initial_temperature", "0"],
        "--initial_temperature is 0.0; give more than 0",
    ),
    "iterations": (
        lines(PAIR),
        ["--iterations_per_example", "-1"],
        "--iterations_per_example is -1.0; give more than 0",
    ),
    "pool size": (lines(PAIR), ["--pool_size", "0"], "--pool_size is 0; give 1 or more"),
    "cache": (lines(PAIR), ["--cache_tokens", "0"], "--cache_tokens is 0; give 1 or more"),
    "no such method": (lines(PAIR), ["--method", "magic"], "--method 'magic' is not known"),
    "another method's flag": (
        lines(PAIR),
        ["--method", "zero_shot", "--restarts", "2"],
        "--restarts is a setting of --method search, not of zero_shot; drop it",
    ),
    "too many shots": (
        lines(PAIR, PAIR),
        ["--method", "random_few_shot", "--shots", "3"],
        "--shots 3: of these 4 examples 2 of other groups fit a context",
    ),
    "folds on a server": (
        lines(PAIR),
        ["--method", "folds", "--server", "http://localhost:1/v1"],
        "--method folds trains the model; of what was trained a --server loads LoRA adapters "
        "alone, if it is vLLM; set --lora_r, or drop --server",
    ),
    "a probe on a server": (
        lines(PAIR),
        ["--method", "ccs", "--server", "http://localhost:1/v1"],
        "--method ccs needs hidden states of the model, which a --server does not give",
    ),
    "no such model": (lines(PAIR), ["--model", "nowhere/to-be-found"], "nowhere/to-be-found"),
}


@pytest.mark.parametrize("case", CASES)
def test_icm_says_what_is_wrong(case, tmp_path):
    content, flags, message = CASES[case]
    file, output = tmp_path / "data.jsonl", tmp_path / "out"
    if content is not None:
        file.write_text(content)
    flags = [*flags] if "--task" in flags else [*flags, "--task", "preferences"]
    flags = ("--data", file, "--output_dir", output, *flags)
    done = run("recipes/icm.py", *flags, check=False)
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(said) == 1 and message in said[0], done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()


def test_another_methods_key_in_a_file_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("method: folds\nrestarts: 2\n")
    done = run("recipes/icm.py", "--config", tmp_path / "c.yaml", check=False)
    assert done.returncode == 2
    assert "c.yaml: 'restarts' is a setting of --method search, not of folds" in done.stderr


def test_a_word_in_a_file_that_a_method_does_not_know_is_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("method: folds\nobjective: sum_log_prob\n")
    done = run("recipes/icm.py", "--config", tmp_path / "c.yaml", check=False)
    assert done.returncode == 2
    told = "error: --objective is 'sum_log_prob'; give one of centered, mean_log_odds\n"
    assert done.stderr == told


def test_pairs_that_prefer_nothing_are_left_out_and_counted(tmp_path):
    rows = [{**PAIR, "prompt": f"p{k}"} for k in range(4)]
    rows += [{**PAIR, "response_b": "x"}, {**PAIR, "response_a": " "}, {**PAIR, "response_a": ""}]
    (tmp_path / "data.jsonl").write_text(lines(*rows))
    flags = ("--method", "zero_shot", "--data", tmp_path / "data.jsonl")
    done = run("recipes/icm.py", *flags, "--output_dir", tmp_path / "out")
    said = "left out 3 prompts that prefer nothing: 1 with two identical responses, 2 with an empty"
    assert said in done.stderr
    assert len((tmp_path / "out" / "preferences.jsonl").read_text().splitlines()) <= 4
    assert len((tmp_path / "out" / "labels.jsonl").read_text().splitlines()) == 8


def test_unknown_yaml_key(tmp_path):
    (tmp_path / "c.yaml").write_text("alhpa: 30\n")
    done = run("recipes/icm.py", "--config", tmp_path / "c.yaml", check=False)
    assert done.returncode == 2
    assert "c.yaml: unknown key 'alhpa'; did you mean 'alpha'?" in done.stderr


def test_a_model_without_tokenizer_or_chat_template(tmp_path, model, tokenizer, data):
    model.save_pretrained(tmp_path / "bare")
    done = run(
        *("recipes/icm.py", "--model", tmp_path / "bare", "--output_dir", tmp_path / "out"),
        *("--data", data / "preferences_train.jsonl"),
        check=False,
    )
    assert done.returncode == 2
    assert "tokenizer" in done.stderr.splitlines()[-1]
    model.save_pretrained(tmp_path / "plain")
    template, tokenizer.chat_template = tokenizer.chat_template, None
    tokenizer.save_pretrained(tmp_path / "plain")
    tokenizer.chat_template = template
    done = run(
        *("recipes/ppo.py", "--model_name_or_path", tmp_path / "plain"),
        *("--prompts", data / "prompts.jsonl", "--rewards", tmp_path / "plain"),
        *("--output_dir", tmp_path / "out"),
        check=False,
    )
    assert done.returncode == 2
    assert "no chat template" in done.stderr
    assert not (tmp_path / "out").exists()


def test_ppo_needs_answers_of_a_token_or_more(tmp_path):
    flags = ("--response_length", 0, "--output_dir", tmp_path / "out")
    flags = (*flags, "--prompts", "p.jsonl", "--rewards", "r")
    done = run("recipes/ppo.py", *flags, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --response_length is 0; give 1 or more\n"


PPO = ("recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml")
RL = {
    "k1 in the loss": (["--kl_penalty", "loss"], "--kl_estimator k1 has no gradient on average"),
    "no sampling": (["--temperature", 0], "--temperature is 0.0; give more than 0"),
    "no reward": (["--rewards", "nowhere"], "nowhere: no tokenizer could be loaded"),
    "two labels": (["--rewards", "TWO"], "TWO: has 2 labels; a reward model has one"),
    "no classifier": (["--rewards", "miniature"], "miniature: has no reward head"),
    "other tokens": (["--value_model", "OTHER"], "OTHER: a value model reads the policy's tokens"),
    "too long": (["--response_length", 2047], "do not fit the model's context of 2048"),
    "no vLLM": (["--use_vllm"], '--use_vllm needs vLLM: pip install "trl[vllm]"'),
    "no tracker": (["--report_to", "papyrus"], "Unsupported logging capability: papyrus"),
    "not installed": (["--report_to", "wandb"], "--report_to wandb: not installed"),
}


@pytest.fixture(scope="module")
def models(model, tokenizer, tmp_path_factory):
    """Directories of models that are no reward model or value model of the miniature."""
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models")
    config = {"num_hidden_layers": 1, "num_labels": 2}
    two = AutoModelForSequenceClassification.from_config(model.config.__class__(**config))
    two.save_pretrained(folder / "TWO")
    tokenizer.save_pretrained(folder / "TWO")
    model.save_pretrained(folder / "OTHER")
    words = json.loads(tokenizer.backend_tokenizer.to_str())
    words["model"]["vocab"]["ĠĠĠĠ"] = len(tokenizer)
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(words)))
    other.save_pretrained(folder / "OTHER")
    return folder


@pytest.mark.parametrize("case", RL)
def test_ppo_says_what_is_wrong(case, models, data, reward_model, tmp_path):
    flags, message = RL[case]
    flags = [models / flag if (models / str(flag)).exists() else flag for flag in flags]
    given = ("--rewards", reward_model) if "--rewards" not in flags else ()
    prompts = ("--prompts", data / "prompts.jsonl", "--output_dir", tmp_path / "out")
    done = run(*PPO, *given, *prompts, *flags, check=False)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line.replace(f"{models}/", "")
    assert "Traceback" not in done.stderr


def test_a_chat_template_that_is_not_there(tmp_path, data):
    done = run(
        *("recipes/reward.py", "--config", "recipes/configs/miniature/reward.yaml"),
        *("--chat_template_path", tmp_path / "none.jinja", "--output_dir", tmp_path / "out"),
        *("--preferences", data / "benchmark.jsonl"),
        check=False,
    )
    assert done.returncode == 2
    assert f"{tmp_path / 'none.jinja'}: no such chat template" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_run_is_left_alone(tmp_path, data):
    flags = ("recipes/icm.py", "--data", data / "preferences_train.jsonl", "--limit", 4)
    flags = (*flags, "--pool_size", 8, "--iterations_per_example", 0.5)
    run(*flags, "--output_dir", tmp_path / "out")
    before = (tmp_path / "out" / "labels.jsonl").read_bytes()
    flags_of_another = ("--output_dir", tmp_path / "out", "--alpha", 30)
    done = run(*flags, *flags_of_another, check=False)
    assert done.returncode == 2
    assert "holds the results of a run with alpha = 50.0 (now 30.0)" in done.stderr
    assert (tmp_path / "out" / "labels.jsonl").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    for processes in (1, 2):
        flags = (*flags, "--processes", processes, "--output_dir", tmp_path / "other")
        done = run(*flags, check=False)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert "not empty" in line


def test_a_folder_without_results_takes_corrected_settings(tmp_path):
    open_stage(tmp_path / "out", {"max_length": 8}, {})
    stage = open_stage(tmp_path / "out", {"max_length": 1024}, {})
    write_json(stage.metrics, {})
    with pytest.raises(InputError, match=r"a run with max_length = 1024 \(now 8\)"):
        open_stage(tmp_path / "out", {"max_length": 8}, {})


PROGRAMS = [path for folder in ("recipes", "eval") for path in (ROOT / folder).glob("[a-z]*.py")]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_help_explains_every_setting(program):
    done = run(program, "--help", check=False)
    assert "--config" in done.stdout
    assert "usage" in done.stdout
