"""Settings of the PPO stage; names and meanings are those of TRL's PPO where it had them."""

from dataclasses import asdict, dataclass, field
from typing import Any

from icm_rl.rl.advantages import KLEstimator
from icm_rl.settings import require_at_least


@dataclass
class PPOConfig:
    """Stage 3: PPO of a policy against a reward model."""

    model: str = field(
        default="miniature",
        metadata={"help": "The policy to start from: a directory, a Hub name, or 'miniature'."},
    )
    reward_model: str = field(
        default="",
        metadata={"help": "The reward model; it may have another tokenizer and chat template."},
    )
    value_model: str | None = field(
        default=None,
        metadata={"help": "What the value model starts from; by default a copy of the policy."},
    )
    prompts: str = field(
        default="", metadata={"help": "JSON lines with a prompt each, as text or as messages."}
    )
    output_dir: str = field(
        default="runs/ppo", metadata={"help": "Folder for the policy, the history and checkpoints."}
    )
    total_episodes: int = field(default=10_000, metadata={"help": "Answers to sample in all."})
    per_device_train_batch_size: int = field(
        default=8, metadata={"help": "Answers in one forward and backward pass of a process."}
    )
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "Such passes to one optimizer step."}
    )
    num_mini_batches: int = field(
        default=1, metadata={"help": "Optimizer steps into which the answers of an update divide."}
    )
    num_ppo_epochs: int = field(
        default=4, metadata={"help": "Times that an update goes over its answers."}
    )
    response_length: int = field(default=64, metadata={"help": "Most new tokens of an answer."})
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature."})
    learning_rate: float = field(default=3e-6, metadata={"help": "AdamW's peak learning rate."})
    lr_scheduler_type: str = field(
        default="linear", metadata={"help": "The learning rate's schedule, as in transformers."}
    )
    warmup_ratio: float = field(
        default=0.0, metadata={"help": "Share of the optimizer steps that warm up."}
    )
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to it."})
    kl_coef: float = field(default=0.05, metadata={"help": "KL penalty in the reward."})
    kl_estimator: KLEstimator = field(
        default="k1", metadata={"help": "How the KL of a token is estimated: k1 or k3."}
    )
    cliprange: float = field(default=0.2, metadata={"help": "Clip range of the policy's ratio."})
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    cliprange_value: float = field(default=0.2, metadata={"help": "Clip range of the values."})
    gamma: float = field(default=1.0, metadata={"help": "Discount."})
    lam: float = field(default=0.95, metadata={"help": "Lambda of the advantage estimation."})
    whiten_rewards: bool = field(
        default=False, metadata={"help": "Scale an update's rewards to unit variance."}
    )
    missing_eos_penalty: float | None = field(
        default=1.0,
        metadata={"help": "Subtracted from the score of an answer that does not end by itself."},
    )
    save_steps: int = field(default=50, metadata={"help": "Updates between two checkpoints."})
    dtype: str = field(default="auto", metadata={"help": "Number type of the reward model."})
    seed: int = field(default=0, metadata={"help": "Decides prompts' order and sampling."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Let a model's repository run its own code."}
    )

    def __post_init__(self) -> None:
        names = ("total_episodes", "per_device_train_batch_size", "gradient_accumulation_steps")
        names += ("num_mini_batches", "num_ppo_epochs", "response_length", "save_steps")
        require_at_least(self, **dict.fromkeys(names, 1))

    @property
    def local_batch_size(self) -> int:
        """Answers that one process samples for one update."""
        micro = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return micro * self.num_mini_batches

    def identity(self) -> dict[str, Any]:
        """What decides the policy, besides the models and the prompts themselves."""
        elsewhere = {"model", "reward_model", "value_model", "prompts", "output_dir", "save_steps"}
        return {name: value for name, value in asdict(self).items() if name not in elsewhere}
