import random

import pytest
import torch

from icm_rl.engines import LocalEngine, Request
from icm_rl.errors import InputError

PIECES = [f"The {word} is {color}.\n" for word in ("zeb", "lake") for color in ("red", "blue")]
QUERIES = ["Question: What is 2 + 3?", "Query: How do I rob the well?", "Claim:"]


def plain(model, tokenizer, request: Request) -> tuple[float, float]:
    ids = [tokenizer.bos_token_id]
    for piece in (*request.context, request.query):
        ids += tokenizer.encode(piece, add_special_tokens=False)
    with torch.no_grad():
        log_probs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    return tuple(log_probs[tokenizer.encode(f" {w}")[0]].item() for w in ("True", "False"))


def requests(count: int) -> list[Request]:
    rng = random.Random(7)
    return [
        Request(tuple(rng.choices(PIECES, k=rng.randint(0, 9))), rng.choice(QUERIES))
        for _ in range(count)
    ]


@pytest.mark.parametrize("cache_tokens", [1, 64, 100_000])
def test_answers_equal_plain_forward_passes_whatever_the_budget(model, tokenizer, cache_tokens):
    engine = LocalEngine(model, tokenizer, (" True", " False"), cache_tokens)
    asked = requests(40)
    for request, answer in zip(asked, engine.label_log_probs(asked), strict=True):
        assert answer == pytest.approx(plain(model, tokenizer, request), abs=1e-4)


def test_shared_prefixes_are_computed_once(model, tokenizer):
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    context = tuple(PIECES * 3)
    engine.label_log_probs([Request(context, query) for query in QUERIES])
    tokens = sum(map(engine.count_tokens, context))
    queries = sum(map(engine.count_tokens, QUERIES))
    assert engine.computed_tokens == 1 + tokens + queries
    assert engine.prompt_tokens == len(QUERIES) * (1 + tokens) + queries


def test_what_was_kept_is_not_computed_again_until_it_is_forgotten(model, tokenizer):
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    context = tuple(PIECES * 3)
    engine.label_log_probs([Request(context, QUERIES[0])])
    for _ in range(2):
        before = engine.computed_tokens
        longer = [Request((*context, PIECES[0]), QUERIES[1])]
        [answer] = engine.label_log_probs(longer)
        assert answer == pytest.approx(plain(model, tokenizer, longer[0]), abs=1e-4)
    assert engine.computed_tokens - before == engine.count_tokens(QUERIES[1])
    engine.forget()
    before = engine.computed_tokens
    engine.label_log_probs(longer)
    assert engine.computed_tokens - before == sum(
        map(engine.count_tokens, (*context, PIECES[0], QUERIES[1])), 1
    )


@pytest.mark.parametrize("cache_tokens", [60, 400])
def test_the_cache_stays_under_its_budget(model, tokenizer, cache_tokens):
    engine = LocalEngine(model, tokenizer, (" True", " False"), cache_tokens)
    for _ in range(3):
        engine.label_log_probs(requests(40))
        held = [s for s in engine._tree.segments() if s.kept]
        tokens = sum(part[0][0].shape[1] for part in (segment.kept for segment in held))
        assert 0 < tokens <= cache_tokens // 2


def test_a_request_that_is_another_ones_prefix_is_answered(model, tokenizer):
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    asked = [Request((PIECES[0],), PIECES[1]), Request((PIECES[0], PIECES[1]), QUERIES[0])]
    for request, answer in zip(asked, engine.label_log_probs(asked), strict=True):
        assert answer == pytest.approx(plain(model, tokenizer, request), abs=1e-4)


def test_labels_that_share_their_first_token_are_refused(model, tokenizer):
    with pytest.raises(InputError, match="begin with the same token"):
        LocalEngine(model, tokenizer, (" True", " True story"))
