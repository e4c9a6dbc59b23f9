"""What rewards an answer: reward models and functions, weighted, each for all prompts or for some.

PPO and GRPO read the same settings and score by the same code.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated

import torch

from icm_rl.errors import InputError
from icm_rl.functions import function_file, load_function
from icm_rl.models import resolve
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.rl.prompts import Prompt
from icm_rl.settings import INPUT, require_given

_ENTRY = re.compile(r"(?P<name>.+?)(=(?P<weight>[^=@]+))?(@(?P<source>[^=@]+))?")


@dataclass
class RewardsConfig:
    """What the policy answers, and what rewards its answers."""

    prompts: Annotated[list[str], INPUT] = field(
        default_factory=list,
        metadata={
            "help": "Files or data sets on the Hub with a prompt a row, as text or as messages; "
            "a row's source is its field 'source' or its file's name without the ending."
        },
    )
    rewards: list[str] = field(
        default_factory=list,
        metadata={
            "help": "NAME, NAME=WEIGHT or NAME=WEIGHT@SOURCE each: a reward model, 'math_answer' "
            "(the row's 'answer' is the answer's last result), or FILE.py:FUNCTION, called like a "
            "reward function of TRL's. Without a source it rewards every prompt."
        },
    )
    reward_dtype: str = field(
        default="auto", metadata={"help": "Number type of the reward models; 'auto': as saved."}
    )
    eval_prompts: Annotated[list[str], INPUT] = field(
        default_factory=list,
        metadata={"help": "Held-out prompts on which the policy is evaluated."},
    )

    def __post_init__(self) -> None:
        require_given(self, "prompts", "rewards")


Score = Callable[[Sequence[Prompt], Sequence[str]], Sequence[float | None]]
"""Rewards of answers to prompts; None where it has nothing to say of one."""


@dataclass(frozen=True)
class Reward:
    """One term of the reward.

    Attributes:
        name: As in the settings.
        weight: What its scores are multiplied by.
        source: The source whose prompts it rewards, or None for all of them.
        score: How it scores.
    """

    name: str
    weight: float
    source: str | None
    score: Score

    @property
    def label(self) -> str:
        """The name, with the source where it has one."""
        return self.name if self.source is None else f"{self.name}@{self.source}"

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float | None]:
        """The scores, unweighted; None for prompts of other sources.

        Raises:
            InputError: A score is not a finite number.
        """
        scores: list[float | None] = [None] * len(prompts)
        own = [i for i, prompt in enumerate(prompts) if self.source in (None, prompt.source)]
        if own:
            found = self.score([prompts[i] for i in own], [answers[i] for i in own])
            for i, score in zip(own, found, strict=True):
                if score is not None and not math.isfinite(score):
                    raise InputError(
                        f"{self.name} gives {score} for the answer {answers[i]!r} to the prompt "
                        f"{prompts[i].messages[-1]['content']!r} ({prompts[i].where})"
                    )
                scores[i] = score
        return scores


def load_rewards(
    config: RewardsConfig, trust_remote_code: bool = False, device: torch.device | None = None
) -> list[Reward]:
    """The terms of the reward that the settings name.

    Raises:
        InputError: A term cannot be read or loaded.
    """

    @cache
    def score(name: str) -> Score:
        if name == "math_answer":
            return math_answer
        if ".py:" in name:
            return _by_function(load_function("rewards", name))
        scorer = RewardScorer.load(
            name, config.reward_dtype, trust_remote_code=trust_remote_code, device=device
        )
        return lambda prompts, answers: scorer.score(
            [
                conversation(prompt.messages, answer)
                for prompt, answer in zip(prompts, answers, strict=True)
            ]
        )

    parsed = [_parsed(entry) for entry in config.rewards]
    return [Reward(name, weight, source, score(name)) for name, weight, source in parsed]


def _parsed(entry: str) -> tuple[str, float, str | None]:
    """The name, the weight and the source that an entry of ``--rewards`` gives."""
    parts = _ENTRY.fullmatch(entry)
    try:
        if parts:
            return parts["name"], float(parts["weight"] or 1), parts["source"]
    except ValueError:
        pass
    raise InputError(f"--rewards {entry}: not NAME, NAME=WEIGHT or NAME=WEIGHT@SOURCE")


def input_paths(config: RewardsConfig, rewards: Sequence[Reward]) -> dict[str, str]:
    """The files and model directories that prompts and rewards are read from, by their names."""
    own = {reward.name: resolve(function_file(reward.name)) for reward in rewards}
    return own | {path: path for path in (*config.prompts, *config.eval_prompts)}


def check_sources(
    rewards: Sequence[Reward], prompts: Sequence[Prompt], held_out: Sequence[Prompt] = ()
) -> None:
    """Checks that each reward has prompts, and each prompt a reward.

    Raises:
        InputError: One has none.
    """
    known = {prompt.source for prompt in (*prompts, *held_out)}
    for reward in rewards:
        if reward.source is not None and reward.source not in known:
            raise InputError(
                f"--rewards {reward.name}@{reward.source}: no prompt is of that source "
                f"(sources: {', '.join(sorted(known))})"
            )
    for prompt in (*prompts, *held_out):
        if all(reward.source not in (None, prompt.source) for reward in rewards):
            raise InputError(
                f"{prompt.where}: nothing in --rewards rewards the source '{prompt.source}'"
            )


def weighted_sum(
    rewards: Sequence[Reward], prompts: Sequence[Prompt], answers: Sequence[str]
) -> tuple[list[float], dict[str, list[float | None]]]:
    """The reward of each answer, and each term's scores by its label.

    Raises:
        InputError: A score is not a finite number.
    """
    terms = [(reward, reward(prompts, answers)) for reward in rewards]
    sums = [0.0] * len(prompts)
    for reward, scores in terms:
        for i, score in enumerate(scores):
            if score is not None:
                sums[i] += reward.weight * score
    return sums, {reward.label: scores for reward, scores in terms}


def math_answer(prompts: Sequence[Prompt], answers: Sequence[str]) -> list[float]:
    """1 where the last result in the answer equals the row's ``answer``, 0 where not.

    Numbers and LaTeX are read and compared by math-verify.

    Raises:
        InputError: A row has no ``answer``, or math-verify is not installed.
    """
    try:
        from math_verify import parse, verify
    except ImportError:
        raise InputError("math_answer needs math-verify: pip install icm_rl[math]") from None
    for prompt in prompts:
        if "answer" not in prompt.values:
            raise InputError(
                f"{prompt.where}: math_answer needs the field 'answer'; add it, or limit the "
                "reward to a source that has it: math_answer@SOURCE"
            )
    return [
        float(verify(parse(str(prompt.values["answer"])), parse(answer)))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _by_function(function: Callable[..., Sequence[float | None]]) -> Score:
    """Calls a reward function as TRL's trainers do: each column of the rows is a keyword."""

    def score(prompts: Sequence[Prompt], answers: Sequence[str]) -> Sequence[float | None]:
        columns = {name for prompt in prompts for name in prompt.values} - {"prompt", "source"}
        return function(
            prompts=[prompt.messages for prompt in prompts],
            completions=[[{"role": "assistant", "content": answer}] for answer in answers],
            source=[prompt.source for prompt in prompts],
            **{name: [prompt.values.get(name) for prompt in prompts] for name in columns},
        )

    return score
