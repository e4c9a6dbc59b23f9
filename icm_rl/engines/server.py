"""A base model behind an OpenAI-compatible ``/v1/completions`` that returns log-probabilities.

The requests' tree of segments decides the order in which prompts are sent: of those that go on
after a common segment the first is sent by itself, so that the server's prefix cache holds the
segment when the others come.
"""

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal
from urllib.request import urlopen

from accelerate import PartialState
from openai import APIStatusError, AsyncOpenAI, OpenAIError
from transformers import PreTrainedTokenizerBase

from icm_rl.engines.base import Request, first_tokens
from icm_rl.engines.prefixes import PrefixTree, Run, Segment, run_tokens
from icm_rl.errors import InputError
from icm_rl.files import fingerprint

_METRICS_TIMEOUT = 10.0
_MISSING_ALLOWED = 0.05
_MISSING_COUNTED = 200
_ROUNDING = 1e-3
"""So far above 0 may a log-probability be."""


@dataclass(frozen=True)
class ServerConfig:
    """How a server is asked.

    Attributes:
        url: Its address, ending in ``/v1``.
        kind: ``vllm`` takes prompts as token ids and names tokens by their ids, which is exact;
            ``openai`` exchanges text, as any compatible server does.
        model: The model's name there; None for the first one that it lists.
        top_logprobs: K, how many log-probabilities a position returns.
        concurrency: Requests under way at a time.
        timeout: Seconds to wait for one answer.
        retries: How often a request is sent again after a 429, a 5xx, a time-out or a broken
            connection, each time after a longer wait.
    """

    url: str
    kind: Literal["vllm", "openai"] = "vllm"
    model: str | None = None
    top_logprobs: int = 20
    concurrency: int = 64
    timeout: float = 600.0
    retries: int = 20


class ServerEngine:
    """Answers requests by a server's next-token log-probabilities.

    A new vLLM gives those of the labels, whatever they are. Of other servers a label that is
    not among the K most likely tokens gets the log-probability of the least likely of them, an
    upper bound; ``missing_labels`` counts them.

    Args:
        config: How the server is asked.
        tokenizer: The model's tokenizer; it counts tokens and cuts prompts.
        continuations: The labels' words, to be compared; their first tokens must differ.
        context_length: The longest prompt, where the server does not say.
        cache_tokens: How many tokens of contexts the server is taken to keep; no more than it says
            that it can.

    Attributes:
        prompt_tokens: The tokens of all prompts so far.
        computed_tokens: Those of them that the plan takes the server to compute.
        missing_labels: How many labels were not among the K most likely tokens.

    Raises:
        InputError: The server cannot be reached or does not serve the model, or the labels begin
            with the same token.
    """

    def __init__(
        self,
        config: ServerConfig,
        tokenizer: PreTrainedTokenizerBase,
        continuations: Sequence[str],
        context_length: int,
        cache_tokens: int = 200_000,
    ):
        self.config, self.tokenizer = config, tokenizer
        self.prompt_tokens = self.computed_tokens = self.missing_labels = 0
        self._asked = 0
        self._encode = cache(partial(tokenizer.encode, add_special_tokens=False))
        bos = tokenizer.bos_token
        # of a text the server's tokenizer makes the first token itself, if it makes one at all
        self._adds_bos = bos is not None and tokenizer("").input_ids[:1] == self._encode(bos)
        self._continuations, self._block, room = continuations, 1, cache_tokens
        if served := served_cache(config.url):
            self._block, room = served.block, min(cache_tokens, served.tokens)
        if room < cache_tokens and PartialState().is_main_process:
            print(
                f"warning: {config.url} keeps {room:,} tokens of contexts, not the "
                f"{cache_tokens:,} of --cache_tokens; it is asked for no more",
                file=sys.stderr,
                flush=True,
            )
        self._room, self._tree = room, PrefixTree(self._encode, room, bos)
        self._label_ids = first_tokens(self._encode, continuations)
        self._client = AsyncOpenAI(
            base_url=config.url,
            api_key=os.environ.get("OPENAI_API_KEY", "none"),
            timeout=config.timeout,
            max_retries=config.retries,
        )
        self._runner = asyncio.Runner()
        model = self._runner.run(self._served_model())
        self.model = model.id
        self.context_length = getattr(model, "max_model_len", None) or context_length

    def count_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def forget(self) -> None:
        """Plans as if the server kept nothing; what it does keep costs it nothing."""
        self._tree.clear()

    def with_weights(self, folder: Path) -> "ServerEngine":
        """The same server asked for its model with a folder's LoRA adapters, which vLLM loads.

        Their name there is a hash of them: under one that other adapters had before, what the
        server has kept of those could be served (vllm-project/vllm#30931, #42125).

        Raises:
            InputError: The server does not load them.
        """
        name = f"icm-{fingerprint(folder / 'adapter_model.safetensors', whole=True)[:16]}"
        self._runner.run(self._load(name, folder.resolve()))
        config = replace(self.config, model=name)
        room, length = self._room, self.context_length
        return ServerEngine(config, self.tokenizer, self._continuations, length, room)

    async def _load(self, name: str, folder: Path) -> None:
        named = {"lora_name": name, "lora_path": str(folder)}
        try:
            await self._client.post("/load_lora_adapter", body=named, cast_to=str)
        except OpenAIError as error:
            if "already been loaded" not in str(error):  # by another process
                raise InputError(
                    f"--server {self.config.url}: does not load adapters ({self._reason(error)}); "
                    "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, where "
                    f"it can read {folder}"
                ) from None

    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        return self._runner.run(self._answer(requests))

    async def _served_model(self) -> Any:
        try:
            served = (await self._client.models.list()).data
            self._served = [model.id for model in served]
        except OpenAIError as error:
            raise InputError(
                f"--server {self.config.url}: cannot be reached ({self._reason(error)})"
            ) from None
        except (ValueError, AttributeError, TypeError):
            raise InputError(
                f"--server {self.config.url}: does not list its models, as an OpenAI-compatible "
                "server does; is this its address, ending in /v1?"
            ) from None
        for model in served:
            if self.config.model in (None, model.id):
                return model
        names = ", ".join(self._served) or "none"
        raise InputError(
            f"--served_model '{self.config.model}' is not served by {self.config.url}; it serves "
            f"{names}"
        )

    def _reason(self, error: OpenAIError) -> str:
        """What went wrong, without the key."""
        status = f"HTTP {error.status_code}: " if isinstance(error, APIStatusError) else ""
        return status + str(error).strip().split("\n")[0][:300].replace(self._client.api_key, "…")

    def _names(self, token: int) -> list[str]:
        """How a server may write a token: decoded, as in the vocabulary, with a plain space."""
        word = self.tokenizer.convert_ids_to_tokens(token)
        spaced = word.replace("Ġ", " ").replace("▁", " ")
        return [self.tokenizer.decode([token]), word, spaced]

    async def _answer(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        answers: list[tuple[float, ...]] = [()] * len(requests)
        free = asyncio.Semaphore(self.config.concurrency)

        async def compute(run: Run) -> None:
            way = list(run)
            while not way[-1].requests:
                way += self._tree.after(way[-1])[0]
            last = way[-1]
            async with free:
                log_probs = await self._ask(last)
            # what a server keeps it keeps in whole blocks
            self.computed_tokens += run_tokens(way) + run[0].past % self._block
            for index in last.requests:
                self.prompt_tokens += last.end
                answers[index] = log_probs
            for segment in way:
                if segment.children:
                    self._tree.keep(segment, True)
            self._tree.answered(last)
            async with asyncio.TaskGroup() as group:
                for following in self._tree.after(run[-1]):
                    group.create_task(compute(following))

        try:
            for first in self._tree.passes(requests):
                async with asyncio.TaskGroup() as group:
                    for run in first:
                        group.create_task(compute(run))
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
        return answers

    async def _ask(self, last: Segment) -> tuple[float, ...]:
        """The labels' log-probabilities after a segment."""
        path = last.path()
        exact = self.config.kind == "vllm"
        try:
            answer = await self._client.completions.create(
                model=self.model,
                prompt=(
                    [token for segment in path for token in segment.tokens]
                    if exact
                    else "".join(segment.text for segment in path[self._adds_bos :])
                ),
                max_tokens=1,
                temperature=0.0,
                logprobs=self.config.top_logprobs,
                extra_body=(
                    {"return_tokens_as_token_ids": True, "logprob_token_ids": self._label_ids}
                    if exact
                    else None
                ),
            )
        except OpenAIError as error:
            raise InputError(
                f"--server {self.config.url}: a request failed after {self.config.retries} "
                f"retries ({self._reason(error)})"
            ) from None
        except ValueError:
            raise InputError(f"--server {self.config.url}: its answer is no JSON") from None
        return self._read(answer)

    def _top(self, answer: Any) -> Mapping[str, float]:
        """The log-probabilities of the likeliest next tokens.

        Raises:
            InputError: There are none, they are no such numbers, or another model's.
        """
        try:
            model, log_probs = answer.model, answer.choices[0].logprobs
        except (AttributeError, IndexError, TypeError):
            raise InputError(f"--server {self.config.url}: its answer is no completion") from None
        if self.config.kind == "vllm" and model not in self._served:
            raise InputError(
                f"--server {self.config.url}: '{self.model}' was asked, and '{model}' answers"
            )
        if log_probs is None or not log_probs.top_logprobs or not log_probs.top_logprobs[0]:
            raise InputError(
                f"--server {self.config.url}: returns no log-probabilities; labels need them"
            )
        top: Mapping[str, float] = log_probs.top_logprobs[0]
        for token, value in top.items():
            if not isinstance(value, float | int) or not value <= _ROUNDING:
                raise InputError(
                    f"--server {self.config.url}: gives the token {token!r} {value!r} as its "
                    "log-probability"
                )
        return top

    def _read(self, answer: Any) -> tuple[float, ...]:
        top = self._top(answer)
        lowest, found = min(top.values()), []
        for token in self._label_ids:
            names = [f"token_id:{token}"] if self.config.kind == "vllm" else self._names(token)
            values = [top[name] for name in names if name in top]
            self._asked += 1
            self.missing_labels += not values
            found.append(values[0] if values else lowest)
        if self._asked >= _MISSING_COUNTED and self.missing_labels > _MISSING_ALLOWED * self._asked:
            raise InputError(
                f"{self.missing_labels} of {self._asked} labels were not among the "
                f"{self.config.top_logprobs} most likely tokens; raise --top_logprobs (vLLM: and "
                "start the server with --max-logprobs), or choose other labels"
            )
        return tuple(found)


@dataclass(frozen=True)
class ServedCache:
    """What a server says of its prefix cache.

    Attributes:
        block: Tokens of a block, of which it keeps whole ones.
        tokens: How many tokens it holds.
        computed: Tokens that it has computed so far, since they were not there.
    """

    block: int
    tokens: int
    computed: int


def served_cache(url: str) -> ServedCache | None:
    """What vLLM's ``/metrics`` say; None of a server that has none.

    Args:
        url: The server's address, ending in ``/v1``.
    """
    try:
        with urlopen(url.removesuffix("/v1") + "/metrics", timeout=_METRICS_TIMEOUT) as answer:
            page = answer.read().decode()
    except (OSError, ValueError):
        return None
    labels = re.search(r"^vllm:cache_config_info\{(.*)\}", page, re.MULTILINE)
    known = dict(re.findall(r'(\w+)="(\d+)"', labels[1])) if labels else {}
    if not {"block_size", "num_gpu_blocks"} <= known.keys():
        return None
    block = int(known["block_size"])
    counts = [
        sum(
            float(value)
            for value in re.findall(
                rf"^vllm:prefix_cache_{name}_total\S* (\S+)$", page, re.MULTILINE
            )
        )
        for name in ("queries", "hits")
    ]
    return ServedCache(block, block * int(known["num_gpu_blocks"]), round(counts[0] - counts[1]))


def _first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
