"""Jobs that know nothing of each other share work out, and a run without a share ends it."""

import os

import pytest

from icm_rl.errors import InputError
from icm_rl.files import open_stage
from icm_rl.icm.config import parse_icm
from icm_rl.reward import spreading
from icm_rl.reward.scorer import RewardScorer
from icm_rl.reward.spreading import SpreadConfig, spread
from icm_rl.shards import Shard, ShareDone
from tests.conftest import kill_when, run, start

ICM = ("recipes/icm.py", "--config", "recipes/configs/miniature/icm.yaml", "--processes", 1)
ICM = (*ICM, "--limit", 6, "--pool_size", 4, "--iterations_per_example", 1)
ICM = (*ICM, "--signals", "false", "--baselines", "false")


@pytest.mark.process
def test_a_search_by_shards_finds_the_same_labels(data, tmp_path):
    command = (*ICM, "--data", data / "preferences_train.jsonl")
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(*command, "--output_dir", whole)
    shards = [(*command, "--output_dir", out, "--shard", f"{n}/2") for n in (1, 2)]
    # the first, of two pools, is killed after one; the second, of one, runs beside it
    other = start(*shards[1])
    kill_when(shards[0], (out / "pools" / "00000-0.json").exists)
    other.join()
    assert other.exitcode == 0
    done = run(*shards[0])
    assert done.stdout == (
        "shard 1/2: its share is done; when all are, the same command without --shard writes the "
        "results\n"
    )
    assert not (out / "labels.jsonl").exists()
    run(*command, "--output_dir", out)
    assert (out / "labels.jsonl").read_bytes() == (whole / "labels.jsonl").read_bytes()


def test_pairs_are_scored_by_shards_as_by_one_run(reward_model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(spreading, "ROWS_AT_ONCE", 4)
    scorer = RewardScorer.load(str(reward_model), "float32")
    source = {"reward_model": "unused", "data": str(data / "preferences_test.jsonl"), "limit": 18}
    whole = spread(SpreadConfig(**source), scorer, tmp_path / "whole")
    for number in (3, 1):  # of three; the second's part is left to the run without a share
        with pytest.raises(ShareDone):
            spread(SpreadConfig(**source, shard=f"{number}/3"), scorer, tmp_path / "out")
    parts = sorted(file.stem for file in (tmp_path / "out" / "parts").iterdir())
    assert parts == ["000000", "000002", "000003"]
    assert spread(SpreadConfig(**source), scorer, tmp_path / "out") == whole
    one, other = (tmp_path / name / "preferences.jsonl" for name in ("whole", "out"))
    assert one.read_bytes() == other.read_bytes()


def test_a_folder_is_shared_by_shards_alone(tmp_path):
    if process := os.fork():
        _, status = os.waitpid(process, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        return
    code = 1
    try:
        open_stage(tmp_path / "out", {}, {}, shared=True)
        if other := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
        else:
            from icm_rl import files

            files._LOCKED.clear()
            open_stage(tmp_path / "out", {}, {}, shared=True)
            files._LOCKED.clear()
            with pytest.raises(InputError, match="another run is at work here"):
                open_stage(tmp_path / "out", {}, {})
            code = 0
    finally:
        os._exit(code)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_share_that_is_none_is_told(text):
    with pytest.raises(InputError, match=f"--shard {text}: write I/N"):
        Shard.parse(text)


@pytest.mark.parametrize("flags", ["--method folds", "--iterative", "--method golden"])
def test_what_cannot_be_shared_out_is_told(flags):
    with pytest.raises(InputError, match="is no work that shards could share out; drop --shard"):
        parse_icm([*flags.split(), "--shard", "1/2"])
