"""Settings of the PPO stage; names and meanings are those of TRL's PPO where it had them."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from icm_rl.errors import InputError
from icm_rl.rl.arithmetic import KLEstimator
from icm_rl.settings import require_at_least


@dataclass
class PPOConfig:
    """Stage 3: PPO of a policy against a reward."""

    output_dir: str = field(
        default="runs/ppo", metadata={"help": "Folder for the policy, the history and checkpoints."}
    )
    value_model: str = field(
        default="policy",
        metadata={
            "help": "What the value model starts from: 'policy' (a copy of it), 'head' (no model "
            "of its own, a head on the policy), or a model with the policy's tokens, such as the "
            "reward model."
        },
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
    generation_batch_size: int | None = field(
        default=None,
        metadata={"help": "Answers that a process samples at once; by default all of an update."},
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
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Compute activations again in the backward pass."}
    )
    kl_coef: float = field(default=0.05, metadata={"help": "Weight of the KL penalty."})
    kl_estimator: KLEstimator = field(
        default="k1", metadata={"help": "How the KL of a token is estimated: k1, k2 or k3."}
    )
    kl_penalty: Literal["reward", "loss"] = field(
        default="reward", metadata={"help": "Whether the KL penalty is in the reward or the loss."}
    )
    kl_target: float | None = field(
        default=None,
        metadata={
            "help": "KL of an answer towards which the weight adapts; by default it is fixed."
        },
    )
    kl_horizon: int = field(
        default=10_000, metadata={"help": "Episodes in which the weight adapts to an error."}
    )
    max_kl: float | None = field(
        default=None, metadata={"help": "KL of an answer at which the run ends early."}
    )
    cliprange: float = field(default=0.2, metadata={"help": "Clip range of the policy's ratio."})
    vf_coef: float = field(default=0.1, metadata={"help": "Weight of the value loss."})
    cliprange_value: float = field(default=0.2, metadata={"help": "Clip range of the values."})
    entropy_coef: float = field(default=0.0, metadata={"help": "Weight of the entropy bonus."})
    gamma: float = field(default=1.0, metadata={"help": "Discount."})
    lam: float = field(default=0.95, metadata={"help": "Lambda of the advantage estimation."})
    whiten_rewards: bool = field(
        default=False, metadata={"help": "Scale an update's rewards to unit variance."}
    )
    reward_scaling: bool = field(
        default=False,
        metadata={"help": "Divide scores by the standard deviation of all scores so far."},
    )
    reward_clip: float | None = field(
        default=None, metadata={"help": "Clip scores to plus and minus this, after the scaling."}
    )
    missing_eos_penalty: float | None = field(
        default=1.0,
        metadata={"help": "Subtracted from the score of an answer that does not end by itself."},
    )
    length_penalty: float = field(
        default=0.0, metadata={"help": "Subtracted from the score for each token of the answer."}
    )
    use_vllm: bool = field(default=False, metadata={"help": "Sample the answers by vLLM."})
    vllm_mode: Literal["server", "colocate"] = field(
        default="server",
        metadata={"help": "vLLM on a server of its own, or on the GPUs that train."},
    )
    vllm_server_base_url: str = field(
        default="http://localhost:8000", metadata={"help": "The address of the vLLM server."}
    )
    vllm_server_timeout: float = field(
        default=240.0, metadata={"help": "Seconds to wait for the vLLM server to be up."}
    )
    vllm_gpu_memory_utilization: float = field(
        default=0.3, metadata={"help": "Share of a GPU's memory for a colocated vLLM."}
    )
    eval_steps: int = field(
        default=10, metadata={"help": "Updates between two evaluations on the held-out prompts."}
    )
    save_steps: int = field(default=50, metadata={"help": "Updates between two checkpoints."})
    policy_steps: int = field(
        default=0,
        metadata={"help": "Updates between two copies of the policy, policy-N; 0 keeps none."},
    )
    sample_answers: int = field(
        default=4, metadata={"help": "Answers of each update that go into answers.jsonl."}
    )
    report_to: list[str] = field(
        default_factory=list,
        metadata={"help": "Trackers: trackio, wandb, tensorboard; they must be installed."},
    )
    run_name: str | None = field(default=None, metadata={"help": "The run's name in a tracker."})
    seed: int = field(default=0, metadata={"help": "Decides prompts' order and sampling."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Let a model's repository run its own code."}
    )

    def __post_init__(self) -> None:
        names = ("total_episodes", "per_device_train_batch_size", "gradient_accumulation_steps")
        names += ("num_mini_batches", "num_ppo_epochs", "response_length", "save_steps")
        names += ("eval_steps", "kl_horizon")
        require_at_least(self, **dict.fromkeys(names, 1), sample_answers=0, policy_steps=0)
        if self.temperature <= 0:
            raise InputError(f"--temperature is {self.temperature}; PPO samples, give more than 0")
        if self.kl_penalty == "loss" and self.kl_estimator == "k1":
            raise InputError(
                "--kl_estimator k1 has no gradient on average: with --kl_penalty loss give k2 or k3"
            )

    @property
    def local_batch_size(self) -> int:
        """Answers that one process samples for one update."""
        micro = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return micro * self.num_mini_batches

    def identity(self) -> dict[str, Any]:
        """What decides the policy, besides the models and the prompts themselves."""
        elsewhere = {"output_dir", "save_steps", "policy_steps", "sample_answers"}
        elsewhere |= {"report_to", "run_name", "trust_remote_code", "vllm_server_base_url"}
        elsewhere |= {"vllm_server_timeout"}
        return {name: value for name, value in asdict(self).items() if name not in elsewhere}
