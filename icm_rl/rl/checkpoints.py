"""What a PPO run saves: its policy, and all that it needs to go on where it was killed."""

import shutil
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from icm_rl.files import check_whole, complete_checkpoints, drop_after, read_json, write_json

APPENDED = ("history.jsonl", "answers.jsonl")
"""The files to which each update adds."""


class Checkpoints:
    """The run's folder; all processes call each method together.

    Args:
        folder: The run's output folder.
        accelerator: Distributes the run.
        model: The policy with its value model, as the accelerator prepared it.
        tokenizer: The policy's tokenizer.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
    ):
        self.folder, self.accelerator = folder, accelerator
        self.model, self.tokenizer = model, tokenizer

    def save_policy(self, name: str) -> None:
        """Saves the policy, or its adapters, with its tokenizer, whole or not at all."""
        weights = self.accelerator.get_state_dict(self.model)
        if self.accelerator.is_main_process:
            own = {
                key.removeprefix("policy."): tensor
                for key, tensor in weights.items()
                if key.startswith("policy.")
            }
            folder, unfinished = self.folder / name, self.folder / f".{name}.tmp"
            policy = self.accelerator.unwrap_model(self.model).policy
            policy.save_pretrained(unfinished, state_dict=own)
            self.tokenizer.save_pretrained(unfinished)
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        self.accelerator.wait_for_everyone()

    def save(self, update: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint: models, optimizer, schedule, and the state that is given."""
        folder = self.folder / f"checkpoint-{update}"
        self.accelerator.save_state(str(folder))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            write_json(folder / "state.json", {"update": update, **state})
            for old in self._complete():
                if old != folder:
                    _remove(old)

    def resume(self) -> dict[str, Any] | None:
        """Loads the last checkpoint and returns its state; what was recorded later is dropped.

        Raises:
            InputError: A file was damaged.
        """
        complete, state = self._complete(), None
        if complete:
            check_whole(complete[-1])
            self.accelerator.load_state(str(complete[-1]))
            state = read_json(complete[-1] / "state.json")
        if self.accelerator.is_main_process:
            done = state["update"] if state else 0
            kept = {name: drop_after(self.folder / name, done) for name in APPENDED}
            if len(kept["history.jsonl"]) < done:
                print(
                    f"warning: {self.folder / 'history.jsonl'}: {len(kept['history.jsonl'])} of "
                    f"{done} updates are in it; the other lines are lost",
                    file=sys.stderr,
                )
        return state

    def _complete(self) -> list[Path]:
        """Complete checkpoints, oldest first; ``state.json`` is the last file of one."""
        return complete_checkpoints(self.folder, "state.json")


def _remove(folder: Path) -> None:
    """Removes a checkpoint, its ``state.json`` first, so that a half-removed one is not taken."""
    (folder / "state.json").unlink()
    shutil.rmtree(folder)
