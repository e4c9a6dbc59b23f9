"""Which simple features of the texts tell the labels: the model may have meant something else.

Where lengths and single words tell the labels, these may be of another concept than the one that
was asked for; which words they are says of which ("Three Concrete Challenges and Two Hopes for the
Safety of Unsupervised Elicitation", 2026).
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from icm_rl.icm.objective import Labels
from icm_rl.tasks import Dataset, Example

FOLDS = 5
_MOST_EXAMPLES = 5_000
_SHOWN = 8
_RARE = 3
_LENGTH = "length in words"


def surface(data: Dataset, labels: Labels) -> dict[str, Any]:
    """How well a sparse linear model of simple features tells labels of prompts not seen before.

    The features are the length in words, the first word, and which words and pairs of neighboring
    words a text has; of a pair of responses, what the first has and the second has not. Of more
    than 5,000 examples as many are drawn.

    Args:
        data: The data set.
        labels: Two labels of its examples.

    Returns:
        ``accuracy`` of the held-out labels, ``chance``, the share of the more frequent label, and
        the strongest ``features`` with their weights, each times the feature's standard deviation,
        above zero where it speaks for the first label (True); nothing where there are not two
        labels, each of answers to five prompts.
    """
    examples = [example for example in data.examples if example.id in labels]
    if len(examples) > _MOST_EXAMPLES:
        examples = random.Random("surface").sample(examples, _MOST_EXAMPLES)
    groups = [_prompt(data, example) for example in examples]
    counts = Counter(labels[example.id] for example in examples)
    prompts = {(labels[e.id], group) for e, group in zip(examples, groups, strict=True)}
    of_label = Counter(label for label, _ in prompts)
    if len(counts) != 2 or min(of_label.values()) < FOLDS:
        return {}
    first = max(counts)
    is_first = np.array([labels[example.id] == first for example in examples])
    found = _without_rare([_features(data, example) for example in examples])
    model = _model()
    folds = StratifiedGroupKFold(FOLDS)
    held_out = cross_val_predict(model, found, is_first, groups=groups, cv=folds)
    return {
        "accuracy": float((held_out == is_first).mean()),
        "chance": max(counts.values()) / len(examples),
        "features": _strongest(model.fit(found, is_first), found),
    }


def _model() -> Pipeline:
    return make_pipeline(
        DictVectorizer(),
        MaxAbsScaler(),
        LogisticRegression(l1_ratio=1.0, solver="liblinear", random_state=0),
    )


def _prompt(data: Dataset, example: Example) -> str:
    """What a pair is an answer to, or a claim's group: to neither a label may be remembered."""
    pair = data.pairs.get(example.group)
    return example.group if pair is None else str(pair.prompt)


def _features(data: Dataset, example: Example) -> dict[str, float]:
    if example.group not in data.pairs:
        return _of_text(example.text)
    first, second = data.pairs[example.group].responses
    if example.key != "A>B":
        first, second = second, first
    features = Counter(_of_text(first))
    features.subtract(_of_text(second))
    return dict(features)


def _of_text(text: str) -> dict[str, float]:
    words = text.split()
    features: dict[str, float] = {_LENGTH: len(words)}
    if words:
        features[f'first word "{words[0]}"'] = 1
    features |= {f'"{word}"': 1 for word in words}
    features |= {f'"{word} {after}"': 1 for word, after in pairwise(words)}
    return features


def _without_rare(found: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Without what fewer than three examples have, by which a label could only be memorised."""
    counts = Counter(name for features in found for name, value in features.items() if value)
    return [
        {name: v for name, v in features.items() if counts[name] >= _RARE or name == _LENGTH}
        for features in found
    ]


def _strongest(model: Pipeline, found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    vectorizer, _, regression = (step for _, step in model.steps)
    names = vectorizer.get_feature_names_out()
    values = model[:-1].transform(found)  # (examples, features), sparse
    mean, mean_square = (np.asarray(of.mean(0)).ravel() for of in (values, values.power(2)))
    spread = np.sqrt(np.maximum(mean_square - mean**2, 0))
    weights = dict(zip(names, map(float, regression.coef_[0] * spread), strict=True))
    strongest = sorted(weights, key=lambda name: -abs(weights[name]))[:_SHOWN]
    return {name: weights[name] for name in strongest if weights[name]}
