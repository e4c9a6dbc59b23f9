"""What is labeled: an example, its text, its consistency group, and the relation in that group."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from pathlib import Path
from string import Formatter

from icm_rl.data import Row, Source
from icm_rl.errors import InputError

Label = bool | str
"""True or False, or a name from a task's own label set."""

TRUE_FALSE: Mapping[Label, str] = {True: " True", False: " False"}

Messages = list[dict[str, str]]


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
"""c(x_i, y_i, x_j, y_j) of the paper: whether two labeled examples of a group are consistent."""


@dataclass(frozen=True)
class Pair:
    """A preference pair: a prompt and two responses, the first and second of its examples."""

    prompt: Messages
    responses: tuple[str, str]


@dataclass(frozen=True)
class Responses:
    """A prompt and its responses, by an id of each, and the examples that each is judged by."""

    prompt: Messages
    texts: Mapping[str, str]
    claims: Mapping[str, Sequence[str]]


@dataclass
class Dataset:
    """A task's examples, with what is known of them kept apart.

    Attributes:
        examples: In the file's order.
        gold: Gold labels by example id, where known.
        human: Human labels by example id, where known.
        pairs: For preferences, the pair behind each group.
        responses: For responses judged one by one, the prompt and its responses, by prompt.
        left_out: Of prompts that say nothing of what is better, by group, why.
    """

    examples: list[Example] = field(default_factory=list)
    gold: dict[str, Label] = field(default_factory=dict)
    human: dict[str, Label] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    responses: dict[str, Responses] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """How rows become examples, and which labels of one group contradict each other.

    Attributes:
        name: Its name on the command line.
        template: An example's text, with ``{placeholders}``.
        add: Adds the examples of one row to a data set; the index counts rows from 0.
        consistent: The relation between two labeled examples of one group.
        hub: Where the data are on the Hub, if they are.
        prepare: Turns rows in the Hub's columns, and in the task's own, into the task's own.
        verbalizers: For each label the words that stand for it in a prompt (Schick and Schütze
            2021), such as ``{True: " True", False: " False"}``.
        group_column: The column that names a claim's group; None where each stands alone.
        key_column: The column of a claim's key; None where its text is the key.
        row_is_group: Whether each row is a group, so that reading can stop early.
        some_true: Whether the labels of a whole group contradict each other where none is True.
        highest_grade: Of the task ``grades``, whose lowest is 1.
    """

    name: str
    template: str
    add: Callable[["Task", Dataset, Row, int], None]
    consistent: Relation
    hub: Source | None = None
    prepare: Callable[[Iterable[Row]], Iterator[Row]] = iter
    verbalizers: Mapping[Label, str] = field(default_factory=lambda: TRUE_FALSE)
    group_column: str | None = None
    key_column: str | None = None
    row_is_group: bool = False
    some_true: bool = False
    highest_grade: int = 5

    def render(self, value: Callable[[str], str]) -> str:
        """The template with each placeholder replaced by ``value(placeholder)``."""
        return "".join(
            literal + ("" if name is None else value(name))
            for literal, name, _, _ in Formatter().parse(self.template)
        )

    def filled(self, values: Mapping[str, str]) -> str:
        """The template with these values.

        Raises:
            InputError: The template names something else.
        """

        def value(name: str) -> str:
            if name not in values:
                known = ", ".join(f"{{{known}}}" for known in values)
                raise InputError(
                    f"--template names {{{name}}}; for the task '{self.name}' it can name {known}"
                )
            return values[name]

        return self.render(value)

    def demonstration(self, example: Example, label: Label) -> tuple[str, str]:
        """An example with its label, as it stands in a context: its text, and what follows it.

        They are two pieces, so that contexts which differ in the label share the text.
        """
        return example.text, f"{self.verbalizers[label]}\n\n"

    def most_likely(self, log_probs: Sequence[float]) -> Label:
        """The label of highest log-probability; of equal ones the last: True needs odds above 1."""
        by_label = dict(zip(self.verbalizers, log_probs, strict=True))
        return max(reversed(by_label), key=by_label.__getitem__)

    def load(self, source: Source | str | Path, limit: int | None = None) -> Dataset:
        """Reads a data set, at most ``limit`` groups of it.

        Raises:
            InputError: The file or a row is bad, an id is there twice, the gold labels are all one
                label or contradict each other.
        """
        source = source if isinstance(source, Source) else Source(str(source))
        data, seen = Dataset(), set()
        rows = self.prepare(source.rows())
        if self.row_is_group:
            rows = islice(rows, limit)
        for index, row in enumerate(rows):
            before = len(data.examples)
            self.add(self, data, row, index)
            for example in data.examples[before:]:
                if example.id in seen:
                    raise InputError(
                        f"{row.where}: the id '{example.id}' is there twice; make ids unique"
                    )
                seen.add(example.id)
        if not data.examples:
            why = (
                f" (they are prompts {next(iter(data.left_out.values()))})" if data.left_out else ""
            )
            raise InputError(f"{source}: no row is of use to the task '{self.name}'{why}")
        if limit is not None and not self.row_is_group:
            data = _first_groups(data, limit)
        self._check_gold(data, source)
        return data

    def known_labels(self, row: Row) -> dict[str, Label]:
        """The row's gold and human label, under ``gold`` and ``human``, where it has them.

        Raises:
            InputError: A label is outside the task's label set.
        """
        found = {name: row.label(f, self.verbalizers) for name, f in _LABEL_FIELDS.items()}
        return {name: label for name, label in found.items() if label is not None}

    def _check_gold(self, data: Dataset, source: Source) -> None:
        if data.gold and len(data.gold) == len(data.examples) and len(set(data.gold.values())) < 2:
            only = next(iter(data.gold.values()))
            raise InputError(
                f"{source}: every gold label is {only}; "
                "at least two labels must occur, or leave labels out"
            )
        for group, members in group_members(data.examples).items():
            labeled = [e for e in members if e.id in data.gold]
            for a, b in combinations(labeled, 2):
                comparable = data.pairs or a.text == b.text
                if comparable and not self.consistent(a, data.gold[a.id], b, data.gold[b.id]):
                    raise InputError(
                        f"{source}: the gold labels of '{a.id}' and '{b.id}' in group "
                        f"'{group}' contradict each other; correct one of them"
                    )


_LABEL_FIELDS = {"gold": "label", "human": "human_label"}


def add_example(data: Dataset, example: Example, known: Mapping[str, Label]) -> None:
    """Adds an example with its gold and human label where known."""
    data.examples.append(example)
    for name, label in known.items():
        getattr(data, name)[example.id] = label


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
        data.responses,
        data.left_out,
    )
