"""Linear probes of hidden states, found without labels: CCS, PCA and a random direction.

Burns et al. 2023, "Discovering latent knowledge in language models without supervision"; the paper
compares ICM with CCS in its Appendix E.2. A contrast pair is an example with each of its two
labels; a direction in hidden space tells one from the other. No such method knows which end of its
direction is which label, and public code asks gold labels. Here the end is taken that agrees with
zero-shot prompting on more of the examples.
"""

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from safetensors.torch import load_file, save_file

from icm_rl.engines import LocalEngine
from icm_rl.errors import InputError
from icm_rl.files import read_json, write_json
from icm_rl.icm.methods.answers import answered, in_parts
from icm_rl.icm.methods.base import (
    Cost,
    Job,
    Labeling,
    MadeConsistent,
    Need,
    check_two_labels,
)
from icm_rl.icm.objective import LogOdds, LogProbs, label_centers, labels_log_odds, less
from icm_rl.icm.prompting import chosen, zero_shot_log_probs
from icm_rl.tasks import Example

_ROWS = 16
"""Texts of a forward pass."""


@dataclass
class Probe(MadeConsistent):
    """Labels by a direction in the hidden states of contrast pairs."""

    shares_out: ClassVar[bool] = True

    layer: Annotated[int | None, Ge(0)] = field(
        default=None,
        metadata={
            "help": "Whose hidden states are read: 0 is the embeddings; by default the middle one."
        },
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.HIDDEN_STATES})

    @abstractmethod
    def log_odds(self, states: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Each example's log-odds of the first label against the second, or of the second.

        Args:
            states: (2, examples, width): the normalised hidden states with each label.
            generator: Draws what is random.
        """

    def check(self, job: Job) -> None:
        check_two_labels(self, job)
        layers = _local(job).model.config.get_text_config().num_hidden_layers
        if self.layer is not None and self.layer > layers:
            raise InputError(f"--layer {self.layer}: the model has {layers}; set at most that")

    def label(self, job: Job) -> Labeling:
        def ask(examples: Sequence[Example]) -> LogProbs:
            return zero_shot_log_probs(examples, job.engine)

        alone = answered(job, "zero-shot", ask, False, self.centered)
        states, cost = contrast_states(job, self.layer)
        with job.metered() as spent:
            found = self.log_odds(normalized(states), torch.Generator().manual_seed(job.seed))
        first = next(iter(job.task.verbalizers))
        by_zero_shot = torch.tensor([alone.labels[e.id] == first for e in job.examples])
        agreement = ((found > 0) == by_zero_shot).double().mean().item()
        if agreement < 0.5:
            found, agreement = -found, 1 - agreement
        odds: LogOdds = {
            e.id: (value, -value) for e, value in zip(job.examples, found.tolist(), strict=True)
        }
        if self.centered:
            odds = less(odds, label_centers(odds))
        labels = chosen(job.examples, odds, job.task, self.consistency)
        return Labeling(
            labels,
            labels_log_odds(job.task, labels, odds),
            alone.cost + cost + spent[0],
            figures={"zero_shot_agreement": agreement},
        )


@dataclass
class CCS(Probe):
    """Contrast-consistent search, with the hyperparameters of Burns et al."""

    name: ClassVar[str] = "ccs"
    summary: ClassVar[str] = "by a probe that finds one of a claim and its opposite true (CCS)"

    tries: Annotated[int, Ge(1)] = field(
        default=10, metadata={"help": "Random probes that are trained; that of least loss is kept."}
    )
    probe_epochs: Annotated[int, Ge(1)] = field(
        default=1000, metadata={"help": "Steps of the probe's training, each on all pairs."}
    )
    probe_learning_rate: Annotated[float, Gt(0)] = field(
        default=0.01, metadata={"help": "The probe's learning rate, of AdamW."}
    )

    def log_odds(self, states: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        weights = torch.randn(self.tries, states.shape[-1], generator=generator)
        weights = (weights / weights.norm(dim=1, keepdim=True)).requires_grad_()
        biases = torch.zeros(self.tries, 1, requires_grad=True)
        optimizer = torch.optim.AdamW([weights, biases], lr=self.probe_learning_rate)
        for _ in range(self.probe_epochs):
            losses = ccs_loss(*_probabilities(states, weights, biases))
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
        with torch.no_grad():
            first, second = _probabilities(states, weights, biases)
            best = ccs_loss(first, second).argmin()
            return torch.logit((first[best] + 1 - second[best]) / 2, eps=1e-6)


@dataclass
class PCA(Probe):
    """The direction in which the two sides of contrast pairs differ most differently."""

    name: ClassVar[str] = "pca"
    summary: ClassVar[str] = "by the main direction between a claim and its opposite (PCA)"

    def log_odds(self, states: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        differences = states[0] - states[1]
        _, _, components = torch.linalg.svd(differences - differences.mean(0), full_matrices=False)
        return _scaled(differences @ components[0])


@dataclass
class RandomProbe(Probe):
    """A random direction: what the sign alone, by zero-shot prompting, is worth."""

    name: ClassVar[str] = "random_probe"
    summary: ClassVar[str] = "by a random direction between a claim and its opposite"

    def log_odds(self, states: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        direction = torch.randn(states.shape[-1], generator=generator)
        return _scaled((states[0] - states[1]) @ direction)


def ccs_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Equation 3 of Burns et al.: the mean over pairs of consistency and confidence losses.

    Args:
        first: (probes, pairs): the probabilities that an example with the first label is true.
        second: The same with the second label.

    Returns:
        (probes,)
    """
    consistency = (first - (1 - second)) ** 2
    confidence = torch.minimum(first, second) ** 2
    return (consistency + confidence).mean(-1)


def normalized(states: torch.Tensor) -> torch.Tensor:
    """Hidden states with zero mean and unit variance over the examples, each label's by itself.

    So that which label was appended is not what a probe finds.

    Args:
        states: (2, examples, width).
    """
    centered = states - states.mean(1, keepdim=True)
    deviations = centered.pow(2).mean(1, keepdim=True).sqrt()
    return centered / deviations.clamp(min=1e-6)


def contrast_states(job: Job, layer: int | None) -> tuple[torch.Tensor, Cost]:
    """The hidden state at the last token of each example with each label, and what it took.

    Args:
        job: The data set.
        layer: Whose states; by default the middle layer's.

    Returns:
        (2, examples, width), and the cost.
    """
    engine = _local(job)
    if layer is None:
        layer = math.ceil(engine.model.config.get_text_config().num_hidden_layers / 2)

    def save(examples: Sequence[Example], file: Path) -> None:
        with job.metered() as spent:
            texts = [e.text + words for words in engine.continuations for e in examples]
            states = last_states(engine, texts, layer)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".new")
        save_file({"states": states.reshape(2, len(examples), -1)}, unfinished)
        write_json(file.with_suffix(".json"), spent[0].to_json())
        unfinished.rename(file)

    files = in_parts(job, "hidden states", job.folder / "states", ".safetensors", save)
    states = torch.cat([load_file(file)["states"] for file in files], 1)
    costs = (Cost(**read_json(file.with_suffix(".json"))) for file in files)
    return states, sum(costs, Cost())


@torch.inference_mode()
def last_states(engine: LocalEngine, texts: Sequence[str], layer: int) -> torch.Tensor:
    """The hidden state of each text at its last token, after so many layers, (texts, width).

    Texts are batched with others of their length: padding would go into some models' state.
    """
    tokenizer, device = engine.tokenizer, engine.model.device
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for index, text in enumerate(texts):
        ids = first + tokenizer.encode(text, add_special_tokens=False)
        by_length[len(ids)].append((index, ids))
    states: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    for of_length in by_length.values():
        for start in range(0, len(of_length), _ROWS):
            rows = of_length[start : start + _ROWS]
            ids = torch.tensor([ids for _, ids in rows], device=device)
            output = engine.model.base_model(
                input_ids=ids, use_cache=False, output_hidden_states=True
            )
            engine.prompt_tokens += ids.numel()
            engine.computed_tokens += ids.numel()
            last = output.hidden_states[layer][:, -1].float().cpu()
            for (index, _), state in zip(rows, last, strict=True):
                states[index] = state
    return torch.stack(states)


def _probabilities(
    states: torch.Tensor, weights: torch.Tensor, biases: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(probes, pairs) each: how likely true an example is with the first and the second label."""
    first, second = (torch.sigmoid(weights @ of_label.T + biases) for of_label in states)
    return first, second


def _scaled(scores: torch.Tensor) -> torch.Tensor:
    """Scores, which have no unit of their own, in their standard deviations."""
    return scores / scores.pow(2).mean().sqrt().clamp(min=1e-12)


def _local(job: Job) -> LocalEngine:
    assert isinstance(job.engine, LocalEngine)  # what has hidden states to give
    return job.engine
