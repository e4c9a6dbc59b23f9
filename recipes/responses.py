"""Sample several responses to each prompt, to be labeled one by one.

    python recipes/responses.py --model smollm2 --prompts prompts.jsonl --output_dir runs/responses
    python recipes/icm.py --model smollm2 --task responses --data runs/responses/responses.jsonl

Continues where it was stopped: what was sampled is kept in ``--answers_dir``.
"""

import time

from icm_rl.files import open_stage, write_json, write_jsonl
from icm_rl.models import process_state
from icm_rl.report.printed import metrics_table
from icm_rl.rewardbench.sampling import ResponsesConfig, sample_responses
from icm_rl.rl.prompts import load_prompts
from icm_rl.rules import load_rule
from icm_rl.runner import already_complete, run
from icm_rl.settings import identity, inputs, parse
from icm_rl.tasks.pairs import as_query
from icm_rl.terminal import say

LABELS = {"true": True, "false": False, "unknown": None}


def main() -> None:
    (config,) = parse([ResponsesConfig])
    state = process_state()
    rule = load_rule(config.rule) if config.rule else None
    prompts = load_prompts(config.prompts)
    openings = [opening.messages for opening in load_prompts(config.openings)]
    with state.main_process_first():
        stage = open_stage(config.output_dir, identity(config), inputs(config))
    if already_complete(stage, state.is_main_process):
        return
    start = time.monotonic()
    rows = sample_responses(prompts, openings, config)
    gold: list[bool | None] = []
    if rule:
        for row in rows:
            row["labels"] = [rule(as_query(row["prompt"]), text) for text in row["responses"]]
            gold += row["labels"]
    if not state.is_main_process:
        return
    texts = [text for row in rows for text in row["responses"]]
    write_jsonl(stage.folder / "responses.jsonl", rows)
    metrics = {
        "prompts": len(rows),
        "responses": len(texts),
        "distinct_responses": len(set(texts)),
        **{f"gold_{name}": gold.count(label) for name, label in LABELS.items() if rule},
        "empty": sum(not text for text in texts),
        "words": sum(len(text.split()) for text in texts) / len(texts),
        "seconds": round(time.monotonic() - start, 2),
    }
    write_json(stage.metrics, metrics)
    say(metrics_table(metrics))


if __name__ == "__main__":
    run(main)
