"""Jobs side by side give what they give one after another, in fuller batches."""

import random
import threading

import pytest

from icm_rl.engines import LocalEngine, Request
from icm_rl.engines.in_step import in_step

WORDS = (" True", " False")
PIECES = [f"The {word} is {color}.\n" for word in ("zeb", "lake") for color in ("red", "blue")]


def asked(rng: random.Random, count: int) -> list[Request]:
    return [
        Request(tuple(rng.choices(PIECES, k=rng.randint(0, 9))), rng.choice(PIECES))
        for _ in range(count)
    ]


@pytest.mark.parametrize("cache_tokens", [1, 400, 100_000])
def test_engines_apart_answer_together_as_each_by_itself(model, tokenizer, cache_tokens):
    engine = LocalEngine(model, tokenizer, WORDS, cache_tokens)
    parts = engine.apart(3)
    alone = LocalEngine(model, tokenizer, WORDS, cache_tokens).apart(3)
    rng = random.Random(1)
    for _ in range(3):  # what was kept of the calls before is made use of
        requests = [asked(rng, count) for count in (20, 0, 7)]
        found = LocalEngine.together(list(zip(parts, requests, strict=True)))
        for part, own, answers, of_part in zip(parts, alone, found, requests, strict=True):
            expected = own.label_log_probs(of_part)
            assert len(answers) == len(of_part)
            for answer, other in zip(answers, expected, strict=True):
                assert answer == pytest.approx(other, abs=1e-4)
            assert part.prompt_tokens == own.prompt_tokens
            assert part.computed_tokens == own.computed_tokens
    assert engine.prompt_tokens == 0


def job(seed: int):
    """A job whose requests depend on the answers so far."""

    def run(engine):
        rng, total = random.Random(seed), 0.0
        for _ in range(3 + seed):
            answers = engine.label_log_probs(asked(rng, 1 + seed))
            total += sum(answer[rng.random() < 0.5] for answer in answers)
            rng.seed(f"{seed} {total:.1f}")
        return total

    return run


def test_jobs_in_step_return_what_they_return_by_themselves(model, tokenizer):
    engine = LocalEngine(model, tokenizer, WORDS)
    calls, together = [], LocalEngine.together

    def counted(of_engines):
        calls.append(len(of_engines))
        return together(of_engines)

    jobs = [job(seed) for seed in range(5)]
    alone = [run(LocalEngine(model, tokenizer, WORDS)) for run in jobs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalEngine, "together", staticmethod(counted))
        assert in_step(engine, jobs, 3) == pytest.approx(alone, abs=1e-3)
    assert max(calls) == 3
    assert sum(calls) == sum(3 + seed for seed in range(5))


def test_what_follows_a_forget_is_answered_apart(model, tokenizer):
    requests = asked(random.Random(2), 12)

    def run(engine):
        engine.label_log_probs(asked(random.Random(3), 5))
        engine.forget()
        return engine.label_log_probs(requests)

    [first, second] = in_step(LocalEngine(model, tokenizer, WORDS), [run, run], 2)
    fresh = LocalEngine(model, tokenizer, WORDS).label_log_probs(requests)
    assert first == second == fresh  # to the last digit


def test_each_job_has_its_share_of_the_seconds(model, tokenizer):
    def run(engine):
        engine.label_log_probs(asked(random.Random(4), 30))
        return engine.seconds

    seconds = in_step(LocalEngine(model, tokenizer, WORDS), [run] * 4, 4)
    assert seconds == pytest.approx([seconds[0]] * 4, rel=0.5)


def test_a_job_that_fails_ends_the_others(model, tokenizer):
    ended = []

    def waits(engine):
        try:
            for _ in range(100):
                engine.label_log_probs(asked(random.Random(5), 2))
        finally:
            ended.append(engine)

    def fails(engine):
        engine.label_log_probs(asked(random.Random(6), 2))
        raise ValueError("no more")

    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="no more"):
        in_step(LocalEngine(model, tokenizer, WORDS), [waits, fails, waits], 3)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert len(ended) == 2 and set(threading.enumerate()) <= before
