"""The settings of an engine, and the engine that they describe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from accelerate import PartialState
from annotated_types import Ge, Gt
from transformers.utils import is_bitsandbytes_available
from trl import ModelConfig, get_quantization_config

from icm_rl.engines.base import Engine
from icm_rl.engines.local import LocalEngine
from icm_rl.errors import InputError
from icm_rl.models import context_length, load_causal_lm, load_config, load_tokenizer
from icm_rl.settings import EXECUTION

ServerKind = Literal["vllm", "openai"]


@dataclass
class EngineConfig:
    """Where a model runs that is asked for log-probabilities of labels."""

    dtype: str = field(
        default="auto", metadata={"help": "The model's number type: auto, float32, bfloat16, …"}
    )
    load_in_8bit: bool = field(
        default=False, metadata={"help": "Quantise the model to 8 bits (bitsandbytes)."}
    )
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Quantise the model to 4 bits (bitsandbytes)."}
    )
    device_map: Annotated[str | None, EXECUTION] = field(
        default=None, metadata={"help": "'auto' spreads a large model over this machine's GPUs."}
    )
    server: Annotated[list[str] | None, EXECUTION] = field(
        default=None,
        metadata={
            "help": "Ask an OpenAI-compatible server instead of a model in this process: its "
            "address, ending in /v1; several are asked by as many processes. The model named gives "
            "the tokenizer."
        },
    )
    server_kind: ServerKind = field(
        default="vllm",
        metadata={"help": "'vllm' exchanges token ids; 'openai' text, as any compatible server."},
    )
    served_model: Annotated[str | None, EXECUTION] = field(
        default=None, metadata={"help": "The model's name on the server; by default its first."}
    )
    top_logprobs: Annotated[int, Ge(1)] = field(
        default=20, metadata={"help": "Log-probabilities that the server returns of a position."}
    )
    concurrency: Annotated[int, Ge(1), EXECUTION] = field(
        default=64, metadata={"help": "Requests under way at a time."}
    )
    request_timeout: Annotated[float, Gt(0), EXECUTION] = field(
        default=600.0, metadata={"help": "Seconds to wait for one of the server's answers."}
    )
    request_retries: Annotated[int, Ge(0), EXECUTION] = field(
        default=20, metadata={"help": "How often a failed request is sent again."}
    )
    cache_tokens: Annotated[int, Ge(1), EXECUTION] = field(
        default=200_000,
        metadata={"help": "Tokens in the key-value cache; of a server, those that it keeps."},
    )
    ray_actors: Annotated[int | None, Ge(1), EXECUTION] = field(
        default=None,
        metadata={
            "help": "Ask so many actors of a Ray cluster, each with the model and a GPU, or a core "
            "where there is none: the cluster of RAY_ADDRESS, or one on this machine."
        },
    )
    trust_remote_code: Annotated[bool, EXECUTION] = field(
        default=False, metadata={"help": "Let the model's repository run its own code."}
    )

    def __post_init__(self) -> None:
        if self.load_in_8bit and self.load_in_4bit:
            raise InputError("--load_in_8bit and --load_in_4bit exclude each other; drop one")
        if self.ray_actors and self.server:
            raise InputError("--ray_actors and --server exclude each other; drop one")


def load_engine(model: str, continuations: Sequence[str], config: EngineConfig) -> Engine:
    """The model in this process, on a cluster, or the connection to a server.

    Args:
        model: The model; of a server, the one whose tokenizer it has.
        continuations: The labels' words, to be compared.
        config: Where it runs.

    Raises:
        InputError: The model cannot be loaded, the server not be reached, or an extra is missing.
    """
    tokenizer, state = load_tokenizer(model, config.trust_remote_code), PartialState()
    if config.server:
        try:
            from icm_rl.engines.server import ServerConfig, ServerEngine
        except ImportError:
            raise InputError(
                "--server needs the extra 'server': pip install icm_rl[server]"
            ) from None
        settings = ServerConfig(
            url=config.server[state.process_index % len(config.server)],
            kind=config.server_kind,
            model=config.served_model,
            top_logprobs=config.top_logprobs,
            concurrency=config.concurrency,
            timeout=config.request_timeout,
            retries=config.request_retries,
        )
        length = context_length(load_config(model, config.trust_remote_code), tokenizer)
        return ServerEngine(settings, tokenizer, continuations, length, config.cache_tokens)
    if config.ray_actors:
        from icm_rl.engines.clustered import ClusterEngine

        length = context_length(load_config(model, config.trust_remote_code), tokenizer)
        return ClusterEngine(model, tokenizer, continuations, length, config)
    quantisation = None
    if config.load_in_8bit or config.load_in_4bit:
        if not is_bitsandbytes_available():
            raise InputError(
                "--load_in_8bit and --load_in_4bit need the extra 'quantized': pip install "
                "icm_rl[quantized]"
            )
        dtype = config.dtype
        if dtype == "auto":
            dtype = load_config(model, config.trust_remote_code).dtype
        quantisation = get_quantization_config(
            ModelConfig(
                dtype=dtype, load_in_8bit=config.load_in_8bit, load_in_4bit=config.load_in_4bit
            )
        )
    loaded = load_causal_lm(
        model,
        config.dtype,
        config.trust_remote_code,
        device_map=config.device_map or state.device,
        quantization_config=quantisation,
    )
    return LocalEngine(loaded, tokenizer, continuations, config.cache_tokens)
