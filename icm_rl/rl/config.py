"""Settings of the PPO stage; names and meanings are those of TRL's PPO where it had them."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from icm_rl.errors import InputError
from icm_rl.rl.arithmetic import KLEstimator
from icm_rl.settings import EXECUTION


@dataclass
class PPOConfig:
    """Stage 3: PPO of a policy against a reward."""

    output_dir: Annotated[str, EXECUTION] = field(
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
    total_episodes: Annotated[int, Ge(1)] = field(
        default=10_000, metadata={"help": "Answers to sample in all."}
    )
    per_device_train_batch_size: Annotated[int, Ge(1)] = field(
        default=8, metadata={"help": "Answers in one forward and backward pass of a process."}
    )
    gradient_accumulation_steps: Annotated[int, Ge(1)] = field(
        default=1, metadata={"help": "Forward and backward passes that make one optimizer step."}
    )
    num_mini_batches: Annotated[int, Ge(1)] = field(
        default=1, metadata={"help": "Optimizer steps into which the answers of an update divide."}
    )
    num_ppo_epochs: Annotated[int, Ge(1)] = field(
        default=4, metadata={"help": "Times that an update goes over its answers."}
    )
    generation_batch_size: Annotated[int | None, Ge(1), EXECUTION] = field(
        default=None,
        metadata={"help": "Answers that a process samples at once; by default all of an update."},
    )
    response_length: Annotated[int, Ge(1)] = field(
        default=64, metadata={"help": "Most new tokens of an answer."}
    )
    temperature: Annotated[float, Gt(0)] = field(
        default=1.0, metadata={"help": "Sampling temperature."}
    )
    learning_rate: Annotated[float, Gt(0)] = field(
        default=3e-6, metadata={"help": "AdamW's peak learning rate."}
    )
    lr_scheduler_type: str = field(
        default="linear", metadata={"help": "The learning rate's schedule, as in transformers."}
    )
    warmup_ratio: Annotated[float, Ge(0), Le(1)] = field(
        default=0.0, metadata={"help": "Share of the optimizer steps that warm up."}
    )
    max_grad_norm: Annotated[float, Gt(0)] = field(
        default=1.0, metadata={"help": "Gradients are clipped to it."}
    )
    gradient_checkpointing: Annotated[bool, EXECUTION] = field(
        default=False, metadata={"help": "Compute activations again in the backward pass."}
    )
    kl_coef: Annotated[float, Ge(0)] = field(
        default=0.05, metadata={"help": "Weight of the KL penalty."}
    )
    kl_estimator: KLEstimator = field(
        default="k1", metadata={"help": "How the KL of a token is estimated: k1, k2 or k3."}
    )
    kl_penalty: Literal["reward", "loss"] = field(
        default="reward", metadata={"help": "Whether the KL penalty is in the reward or the loss."}
    )
    kl_target: Annotated[float | None, Gt(0)] = field(
        default=None,
        metadata={
            "help": "KL of an answer towards which the weight adapts; by default it is fixed."
        },
    )
    kl_horizon: Annotated[int, Ge(1)] = field(
        default=10_000, metadata={"help": "Episodes in which the weight adapts to an error."}
    )
    max_kl: Annotated[float | None, Gt(0)] = field(
        default=None, metadata={"help": "KL of an answer at which the run ends early."}
    )
    cliprange: Annotated[float, Gt(0)] = field(
        default=0.2, metadata={"help": "Clip range of the policy's ratio."}
    )
    vf_coef: Annotated[float, Ge(0)] = field(
        default=0.1, metadata={"help": "Weight of the value loss."}
    )
    cliprange_value: Annotated[float, Gt(0)] = field(
        default=0.2, metadata={"help": "Clip range of the values."}
    )
    entropy_coef: Annotated[float, Ge(0)] = field(
        default=0.0, metadata={"help": "Weight of the entropy bonus."}
    )
    gamma: Annotated[float, Ge(0), Le(1)] = field(default=1.0, metadata={"help": "Discount."})
    lam: Annotated[float, Ge(0), Le(1)] = field(
        default=0.95, metadata={"help": "Lambda of the advantage estimation."}
    )
    whiten_rewards: bool = field(
        default=False, metadata={"help": "Scale an update's rewards to unit variance."}
    )
    reward_scaling: bool = field(
        default=False,
        metadata={"help": "Divide scores by the standard deviation of all scores so far."},
    )
    reward_clip: Annotated[float | None, Gt(0)] = field(
        default=None, metadata={"help": "Clip scores to plus and minus this, after the scaling."}
    )
    missing_eos_penalty: Annotated[float | None, Ge(0)] = field(
        default=1.0,
        metadata={"help": "Subtracted from the score of an answer that does not end by itself."},
    )
    length_penalty: Annotated[float, Ge(0)] = field(
        default=0.0, metadata={"help": "Subtracted from the score for each token of the answer."}
    )
    use_vllm: bool = field(default=False, metadata={"help": "Sample the answers by vLLM."})
    vllm_mode: Annotated[Literal["server", "colocate"], EXECUTION] = field(
        default="server",
        metadata={"help": "vLLM on a server of its own, or on the GPUs that train."},
    )
    vllm_server_base_url: Annotated[str, EXECUTION] = field(
        default="http://localhost:8000", metadata={"help": "The address of the vLLM server."}
    )
    vllm_server_timeout: Annotated[float, Gt(0), EXECUTION] = field(
        default=240.0, metadata={"help": "Seconds to wait for the vLLM server to be up."}
    )
    vllm_gpu_memory_utilization: Annotated[float, Gt(0), Le(1), EXECUTION] = field(
        default=0.3, metadata={"help": "Share of a GPU's memory for a colocated vLLM."}
    )
    eval_steps: Annotated[int, Ge(1)] = field(
        default=10, metadata={"help": "Updates between two evaluations on the held-out prompts."}
    )
    watch: str | None = field(
        default=None,
        metadata={
            "help": "The reward by whose mean on held-out prompts the best policy is kept, as in "
            "--rewards, without its weight; by default their sum."
        },
    )
    max_loss: Annotated[float | None, Gt(0)] = field(
        default=None,
        metadata={
            "help": "The share of what it had gained by which the watched reward may fall on "
            "held-out prompts, at two evaluations in a row, before the run ends early."
        },
    )
    save_steps: Annotated[int, Ge(1), EXECUTION] = field(
        default=50, metadata={"help": "Updates between two checkpoints."}
    )
    policy_steps: Annotated[int, Ge(0), EXECUTION] = field(
        default=0,
        metadata={"help": "Updates between two copies of the policy, policy-N; 0 keeps none."},
    )
    sample_answers: Annotated[int, Ge(0), EXECUTION] = field(
        default=4, metadata={"help": "Answers of each update that go into answers.jsonl."}
    )
    report_to: Annotated[list[str], EXECUTION] = field(
        default_factory=list,
        metadata={"help": "Trackers: trackio, wandb, tensorboard; they must be installed."},
    )
    run_name: Annotated[str | None, EXECUTION] = field(
        default=None, metadata={"help": "The run's name in a tracker."}
    )
    seed: int = field(default=0, metadata={"help": "Decides prompts' order and sampling."})
    trust_remote_code: Annotated[bool, EXECUTION] = field(
        default=False, metadata={"help": "Let a model's repository run its own code."}
    )

    def __post_init__(self) -> None:
        if self.kl_penalty == "loss" and self.kl_estimator == "k1":
            raise InputError(
                "--kl_estimator k1 has no gradient on average: with --kl_penalty loss give k2 or k3"
            )

    @property
    def local_batch_size(self) -> int:
        """Answers that one process samples for one update."""
        micro = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return micro * self.num_mini_batches
