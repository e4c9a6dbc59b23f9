"""The docs: what they link to is there, and what they list is what there is."""

import re
from pathlib import Path

import pytest

from icm_rl.cli import PROGRAMS
from icm_rl.icm.methods import METHODS
from icm_rl.tasks import TASKS
from icm_rl.tasks.relations import RELATIONS
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The names under which GitHub finds a page's headings."""
    found = set()
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            words = re.sub(r"[^\w\- ]", "", line.lstrip("# ").strip().lower())
            found.add(words.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_and_configs_that_are_named_are_there(page):
    named = re.findall(
        r"\b(?:recipes|eval|benchmarks)/[\w./-]+\.(?:py|yaml|jinja)", page.read_text()
    )
    for path in named:
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_the_methods_are_listed_with_their_summaries():
    page = (ROOT / "docs" / "icm.md").read_text()
    for name, method in METHODS.items():
        needs = ", ".join(sorted(method().needs))
        assert f"| `{name}` | {method.summary} | {needs}".rstrip() in page
        assert f"`{name}`" in (ROOT / "README.md").read_text()


def test_tasks_and_relations_are_listed():
    page = (ROOT / "docs" / "icm.md").read_text()
    assert all(f"| `{name}` |" in page for name in [*TASKS, *RELATIONS])


def test_each_program_is_a_subcommand():
    files = {
        f"{folder}.{path.stem}"
        for folder in ("recipes", "eval")
        for path in (ROOT / folder).glob("[a-z]*.py")
    }
    assert {module for module, _ in PROGRAMS.values()} == files


def test_a_version_is_said_once_and_is_in_the_changelog():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
