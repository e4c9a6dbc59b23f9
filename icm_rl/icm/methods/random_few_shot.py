"""Few-shot prompting with random labels: what the format alone elicits.

The baseline of "Eliciting base models with simple unsupervised techniques" (2026), which found it
to recover much of the gap between zero-shot and golden many-shot prompting.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from statistics import fmean
from typing import Annotated, ClassVar

from annotated_types import Ge

from icm_rl.errors import InputError
from icm_rl.icm.methods.answers import answered
from icm_rl.icm.methods.base import Job, Labeling, MadeConsistent, Need
from icm_rl.icm.objective import LogProbs
from icm_rl.icm.pools import check_fit, example_tokens, how_many_fit
from icm_rl.icm.prompting import Shots, few_shot_log_probs
from icm_rl.tasks import Example

MOST_SHOTS = 32


@dataclass
class RandomFewShot(MadeConsistent):
    """Each example is asked after others with random labels, in several such contexts."""

    name: ClassVar[str] = "random_few_shot"
    summary: ClassVar[str] = "each in the context of others with random labels"
    shares_out: ClassVar[bool] = True

    most_shots = MOST_SHOTS
    """Those of a context where no number is set, if so many fit."""

    shots: Annotated[int | None, Ge(1)] = field(
        default=None,
        metadata={
            "help": f"N, the others in a context; by default as many as fit, at most {MOST_SHOTS}."
        },
    )
    draws: Annotated[int, Ge(1)] = field(
        default=1,
        metadata={"help": "Contexts drawn for each example, over which its answer is averaged."},
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.CONTEXTS})

    def check(self, job: Job) -> None:
        self._count(job)

    def label(self, job: Job) -> Labeling:
        return self.labeled_after(job, partial(random_shots, job), self.name, "answers")

    def labeled_after(
        self,
        job: Job,
        draw_shots: Callable[[Example, int, int, int], Shots],
        title: str,
        folder: str,
    ) -> Labeling:
        """The labels of all examples, each asked after shots of its own, in several draws.

        Args:
            job: The data set.
            draw_shots: Of an example, its group's size, N and the number of a draw, the shots.
            title: What is shown while one waits.
            folder: Where in the job's folder the answers are kept.
        """
        count, sizes = self._count(job), Counter(e.group for e in job.examples)

        def ask(examples: Sequence[Example]) -> LogProbs:
            answers = []
            for draw in range(self.draws):
                shots = [draw_shots(e, sizes[e.group], count, draw) for e in examples]
                answers.append(few_shot_log_probs(examples, shots, job.task, job.engine))
            return {
                e.id: tuple(map(fmean, zip(*(answer[e.id] for answer in answers), strict=True)))
                for e in examples
            }

        return answered(job, title, ask, self.consistency, self.centered, folder)

    def _count(self, job: Job) -> int:
        """N: the examples of a context.

        Raises:
            InputError: They do not fit the model's context, or there are not as many.
        """
        tokens = {e.id: example_tokens(e, job.task, job.engine) for e in job.examples}
        room = check_fit(job.examples, tokens, job.engine)
        fit = how_many_fit(list(tokens.values()), room) - 1  # beside the one that is asked
        others = len(job.examples) - max(Counter(e.group for e in job.examples).values())
        most = min(fit, others)
        if most < 1 or (self.shots or 0) > most:
            raise InputError(
                f"--shots {self.shots or 1}: of these {len(job.examples)} examples {max(most, 0)} "
                "of other groups fit a context beside the one that is asked; set fewer, or use "
                "more examples or a model with a longer context"
            )
        return self.shots or min(most, self.most_shots)


def random_shots(job: Job, example: Example, group_size: int, count: int, draw: int) -> Shots:
    """Examples of other groups in random order, with as many of each label, shuffled.

    They depend on the seed, the example and the draw alone.

    Args:
        job: The data set.
        example: The one that is to be labeled.
        group_size: The examples of its group, itself included.
        count: N, how many others are drawn.
        draw: The number of the context.
    """
    rng = random.Random(f"few-shot {job.seed} {draw} {example.id}")
    drawn = rng.sample(job.examples, min(count + group_size, len(job.examples)))
    others = [e for e in drawn if e.group != example.group][:count]
    labels = list(job.task.verbalizers)
    rng.shuffle(labels)  # where N is no multiple of their number, chance has the last ones
    values = list(islice(cycle(labels), count))
    rng.shuffle(values)
    return list(zip(others, values, strict=True))
