"""What is labeled: an example, its text, its consistency group, and the relation in that group."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from icm_rl.errors import InputError
from icm_rl.files import Row, read_rows

Label = bool | str
"""True or False, or a name from a task's own label set."""

TRUE_FALSE: Mapping[Label, str] = {True: " True", False: " False"}


@dataclass(frozen=True)
class Example:
    """One thing to be labeled. It carries no label: the search never sees one.

    Attributes:
        id: Unique in its data set.
        text: The prompt up to, and without, the label.
        group: Examples of one group are related by the task's relation.
        key: What the example asserts within its group: an answer, or a direction of comparison.
    """

    id: str
    text: str
    group: str
    key: str


Relation = Callable[[Example, Label, Example, Label], bool]
"""c(x_i, y_i, x_j, y_j) of the paper: whether two labeled examples are consistent."""


def exclusive(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """Whether two answers to one question are labeled consistently.

    Two different answers cannot both be True, and the same answer has one label.
    """
    return not (label_a and label_b) if a.key != b.key else label_a == label_b


def asymmetric(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """Whether the two orders of a pair are labeled consistently: one of A>B and B>A is True."""
    return (label_a != label_b) if a.key != b.key else label_a == label_b


@dataclass(frozen=True)
class Pair:
    """A preference pair: a prompt and two responses, the first and second of its examples."""

    prompt: str
    responses: tuple[str, str]


@dataclass
class Dataset:
    """A task's examples, with what is known of them kept apart.

    Attributes:
        examples: In the file's order.
        gold: Gold labels by example id, where known.
        human: Human labels by example id, where known.
        pairs: For preferences, the pair behind each group.
    """

    examples: list[Example] = field(default_factory=list)
    gold: dict[str, Label] = field(default_factory=dict)
    human: dict[str, Label] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """How rows become examples, and which labels of one group contradict each other.

    Attributes:
        name: Its name on the command line.
        add: Adds the examples of one row to a data set; ``index`` counts rows from 0.
        consistent: The relation between two labeled examples of one group.
        labels: For each label the continuation that stands for it.
    """

    name: str
    add: Callable[[Dataset, Row, int], None]
    consistent: Relation
    labels: Mapping[Label, str] = field(default_factory=lambda: TRUE_FALSE)

    def demonstration(self, example: Example, label: Label) -> str:
        """An example with its label, as it stands in a context."""
        return f"{example.text}{self.labels[label]}\n\n"

    def most_likely(self, log_probs: Sequence[float]) -> Label:
        """The label of highest log-probability; of equal ones the last: True needs odds above 1."""
        by_label = dict(zip(self.labels, log_probs, strict=True))
        return max(reversed(by_label), key=by_label.get)

    def load(self, path: str | Path, limit: int | None = None) -> Dataset:
        """Reads a data file, at most ``limit`` groups of it.

        Raises:
            InputError: The file or a row is bad, an id is there twice, the gold labels are all one
                label or contradict each other.
        """
        data, seen = Dataset(), set()
        for index, row in enumerate(read_rows(path)):
            before = len(data.examples)
            self.add(data, row, index)
            for example in data.examples[before:]:
                if example.id in seen:
                    raise InputError(
                        f"{row.where}: the id '{example.id}' is there twice; make ids unique"
                    )
                seen.add(example.id)
        if limit is not None:
            data = _first_groups(data, limit)
        self._check_gold(data, path)
        return data

    def _check_gold(self, data: Dataset, path: str | Path) -> None:
        if data.gold and len(data.gold) == len(data.examples) and len(set(data.gold.values())) < 2:
            only = next(iter(data.gold.values()))
            raise InputError(
                f"{path}: every gold label is {only}; both labels must occur, or leave labels out"
            )
        for group, members in group_members(data.examples).items():
            labeled = [e for e in members if e.id in data.gold]
            for a, b in combinations(labeled, 2):
                comparable = self.consistent is asymmetric or a.text == b.text
                if comparable and not self.consistent(a, data.gold[a.id], b, data.gold[b.id]):
                    raise InputError(
                        f"{path}: the gold labels of '{a.id}' and '{b.id}' in group "
                        f"'{group}' contradict each other; correct one of them"
                    )


def add_claim(data: Dataset, row: Row, example: Example) -> None:
    """Adds the one example of a row, with the row's gold and human label where it has them."""
    data.examples.append(example)
    for labels, name in ((data.gold, "label"), (data.human, "human_label")):
        label = row.label(name)
        if label is not None:
            labels[example.id] = label


def group_members(examples: Sequence[Example]) -> dict[str, list[Example]]:
    """The examples of each consistency group, groups and members in order of appearance."""
    groups = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    return dict(groups)


def _first_groups(data: Dataset, limit: int) -> Dataset:
    groups = set(list(group_members(data.examples))[:limit])
    examples = [example for example in data.examples if example.group in groups]
    ids = {example.id for example in examples}
    return Dataset(
        examples,
        {id: label for id, label in data.gold.items() if id in ids},
        {id: label for id, label in data.human.items() if id in ids},
        {group: pair for group, pair in data.pairs.items() if group in groups},
    )
