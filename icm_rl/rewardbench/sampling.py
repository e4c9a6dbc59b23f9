"""Several responses to each prompt, sampled by a model, to be labeled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Gt

from icm_rl.errors import InputError
from icm_rl.generation.answers import AnswersConfig, answer_prompts
from icm_rl.rl.prompts import Prompt
from icm_rl.settings import EXECUTION, FUNCTION, INPUT, require_given
from icm_rl.tasks.base import Messages


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
    openings: Annotated[list[str], INPUT] = field(
        default_factory=list,
        metadata={
            "help": "Files with a conversation a row, in the column 'prompt', after which each "
            "prompt is asked, so that its responses differ; the responses' rows leave it out."
        },
    )
    responses_per_prompt: Annotated[int, Ge(1)] = field(
        default=4,
        metadata={"help": "Responses sampled to each prompt, or to it after each of --openings."},
    )
    response_length: Annotated[int, Ge(1)] = field(
        default=128, metadata={"help": "Most new tokens of a response."}
    )
    temperature: Annotated[float, Gt(0)] = field(
        default=1.0, metadata={"help": "Sampling temperature; the higher, the more they differ."}
    )
    rule: Annotated[str | None, FUNCTION] = field(
        default=None,
        metadata={
            "help": "Gives each response a gold label, to measure by: 'positive' (the sentiment by "
            "VADER's lexicon), or FILE.py:FUNCTION, called with the prompt's and the response's "
            "text; None where it cannot tell."
        },
    )
    output_dir: Annotated[str, EXECUTION] = field(
        default="runs/responses", metadata={"help": "Folder for responses.jsonl and metrics.json."}
    )

    def __post_init__(self) -> None:
        require_given(self, "model", "prompts")
        if self.responses_per_prompt == 1 and not self.openings:
            raise InputError(
                "--responses_per_prompt is 1, which is better than no other; give 2 or more, or "
                "--openings"
            )


def sample_responses(
    prompts: Sequence[Prompt], openings: Sequence[Messages], config: ResponsesConfig
) -> list[dict[str, Any]]:
    """A row for each prompt, with its messages and its responses, in the order of sampling.

    The same settings give the same responses, however they are batched, shared out among processes
    or interrupted.

    Args:
        prompts: What is responded to.
        openings: Conversations, after each of which every prompt is asked.
        config: The settings.

    Raises:
        InputError: The model cannot be loaded, or its server does not answer.
    """
    befores = [before for before in openings or [[]] for _ in range(config.responses_per_prompt)]
    asked = [[*before, *prompt.messages] for prompt in prompts for before in befores]
    answers, count = answer_prompts(config.model, asked, config), len(befores)
    return [
        {
            **{name: prompt.values[name] for name in ("id",) if name in prompt.values},
            "prompt": prompt.messages,
            "responses": answers[k * count : (k + 1) * count],
        }
        for k, prompt in enumerate(prompts)
    ]
