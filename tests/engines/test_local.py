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


def test_shared_prefixes_are_computed_once(model, tokenizer, monkeypatch):
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    computed = []
    forward = engine._forward

    def counted(batch):
        computed.append(sum(len(node.tokens) for node, _ in batch))
        return forward(batch)

    monkeypatch.setattr(engine, "_forward", counted)
    context = tuple(PIECES * 3)
    engine.label_log_probs([Request(context, query) for query in QUERIES])
    pieces = [*context, *QUERIES]
    assert sum(computed) == 1 + sum(engine.count_tokens(piece) for piece in pieces)


def test_a_request_that_is_another_ones_prefix_is_answered(model, tokenizer):
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    asked = [Request((PIECES[0],), PIECES[1]), Request((PIECES[0], PIECES[1]), QUERIES[0])]
    for request, answer in zip(asked, engine.label_log_probs(asked), strict=True):
        assert answer == pytest.approx(plain(model, tokenizer, request), abs=1e-4)


def test_labels_that_share_their_first_token_are_refused(model, tokenizer):
    with pytest.raises(InputError, match="begin with the same token"):
        LocalEngine(model, tokenizer, (" True", " True story"))
