"""Every shipped config parses, and what does not need the weights can be built from it."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from trl import GRPOConfig, ModelConfig, RewardConfig, get_peft_config

from icm_rl.errors import InputError
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.search import SearchConfig, temperature, total_iterations
from icm_rl.pipeline import PipelineConfig, stage_commands
from icm_rl.reward.training import RewardArguments
from icm_rl.rewardbench.policy import PolicyEvaluationConfig
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.rewards import RewardsConfig
from icm_rl.settings import parse
from icm_rl.tasks import TASKS
from icm_rl.trainer import trainer_settings
from tests.conftest import ROOT

FOLDER = ROOT / "recipes" / "configs"
LAUNCHES = sorted((FOLDER / "accelerate").glob("*.yaml"))
CONFIGS = sorted(set(FOLDER.rglob("*.yaml")) - set(LAUNCHES))


def parsed(path: Path):
    """The config's settings, by the classes whose fields it names."""
    keys = set(yaml.safe_load(path.read_text()))
    for classes in (
        [IcmConfig],
        [PPOConfig, RewardsConfig, ModelConfig],
        [PolicyEvaluationConfig],
        [PipelineConfig],
        [RewardArguments, RewardConfig, ModelConfig],
        [RewardsConfig, GRPOConfig, ModelConfig],
    ):
        known = {field.name for settings in classes for field in fields(settings)}
        if keys <= known:
            flags = (
                ["--use_cpu", "true", "--bf16", "false"]
                if {RewardConfig, GRPOConfig} & {*classes}
                else []
            )
            return parse(classes, ["--config", str(path), *flags])
    raise AssertionError(f"{path} is no recipe's config")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_config_parses_and_builds(path):
    first, *rest = parsed(path)
    if isinstance(first, IcmConfig):
        assert TASKS[first.task].name == first.task
        assert temperature(first.search, 1, 0) == first.initial_temperature
        assert total_iterations(first.search, 10) >= 10
        described = set(yaml.safe_load(path.read_text()))
        left_out = {"limit", "device_map", "cache_tokens", "trust_remote_code"}
        left_out |= {"data_config", "data_split", "template", "labels", "relation"}
        left_out |= {"group_column", "key_column", "initial_labels", "push_to_hub"}
        left_out |= {"server", "server_kind", "served_model", "top_logprobs", "concurrency"}
        left_out |= {"request_timeout", "request_retries", "load_in_8bit", "load_in_4bit"}
        left_out |= {"processes", "try_reverse"}
        search = {field.name for field in fields(SearchConfig)} - {"group_weight"}
        search |= {
            "iterative",
            "try_reverse",
            "pool_size",
            "objective",
            "consistency",
            "order",
            "restarts",
        }
        folds = {"folds", "rounds", "learning_rate", "num_train_epochs", "train_batch_size"}
        left_out |= search if first.method == "folds" else {"method", "lora_r", "iterative"} | folds
        assert {field.name for field in fields(IcmConfig)} - described <= left_out
    elif isinstance(first, PPOConfig):
        rewards, model = rest
        assert first.total_episodes >= first.local_batch_size
        assert rewards.prompts and rewards.rewards and model.model_name_or_path
    elif isinstance(first, RewardsConfig):
        training, _ = rest
        assert first.prompts and first.rewards
        assert training.generation_batch_size % training.num_generations == 0
    elif isinstance(first, PipelineConfig):
        for name in ("icm", "reward", "ppo", "grpo", "policy"):
            assert (ROOT / getattr(first, f"{name}_config")).exists()
        paths = {"data": "d", "prompts": "p", "benchmark": "b"}
        stages = list(stage_commands(first, paths, ["gold", "human"]))
        assert len(stages) == 10
        for stage in stages:
            script = next(word for word in stage.command if word.endswith(".py"))
            assert (ROOT / script).exists()
    elif isinstance(first, RewardArguments):
        training, model = rest
        peft = get_peft_config(model)
        assert (peft is not None) == bool(model.use_peft)
        assert training.learning_rate > 0
        settings = trainer_settings(training, model)
        assert settings["max_length"] == training.max_length


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path):
    assert load_config_from_file(str(path)).num_processes > 1


def test_flags_override_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("alpha: 30\nseed: 4\n")
    (config,) = parse([IcmConfig], ["--config", str(tmp_path / "c.yaml"), "--alpha", "20"])
    assert (config.alpha, config.seed) == (20.0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [("alhpa: 3", "unknown key 'alhpa'"), ("- 1", "must hold"), ("a: [", "not YAML")],
)
def test_bad_files_are_named(tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        parse([IcmConfig], ["--config", str(tmp_path / "c.yaml")])


def test_each_server_is_asked_by_a_process_of_its_own():
    servers = ["http://localhost:8000/v1", "http://localhost:8001/v1"]
    assert IcmConfig(server=servers).processes == 2
    assert IcmConfig(server=servers, processes=3).processes == 3
