"""Answers sampled by vLLM, which gets the policy's new weights: by TRL's own client."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.generation.vllm_generation import VLLMGeneration

from icm_rl.errors import InputError
from icm_rl.generation.rollout import Rollout, as_rollout, encode_prompts, end_tokens
from icm_rl.rl.config import PPOConfig
from icm_rl.tasks.base import Messages


class VLLMRollouts:
    """Samples answers by vLLM, in the training processes or on a server.

    Args:
        config: Settings.
        policy: The policy, whose weights vLLM gets before each batch.
        accelerator: Distributes the run.
        tokenizer: The policy's tokenizer, with a chat template.

    Raises:
        InputError: vLLM is not installed, or no server answers.
    """

    def __init__(
        self,
        config: PPOConfig,
        policy: PreTrainedModel,
        accelerator: Accelerator,
        tokenizer: PreTrainedTokenizerBase,
    ):
        self.policy, self.tokenizer = policy, tokenizer
        with vllm_errors():
            self.generation = VLLMGeneration(
                policy,
                accelerator,
                tokenizer,
                mode=config.vllm_mode,
                server_base_url=config.vllm_server_base_url,
                server_timeout=config.vllm_server_timeout,
                gpu_memory_utilization=config.vllm_gpu_memory_utilization,
                temperature=config.temperature,
                max_completion_length=config.response_length,
                trust_remote_code=config.trust_remote_code,
            )
        keep_base_weights(self.generation)

    def generate(self, prompts: Sequence[Messages]) -> Rollout:
        """Samples an answer to each prompt from the policy as it is now.

        Raises:
            InputError: The server does not answer.
        """
        encoded = encode_prompts(self.tokenizer, prompts)
        with vllm_errors():
            self.generation.sync_weights()
            _, answers, *_ = self.generation.generate(encoded, None, num_generations=1)
        responses = [torch.tensor(ids, device=self.policy.device) for ids in answers]
        ends = torch.tensor(end_tokens(self.policy, self.tokenizer), device=self.policy.device)
        return as_rollout(self.tokenizer, encoded, responses, ends)


def keep_base_weights(generation: VLLMGeneration) -> None:
    """Makes ``sync_weights`` leave the weights below adapters as they are, bit for bit.

    TRL adds the adapters to them, sends the sums, and subtracts the adapters again, which in few
    bits gives other weights than before, and more so sync by sync (its issue 6688).
    """
    sync = generation.sync_weights

    def exact_sync() -> None:
        with unchanged(generation.model):
            sync()

    generation.sync_weights = exact_sync


@contextmanager
def unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Restores at the end the weights below adapters, of which there is a copy meanwhile."""
    layers = [m.get_base_layer() for m in model.modules() if isinstance(m, BaseTunerLayer)]
    weights = [weight for layer in layers for weight in layer.parameters(recurse=False)]
    before = [weight.detach().to("cpu", copy=True) for weight in weights]
    yield
    with torch.no_grad():
        for weight, kept in zip(weights, before, strict=True):
            weight.copy_(kept)


@contextmanager
def vllm_errors() -> Iterator[None]:
    """Tells in one line that vLLM is not installed or that its server does not answer."""
    try:
        yield
    except ImportError as error:
        if "vllm" not in str(error).lower():
            raise
        raise InputError('--use_vllm needs vLLM: pip install "trl[vllm]"') from None
    except OSError as error:  # that of requests, which comes with vLLM, too
        if not isinstance(error, ConnectionError) and "requests" not in type(error).__module__:
            raise
        raise InputError(
            f"{str(error).splitlines()[0].rstrip('.')}; start the server, as TRL's guide to vLLM "
            "says, and give the same command again: it continues from the last checkpoint"
        ) from None
