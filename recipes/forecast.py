"""Whether a base model's labels are to be trusted, forecast in a minute, without a gold label.

    python recipes/forecast.py --config recipes/configs/miniature/icm.yaml

Takes the settings of recipes/icm.py. Draws at most 48 examples, whole groups that fit the context;
labels each after up to eight others with random labels; asks the model about them again after other
sets of labels; and says how right labels are of which it says such things. Writes nothing.
"""

import random
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from icm_rl.engines.loading import load_engine
from icm_rl.errors import InputError
from icm_rl.icm.config import parse_icm
from icm_rl.icm.forecast import Fit
from icm_rl.icm.methods import Job
from icm_rl.icm.methods.beginning import beginning
from icm_rl.icm.pools import drawn_groups
from icm_rl.icm.prompting import accuracy
from icm_rl.icm.signals import FEWEST_GROUPS, MOST_EXAMPLES, sampled_signals
from icm_rl.report.names import signal_rows
from icm_rl.runner import run
from icm_rl.terminal import say


def main() -> None:
    config, _ = parse_icm()
    task = config.configured_task
    data = task.load(config.source, config.limit)
    engine = load_engine(config.model, list(task.verbalizers.values()), config)
    rng = random.Random(f"forecast {config.seed}")
    room = engine.context_length - 1
    examples = drawn_groups(data.examples, task, engine, MOST_EXAMPLES, room, rng)
    if len({example.group for example in examples}) < FEWEST_GROUPS:
        raise InputError(
            f"a forecast takes {FEWEST_GROUPS} consistency groups that fit the model's context of "
            f"{engine.context_length} tokens together; give more examples, shorter ones, or a "
            "model with a longer context"
        )
    with TemporaryDirectory() as folder:
        job = Job(examples, task, engine, config.seed, Path(folder))
        labels = beginning("random_few_shot", consistency=True, centered=True).label(job).labels
    signals = sampled_signals(examples, labels, task, engine, config.seed)
    assert signals is not None  # these groups fit together
    forecast = Fit.shipped().forecast(signals)
    right = accuracy(labels, data.gold)
    rows = {
        "examples asked": f"{len(examples)} of {len(data.examples)}",
        "labels right, forecast": f"{100 * forecast.accuracy:.1f} %",
        "90 % interval": f"{100 * forecast.low:.1f} – {100 * forecast.high:.1f} %",
        **({} if right is None else {"right by the gold labels": f"{100 * right:.1f} %"}),
        **signal_rows(asdict(signals)),
        "verdict": forecast.verdict,
    }
    if forecast.verdict == "look first":
        rows["to be judged by you"] = f"{forecast.to_audit(len(data.examples))} labels at random"
    say("| | |\n|---|---|")
    for name, value in rows.items():
        say(f"| {name} | {value} |")


if __name__ == "__main__":
    run(main)
