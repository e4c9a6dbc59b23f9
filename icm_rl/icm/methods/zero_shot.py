"""The base model's own labels, without any demonstration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from icm_rl.icm.methods.answers import answered
from icm_rl.icm.methods.base import Job, Labeling, MadeConsistent
from icm_rl.icm.objective import LogProbs
from icm_rl.icm.prompting import zero_shot_log_probs
from icm_rl.tasks import Example


@dataclass
class ZeroShot(MadeConsistent):
    """Each example is asked by itself."""

    name: ClassVar[str] = "zero_shot"
    summary: ClassVar[str] = "each by itself, without any demonstration"
    shares_out: ClassVar[bool] = True

    def label(self, job: Job) -> Labeling:
        def ask(examples: Sequence[Example]) -> LogProbs:
            return zero_shot_log_probs(examples, job.engine)

        return answered(job, self.name, ask, self.consistency, self.centered)
