"""Author gender on the Blog Authorship Corpus (Section 4.3): which post was written by a man?"""

from icm_rl.data import Row, Source
from icm_rl.tasks.base import Task
from icm_rl.tasks.pairs import add, paired
from icm_rl.tasks.relations import asymmetric


def _by_a_man(row: Row, text: str) -> bool:
    return row.text("gender") == "male"


TASK = Task(
    "author_gender",
    "Blog post A: {a}\nBlog post B: {b}\n"
    "Claim: Blog post A is more likely to be written by a male than blog post B\n"
    "I think this claim is",
    add,
    asymmetric,
    Source("barilan/blog_authorship_corpus", revision="refs/convert/parquet"),
    paired("text", _by_a_man),
    row_is_group=True,
)
