"""A chat model asked in words, several times, whose answers vote: the judge of RLAIF.

The paper's baseline of a chat model's labels, and what reinforcement learning from AI feedback
usually takes for its labels (Bai et al. 2022, Lee et al. 2023).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Annotated, ClassVar

from annotated_types import Ge

from icm_rl.errors import InputError
from icm_rl.generation.answers import AnswersConfig, answer_prompts
from icm_rl.icm.methods.base import Cost, Job, Labeling, MadeConsistent
from icm_rl.icm.objective import LogOdds, label_centers, labels_log_odds, less
from icm_rl.icm.prompting import chosen
from icm_rl.settings import INPUT
from icm_rl.tasks import Example, Task
from icm_rl.tasks.base import Messages

QUESTION = (
    "How does the last line of this text go on? Answer with one of these words and nothing else: "
    "{labels}\n\n{text}"
)


@dataclass
class Judge(MadeConsistent):
    """Each example is asked of a chat model, so many times; the majority of its answers decides."""

    name: ClassVar[str] = "judge"
    summary: ClassVar[str] = "by the majority of a chat model's answers in words"

    judge: Annotated[str, INPUT] = field(
        default="",
        metadata={
            "help": "Who is asked: a chat model's directory or name, or MODEL@URL of a server."
        },
    )
    question: str = field(
        default=QUESTION,
        metadata={"help": "What it is asked, with {text} and, where wanted, {labels}."},
    )
    samples: Annotated[int, Ge(1)] = field(
        default=10, metadata={"help": "K, how often; once takes the likeliest answer."}
    )
    response_length: Annotated[int, Ge(1)] = field(
        default=16,
        metadata={"help": "Most new tokens of an answer, of which the last label named counts."},
    )

    def check(self, job: Job) -> None:
        if not self.judge:
            raise InputError("--judge is missing: name the chat model that is asked")
        if "{text}" not in self.question:
            raise InputError("--question must have {text}, the place of the example")

    def label(self, job: Job) -> Labeling:
        names = ", ".join(words.strip() for words in job.task.verbalizers.values())
        prompts = [
            [{"role": "user", "content": _filled(self.question, names, example.text)}]
            for example in job.examples
            for _ in range(self.samples)
        ]
        config = AnswersConfig(
            response_length=self.response_length,
            temperature=1.0 if self.samples > 1 else 0.0,
            seed=job.seed,
            answers_dir=str(job.folder / "answers"),
        )
        with job.metered() as spent:
            answers = answer_prompts(self.judge, prompts, config)
        count = self.samples
        votes = [answers[start : start + count] for start in range(0, len(answers), count)]
        odds, without = voted(job.examples, votes, job.task)
        if self.centered:
            odds = less(odds, label_centers(odds))
        labels = chosen(job.examples, odds, job.task, self.consistency)
        figures = {"answers_without_label": without / len(answers)}
        cost = spent[0] + _read_and_said(job, prompts, answers)
        return Labeling(labels, labels_log_odds(job.task, labels, odds), cost, figures=figures)


def voted(
    examples: Sequence[Example], answers: Sequence[Sequence[str]], task: Task
) -> tuple[LogOdds, int]:
    """Each example's log-odds of each label by the votes for it, and how many answers had none.

    Of n votes k are for a label: log((k + 1/2) / (n − k + 1/2)), so that no vote is certain.

    Args:
        examples: What was asked.
        answers: The answers to each.
        task: Gives the labels.
    """
    odds: LogOdds = {}
    without = 0
    for example, own in zip(examples, answers, strict=True):
        found = [verdict(answer, task) for answer in own]
        votes = Counter(name for name in found if name is not None)
        without += found.count(None)
        odds[example.id] = tuple(
            log((votes[words] + 0.5) / (votes.total() - votes[words] + 0.5))
            for words in task.verbalizers.values()
        )
    return odds, without


def verdict(answer: str, task: Task) -> str | None:
    """The words of the last label that an answer names, in whatever case; None where it has none.

    The last, for an answer may weigh one label before it decides on another.
    """
    by_name = {words.strip().lower(): words for words in task.verbalizers.values()}
    names = "|".join(re.escape(name) for name in sorted(by_name, key=len, reverse=True))
    found = re.findall(rf"(?<!\w)(?:{names})(?!\w)", answer.lower())
    return by_name[found[-1]] if found else None


def _read_and_said(job: Job, prompts: Sequence[Messages], answers: Sequence[str]) -> Cost:
    """The tokens of all questions and answers, as the base model's tokenizer counts them."""
    texts = (prompt[0]["content"] + answer for prompt, answer in zip(prompts, answers, strict=True))
    tokens = sum(map(job.engine.count_tokens, texts))
    return Cost(prompt_tokens=tokens, computed_tokens=tokens)


def _filled(question: str, labels: str, text: str) -> str:
    """By replacement, not by format: the question and the text may have braces of their own."""
    return question.replace("{labels}", labels).replace("{text}", text)
