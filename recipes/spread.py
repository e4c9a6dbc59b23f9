"""Between stages 2 and 3: label many pairs by a reward model that learned a few.

    python recipes/spread.py --reward_model runs/reward --data pairs.jsonl --output_dir runs/spread
    python recipes/reward.py --preferences runs/spread/preferences.jsonl --soft_targets …

Started by ``accelerate launch``, its processes share out the pairs. Continues where it was stopped.
"""

import shutil
import time

from icm_rl.files import open_stage, write_json
from icm_rl.models import process_state
from icm_rl.report.printed import metrics_table
from icm_rl.reward.spreading import SpreadConfig, load_scorer, spread
from icm_rl.runner import already_complete, run
from icm_rl.settings import identity, inputs, parse
from icm_rl.shards import ShareDone, share_done_line
from icm_rl.terminal import say


def main() -> None:
    (config,) = parse([SpreadConfig])
    state = process_state()
    next(config.rows)  # a file that is not there is told before a model is loaded
    scorer = load_scorer(config)
    with state.main_process_first():
        stage = open_stage(
            config.output_dir, identity(config), inputs(config), shared=bool(config.shard)
        )
    if already_complete(stage, state.is_main_process):
        return
    start = time.monotonic()
    try:
        metrics = spread(config, scorer, stage.folder)
    except ShareDone:
        if state.is_main_process:
            say(share_done_line(config.shard))
        return
    if not state.is_main_process:
        return
    metrics["seconds"] = round(time.monotonic() - start, 2)
    write_json(stage.metrics, metrics)
    shutil.rmtree(stage.folder / "parts")
    say(metrics_table(metrics))


if __name__ == "__main__":
    run(main)
