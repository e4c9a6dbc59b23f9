"""Every shipped config parses, and what does not need the weights can be built from it."""

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from trl import GRPOConfig, ModelConfig, RewardConfig, get_peft_config

from icm_rl.errors import InputError
from icm_rl.experiment.config import ExperimentConfig, method_flags
from icm_rl.icm.config import IcmConfig, parse_icm
from icm_rl.pipeline import PipelineConfig, stage_commands
from icm_rl.reward.training import RewardArguments
from icm_rl.rewardbench.policy import PolicyEvaluationConfig
from icm_rl.rewardbench.sampling import ResponsesConfig
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.rewards import RewardsConfig
from icm_rl.settings import identity, parse
from icm_rl.trainer import parse_with_trainer
from tests.conftest import ROOT

FOLDER = ROOT / "recipes" / "configs"
LAUNCHES = sorted((FOLDER / "accelerate").glob("*.yaml"))
CONFIGS = sorted(set(FOLDER.rglob("*.yaml")) - set(LAUNCHES))


def parsed(path: Path):
    """The config's settings, as the recipe parses them that knows all of its keys."""
    args = ["--config", str(path)]
    errors = []
    for read in (
        lambda: parse_icm(args),
        lambda: parse([PPOConfig, RewardsConfig, ModelConfig], args),
        lambda: parse([PolicyEvaluationConfig], args),
        lambda: parse([ResponsesConfig], args),
        lambda: parse([PipelineConfig], args),
        lambda: parse([ExperimentConfig], args),
        lambda: parse_with_trainer(RewardArguments, RewardConfig, args),
        lambda: parse_with_trainer(RewardsConfig, GRPOConfig, args),
    ):
        try:
            return read()
        except InputError as error:
            errors.append(str(error))
    raise AssertionError(f"{path} is no recipe's config: {errors}")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_config_parses_and_builds(path):
    first, *rest = parsed(path)
    if isinstance(first, IcmConfig):
        assert first.configured_task.name == first.task
        [method] = rest
        given = yaml.safe_load(path.read_text())
        decides = identity(first, method)
        assert all(decides[name] == value for name, value in given.items() if name in decides)
    elif isinstance(first, PPOConfig):
        rewards, model = rest
        assert first.total_episodes >= first.local_batch_size
        assert rewards.prompts and rewards.rewards and model.model_name_or_path
    elif isinstance(first, RewardsConfig):
        training, _ = rest
        assert first.prompts and first.rewards
        assert training.generation_batch_size % training.num_generations == 0
    elif isinstance(first, PipelineConfig):
        paths = {"data": "d", "prompts": "p", "benchmark": "b"}
        for stage in stage_commands(first, paths, ["gold", "human"]):
            assert Path(stage.script).exists()
            if "--config" in stage.flags:
                assert Path(stage.flags[stage.flags.index("--config") + 1]).exists()
    elif isinstance(first, ExperimentConfig):
        for task in first.tasks.values():
            assert task["test_data"]
            for method in first.methods.values():
                parse_icm(method_flags(task, method))
    elif isinstance(first, RewardArguments):
        training, model = rest
        assert (get_peft_config(model) is not None) == bool(model.use_peft)
        assert identity(first, training, model)["max_length"] == training.max_length


def test_each_role_of_the_chain_has_its_model():
    models = {
        "label_model": "labels",
        "judge_model": "judges",
        "reward_base_model": "rewards",
        "policy_model": "acts",
        "reference_reward_model": "refers",
    }
    paths = {"data": "d", "prompts": "p", "benchmark": "b"}

    def named(config: PipelineConfig) -> list[dict[str, str]]:
        found = []
        for stage in stage_commands(config, paths, ["gold"]):
            flags = dict(zip(stage.flags, stage.flags[1:], strict=False))
            known = ("--model", "--model_name_or_path", "--judge", "--baseline")
            known += ("--reference_reward_model",)
            found.append({name: flags[name] for name in known if name in flags})
        return found

    own = named(PipelineConfig(run_dir="run", **models))
    assert own[0] == {"--model": "labels"}
    assert own[1] == own[2] == {"--model_name_or_path": "rewards"}
    assert own[5] == {"--judge": "judges"}
    assert own[6] == {"--model_name_or_path": "acts"}
    assert own[7] == {
        "--model": "run/ppo/policy",
        "--baseline": "acts",
        "--reference_reward_model": "refers",
    }
    one = named(PipelineConfig(run_dir="run", model="one"))
    assert {value for flags in one for value in flags.values()} == {
        "one",
        "run/ppo/policy",
        "run/reward/gold",
    }


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.stem)
def test_accelerate_reads_its_configs(path):
    assert (load_config_from_file(str(path)).num_processes > 1) == (path.stem != "cpu")


def test_flags_override_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("alpha: 30\nseed: 4\n")
    config, method = parse_icm(["--config", str(tmp_path / "c.yaml"), "--alpha", "20"])
    assert (method.alpha, config.seed) == (20.0, 4)


def test_a_setting_by_its_other_name(tmp_path):
    (tmp_path / "c.yaml").write_text("labels: {a: ' A', b: ' B'}\n")
    config, _ = parse_icm(["--config", str(tmp_path / "c.yaml")])
    assert config.verbalizers == {"a": " A", "b": " B"}
    config, _ = parse_icm(["--labels", '{"a": " A"}'])
    assert config.verbalizers == '{"a": " A"}'


@pytest.mark.parametrize(
    ("content", "message"),
    [("alhpa: 3", "unknown key 'alhpa'"), ("- 1", "must hold"), ("a: [", "not YAML")],
)
def test_bad_files_are_named(tmp_path, content, message):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        parse_icm(["--config", str(tmp_path / "c.yaml")])


def test_each_server_is_asked_by_a_process_of_its_own():
    servers = ["http://localhost:8000/v1", "http://localhost:8001/v1"]
    assert IcmConfig(server=servers).processes == 2
    assert IcmConfig(server=servers, processes=3).processes == 3
