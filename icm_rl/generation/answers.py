"""Policies' answers to prompts, kept by what decides them, so that none is generated twice."""

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol
from uuid import uuid4

from accelerate import PartialState
from accelerate.utils import gather_object
from annotated_types import Ge, Gt

from icm_rl.errors import InputError
from icm_rl.files import append_jsonl, fingerprint, read_appended, write_json
from icm_rl.generation.rollout import generate, sampling_noise
from icm_rl.models import default_device, load_causal_lm, load_tokenizer, resolve
from icm_rl.progress import Progress
from icm_rl.settings import EXECUTION
from icm_rl.tasks.base import Messages


@dataclass
class AnswersConfig:
    """How policies answer."""

    response_length: Annotated[int, Ge(1)] = field(
        default=512, metadata={"help": "Most new tokens of an answer."}
    )
    temperature: Annotated[float, Ge(0)] = field(
        default=0.0, metadata={"help": "Sampling temperature; 0 takes the likeliest tokens."}
    )
    seed: int = field(default=0, metadata={"help": "Decides sampling at a temperature above 0."})
    dtype: str = field(default="auto", metadata={"help": "The models' number type."})
    batch_size: Annotated[int, Ge(1), EXECUTION] = field(
        default=32, metadata={"help": "Answers generated at once; of a server, requests under way."}
    )
    request_timeout: Annotated[float, Gt(0), EXECUTION] = field(
        default=600.0, metadata={"help": "Seconds to wait for one of a server's answers."}
    )
    request_retries: Annotated[int, Ge(0), EXECUTION] = field(
        default=20, metadata={"help": "How often a server is sent a failed request again."}
    )
    answers_dir: Annotated[str, EXECUTION] = field(
        default="runs/answers",
        metadata={"help": "Folder of the answers so far; what is there is not generated again."},
    )
    trust_remote_code: Annotated[bool, EXECUTION] = field(
        default=False, metadata={"help": "Let a model's repository run its own code."}
    )


@dataclass(frozen=True)
class Question:
    """A prompt, and how often it was asked before; of a sampled answer there may be several."""

    prompt: Messages
    before: int = 0

    @property
    def key(self) -> str:
        """What stands for it."""
        return json.dumps([self.prompt, self.before], ensure_ascii=False)


class Policy(Protocol):
    """What answers questions, some at a time."""

    at_once: int

    def __call__(self, questions: Sequence[Question]) -> list[str]: ...


class LocalPolicy:
    """A causal language model in this process.

    What is sampled depends on the seed and the question alone.
    """

    def __init__(self, name: str, config: AnswersConfig):
        trusted = config.trust_remote_code
        self.config, self.at_once = config, config.batch_size
        self.tokenizer = load_tokenizer(name, trusted, chat=True)
        self.model = load_causal_lm(name, config.dtype, trusted).to(default_device())

    def __call__(self, questions: Sequence[Question]) -> list[str]:
        length, temperature = self.config.response_length, self.config.temperature
        episodes = [int(_hash(question.key)[:12], 16) for question in questions]
        noise = sampling_noise(self.config.seed, episodes, length)
        prompts = [question.prompt for question in questions]
        return generate(self.model, self.tokenizer, prompts, length, temperature, noise).texts


class ServedPolicy:
    """A chat model behind an OpenAI-compatible server.

    Args:
        name: ``MODEL@URL``, the URL ending in ``/v1``; the key is read from ``OPENAI_API_KEY``.
        config: How it answers.
    """

    def __init__(self, name: str, config: AnswersConfig):
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise InputError(
                f"{name} needs the extra 'server': pip install icm_rl[server]"
            ) from None
        self.model, _, self.url = name.partition("@")
        self.config, self.at_once = config, 4 * config.batch_size
        self._client = AsyncOpenAI(
            base_url=self.url,
            api_key=os.environ.get("OPENAI_API_KEY", "none"),
            timeout=config.request_timeout,
            max_retries=config.request_retries,
        )
        self._runner = asyncio.Runner()

    def __call__(self, questions: Sequence[Question]) -> list[str]:
        return self._runner.run(self._all(questions))

    async def _all(self, questions: Sequence[Question]) -> list[str]:
        free = asyncio.Semaphore(self.config.batch_size)
        return list(await asyncio.gather(*(self._ask(question, free) for question in questions)))

    async def _ask(self, question: Question, free: asyncio.Semaphore) -> str:
        from openai import OpenAIError

        try:
            async with free:
                answer = await self._client.chat.completions.create(
                    model=self.model,
                    messages=question.prompt,  # type: ignore[arg-type]
                    max_completion_tokens=self.config.response_length,
                    temperature=self.config.temperature,
                    seed=self.config.seed + question.before,
                )
        except OpenAIError as error:
            reason = str(error).strip().split("\n")[0][:300].replace(self._client.api_key, "…")
            raise InputError(f"{self.model}@{self.url}: no answer ({reason})") from None
        except ValueError:
            raise InputError(f"{self.model}@{self.url}: its answer is no JSON") from None
        try:
            return (answer.choices[0].message.content or "").strip()
        except (AttributeError, IndexError, TypeError):
            raise InputError(f"{self.model}@{self.url}: its answer is no completion") from None


def answer_prompts(name: str, prompts: Sequence[Messages], config: AnswersConfig) -> list[str]:
    """A policy's answer to each prompt, those that were generated before read from a folder.

    A prompt that is there twice gets two answers, at temperature 0 one. Each process answers a part
    of the prompts; all of them return the whole.

    Args:
        name: A directory, a Hub name, or ``MODEL@URL`` of a server.
        prompts: What it answers.
        config: How it answers.

    Raises:
        InputError: The policy cannot be loaded, or its server does not answer.
    """
    state = PartialState()
    identity = _identity(name, config)
    folder = Path(config.answers_dir) / _hash(json.dumps(identity))[:16]
    questions = _questions(prompts, config.temperature)
    known = _read(folder)
    state.wait_for_everyone()
    missing = {q.key: q for q in questions if q.key not in known}
    if missing:
        if state.is_main_process:
            write_json(folder / "policy.json", {"name": name, **identity})
        state.wait_for_everyone()
        policy: Policy = (ServedPolicy if _served(name) else LocalPolicy)(name, config)
        todo = sorted(missing, key=len)[state.process_index :: state.num_processes]
        shown = state.is_main_process
        progress = Progress(f"answers of {name}", len(todo), unit="answer", shown=shown)
        file = folder / f"answers-{uuid4().hex}.jsonl"
        found: dict[str, str] = {}
        for start in range(0, len(todo), policy.at_once):
            part = todo[start : start + policy.at_once]
            answers = dict(zip(part, policy([missing[key] for key in part]), strict=True))
            append_jsonl(
                file,
                ({**asdict(missing[key]), "answer": answers[key]} for key in part),
            )
            found |= answers
            progress.advance(len(part))
        progress.close()
        known |= dict(gather_object(list(found.items())))
    return [known[question.key] for question in questions]


def _questions(prompts: Sequence[Messages], temperature: float) -> list[Question]:
    asked: Counter[str] = Counter()
    questions = []
    for prompt in prompts:
        first = Question(prompt)
        questions.append(Question(prompt, asked[first.key] if temperature > 0 else 0))
        asked[first.key] += 1
    return questions


def _identity(name: str, config: AnswersConfig) -> dict[str, Any]:
    """What decides a policy's answers."""
    return {
        "policy": name if _served(name) else fingerprint(resolve(name), whole=True),
        "response_length": config.response_length,
        "temperature": config.temperature,
        "seed": config.seed,
        "dtype": config.dtype,
    }


def _served(name: str) -> bool:
    return "@http://" in name or "@https://" in name


def _read(folder: Path) -> dict[str, str]:
    """The answers of a folder by question; a line that a kill cut off is left out."""
    known = {}
    for path in sorted(folder.glob("answers-*.jsonl")):
        for row in read_appended(path):
            answer = row.pop("answer")
            known[Question(**row).key] = answer
    return known


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
