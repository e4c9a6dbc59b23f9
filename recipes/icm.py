"""Stage 1: label a data set with a base model, by Internal Coherence Maximization or otherwise.

    python recipes/icm.py --config recipes/configs/miniature/icm.yaml

``--method`` names the way to label. With ``--processes N``, or started by ``torchrun
--nproc_per_node N``, its processes share out the work.

Departs from Algorithms 1 and 2 of the paper in four points. As in the authors' code, the mutual
predictability is the mean of the labels' log-odds (``--objective``), a proposal that repeats the
current label is not scored, and what one contradicts is resolved at any cost
(``--fix_at_any_cost``); and its fix heeds its own group and one pair of the others that stand.
"""

import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue

import torch
from accelerate.utils.other import get_free_port
from torch.multiprocessing import ProcessExitedException, get_context, start_processes

from icm_rl.data import left_out_line
from icm_rl.engines.loading import load_engine
from icm_rl.errors import InputError
from icm_rl.files import open_stage
from icm_rl.icm.config import IcmConfig, parse_icm
from icm_rl.icm.labeling import label_dataset, prepared
from icm_rl.icm.methods import Method, Need
from icm_rl.models import process_state
from icm_rl.report.printed import metrics_table
from icm_rl.runner import already_complete, quiet_libraries, run
from icm_rl.settings import identity, inputs
from icm_rl.shards import ShareDone, share_done_line
from icm_rl.terminal import say


def main() -> None:
    config, method = parse_icm()
    launched = "LOCAL_RANK" in os.environ
    processes, devices = 1 if launched else config.processes, torch.accelerator.device_count()
    if 0 < devices < processes:
        if config.server and Need.TRAINING not in method.needs:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # they only ask, and a GPU has one process
        else:
            processes = devices
    if processes == 1:
        label(config, method)
        return
    # a process that was forked could not use a GPU, and one that was not imports all anew
    start = "spawn" if devices else "fork"
    errors = get_context(start).SimpleQueue()
    args = (sys.argv[1:], processes, get_free_port(), errors)
    try:
        start_processes(_process, args, processes, start_method=start)
    except ProcessExitedException as error:
        if not errors.empty():
            raise InputError(errors.get()) from None
        raise SystemExit(error.exit_code) from None


def _process(
    rank: int, args: Sequence[str], processes: int, port: int, errors: SimpleQueue
) -> None:
    # torch sends this when the starting process dies; a script's background job would ignore it
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threads = max(1, torch.get_num_threads() // processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    quiet_libraries()
    try:
        label(*parse_icm(args))
    except InputError as error:
        errors.put(str(error))
        sys.exit(2)


def label(config: IcmConfig, method: Method) -> None:
    """Labels the data set; of several processes, each calls this."""
    state = process_state()
    task = config.configured_task
    data = task.load(config.source, config.limit)
    if data.left_out and state.is_main_process:
        say(left_out_line(str(config.source), data.left_out.values()), file=sys.stderr)
    engine = load_engine(config.model, list(task.verbalizers.values()), config)
    job = prepared(data, engine, config, method)
    read = inputs(config, method) | {"data": str(config.source)}
    with state.main_process_first():
        stage = open_stage(
            config.output_dir, identity(config, method), read, shared=bool(config.shard)
        )
    if already_complete(stage, state.is_main_process):
        return
    try:
        metrics = label_dataset(data, job, config, method)
    except ShareDone:
        if state.is_main_process:
            say(share_done_line(config.shard))
        return
    if metrics is not None:
        say(metrics_table(metrics))


if __name__ == "__main__":
    run(main)
