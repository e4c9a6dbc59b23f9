"""Several responses to each prompt, sampled by a model, to be labeled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt

from icm_rl.rewardbench.answers import AnswersConfig, answer_prompts
from icm_rl.rl.prompts import Prompt
from icm_rl.settings import EXECUTION, INPUT, require_given


@dataclass
class ResponsesConfig(AnswersConfig):
    """Responses to prompts, for --task responses of recipes/icm.py."""

    model: Annotated[str, INPUT] = field(
        default="",
        metadata={
            "help": "Who responds: a directory, a .gguf file, a Hub name, 'miniature', 'smollm2', "
            "or MODEL@URL of an OpenAI-compatible server."
        },
    )
    prompts: Annotated[list[str], INPUT] = field(
        default_factory=list,
        metadata={
            "help": "Files or data sets on the Hub with a prompt a row, as text or as messages."
        },
    )
    responses_per_prompt: Annotated[int, Ge(2)] = field(
        default=4, metadata={"help": "Responses sampled to each prompt."}
    )
    response_length: Annotated[int, Ge(1)] = field(
        default=128, metadata={"help": "Most new tokens of a response."}
    )
    temperature: Annotated[float, Gt(0)] = field(
        default=1.0, metadata={"help": "Sampling temperature; the higher, the more they differ."}
    )
    output_dir: Annotated[str, EXECUTION] = field(
        default="runs/responses", metadata={"help": "Folder for responses.jsonl and metrics.json."}
    )

    def __post_init__(self) -> None:
        require_given(self, "model", "prompts")


def sample_responses(prompts: Sequence[Prompt], config: ResponsesConfig) -> list[dict[str, Any]]:
    """A row for each prompt, with its messages and its responses, in the order of sampling.

    The same settings give the same responses, however they are batched, shared out among processes
    or interrupted.

    Raises:
        InputError: The model cannot be loaded, or its server does not answer.
    """
    count = config.responses_per_prompt
    asked = [prompt.messages for prompt in prompts for _ in range(count)]
    answers = answer_prompts(config.model, asked, config)
    return [
        {
            **{name: prompt.values[name] for name in ("id",) if name in prompt.values},
            "prompt": prompt.messages,
            "responses": answers[k * count : (k + 1) * count],
        }
        for k, prompt in enumerate(prompts)
    ]
