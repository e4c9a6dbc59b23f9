"""Self-training with a confidence filter: a model learns its own surest labels and labels again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.methods.answers import answered, round_record
from icm_rl.icm.methods.base import Job, Labeling, MadeConsistent, Need
from icm_rl.icm.methods.learned import learned
from icm_rl.icm.objective import LogProbs
from icm_rl.icm.prompting import zero_shot_log_probs
from icm_rl.tasks import Example, Label


@dataclass
class SelfTraining(FinetuneConfig, MadeConsistent):
    """Zero-shot labels first; then, round by round, those of a model that learned the surest."""

    name: ClassVar[str] = "self_training"
    summary: ClassVar[str] = "by a model that learned its own surest labels, round after round"

    rounds: Annotated[int, Ge(1)] = field(
        default=2, metadata={"help": "R: how often all are labeled again."}
    )
    surest: Annotated[float, Gt(0), Le(1)] = field(
        default=0.5, metadata={"help": "The share of each label's examples that a model learns."}
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.TRAINING})

    def label(self, job: Job) -> Labeling:
        labeling = self._labeled(job, "zero-shot", "round-0")
        cost, history = labeling.cost, [round_record(0, {}, labeling.labels)]
        for number in range(1, self.rounds + 1):
            before = labeling
            shown = surest(job.examples, before.labels, before.log_odds, self.surest)
            shots = [(e, before.labels[e.id]) for e in shown]
            engine, spent = learned(job, shots, self, f"model-{number}")
            own = replace(job, engine=engine)
            labeling = self._labeled(own, f"round {number}/{self.rounds}", f"round-{number}")
            cost += spent + labeling.cost
            history.append(round_record(number, before.labels, labeling.labels))
        return replace(labeling, cost=cost, history=history)

    def _labeled(self, job: Job, title: str, folder: str) -> Labeling:
        def ask(examples: Sequence[Example]) -> LogProbs:
            return zero_shot_log_probs(examples, job.engine)

        return answered(job, title, ask, self.consistency, self.centered, folder)


def surest(
    examples: Sequence[Example],
    labels: Mapping[str, Label],
    log_odds: Mapping[str, float],
    share: float,
) -> list[Example]:
    """Of each label's examples the share with the highest log-odds, one at least; in their order.

    By label, or a label that the model prefers would be all that it learns.
    """
    kept: set[str] = set()
    for label in set(labels.values()):
        ids = [e.id for e in examples if labels[e.id] == label]
        ids.sort(key=lambda id: -log_odds[id])
        kept.update(ids[: max(1, round(share * len(ids)))])
    return [e for e in examples if e.id in kept]
