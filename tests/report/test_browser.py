"""The pages in headless Chromium, as a person uses them."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from scipy.stats import binomtest

from icm_rl.files import write_jsonl
from icm_rl.report.browser import label_data
from icm_rl.report.collect import collect
from icm_rl.report.comparison import comparison_page
from icm_rl.report.page import html
from icm_rl.report.run import read_run, write_report
from tests.conftest import run
from tests.report.test_page import finished_run

CHROMIUM = shutil.which("chromium")
expect.set_options(timeout=60_000)  # of a machine that is busy with other tests
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; 'make test' installs it"),
]

HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "\"'`><b>${7 * 7}{{ 7 * 7 }}",
    "\u202eright to left\u202c שלום \u2028 __proto__",
    "long " + "x" * 100_000,
]


def label_rows(pairs: int) -> list[dict]:
    rng = random.Random(0)
    rows = []
    for k in range(pairs):
        a, b = (rng.choice([*HOSTILE[:4], f"answer {k} one two", "answer three"]) for _ in "ab")
        query = f"Question {k}? {HOSTILE[k % 5]}" if k < 5 else f"Question {k}?"
        wrong = k % 7 == 3
        for order, (first, second) in (("A>B", (a, b)), ("B>A", (b, a))):
            label = (order == "A>B") != wrong
            row = {"id": f"{k}:{order}", "text": f"{query} {first} {second}", "label": label}
            row |= {"log_odds": rng.uniform(-1, 5), "group": str(k), "gold": order == "A>B"}
            rows.append(row | {"query": query, "a": first, "b": second})
    return rows


def run_folder(folder: Path, pairs: int) -> list[dict]:
    finished_run(folder)
    rows = label_rows(pairs)
    write_jsonl(folder / "icm" / "labels.jsonl", rows)
    record = {"utility": 1.0, "accuracy": 0.5, "inconsistencies": 0, "temperature": 9.0}
    record |= {"pool": 0, "accepted": True}
    first = {row["id"]: row["label"] for row in rows}
    changed = {row["id"]: not row["label"] for row in rows[: pairs // 2]}
    history = [changed, first, {}]
    write_jsonl(
        folder / "icm" / "history.jsonl",
        [{"iteration": n, "changes": changes, **record} for n, changes in enumerate(history)],
    )
    return rows


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run's page with its labels: 60 pairs, some of them hostile."""
    folder = tmp_path_factory.mktemp("run")
    rows = run_folder(folder, 60)
    return write_report(folder, collect(folder, "ppo")), rows


@pytest.fixture
def opened(browser):
    """Opens a page and, in the end, looks whether it asked for anything or complained."""
    context = browser.new_context(accept_downloads=True)
    page, heard = context.new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(dialog.message))
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    def go(path: Path) -> Page:
        page.goto(path.as_uri())
        return page

    yield go
    assert heard == []
    assert all(url.startswith(("file:", "blob:")) for url in asked)
    assert page.evaluate("window.hacked") is None
    context.close()


def ids(page: Page) -> list[str]:
    return [
        item.locator(".facts b").first.text_content() for item in page.locator("#list > li").all()
    ]


def test_the_page_draws_its_charts_and_a_hover_shows_the_number(opened, report):
    page = opened(report[0])
    charts = page.locator(".chart")
    assert charts.count() >= 8
    expect(page.locator(".chart svg")).to_have_count(charts.count())
    assert all(chart.get_attribute("aria-label") for chart in charts.all())
    bar = page.locator("#labels .chart").first.locator(".mark-rect path").first
    bar.scroll_into_view_if_needed()
    bar.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "percent right" in page.locator("#vg-tooltip-element").text_content()


def test_every_filter_and_order_of_the_label_browser(opened, report):
    page, rows = opened(report[0]), report[1]
    assert page.locator("#count").text_content() == "120 of 120 labels"
    assert ids(page) == [row["id"] for row in rows[:10]]
    page.click("#next")
    assert ids(page) == [row["id"] for row in rows[10:20]]
    assert page.locator("#place").text_content() == "11–20"
    page.click("#previous")
    assert page.locator("#previous").is_disabled()

    page.fill("#search", "QUESTION 7?")
    assert ids(page) == ["7:A>B", "7:B>A"]
    page.fill("#search", "nothing has this")
    assert ids(page) == [] and page.locator("#place").text_content() == "none"
    page.fill("#search", "")
    page.fill("#group", "7")
    assert ids(page) == ["7:A>B", "7:B>A"]
    page.fill("#group", "")
    page.locator("#list > li").nth(3).get_by_role("button", name="1", exact=True).click()
    assert page.locator("#group").input_value() == "1"
    assert ids(page) == ["1:A>B", "1:B>A"]
    page.fill("#group", "")

    page.select_option("#label", label="True")
    true = [row["id"] for row in rows if row["label"]]
    assert page.locator("#count").text_content() == f"{len(true)} of 120 labels"
    assert ids(page) == true[:10]
    page.select_option("#label", "")
    page.select_option("#gold", "wrong")
    assert ids(page) == [row["id"] for row in rows if row["label"] != row["gold"]][:10]
    page.select_option("#gold", "right")
    assert ids(page) == [row["id"] for row in rows if row["label"] == row["gold"]][:10]
    page.select_option("#gold", "")
    page.select_option("#changed", "yes")
    assert page.locator("#count").text_content() == "30 of 120 labels"
    page.select_option("#changed", "no")
    assert page.locator("#count").text_content() == "90 of 120 labels"
    page.select_option("#changed", "")

    page.select_option("#order", "unsure")
    unsure = sorted(rows, key=lambda row: row["log_odds"])
    assert ids(page) == [row["id"] for row in unsure[:10]]
    page.select_option("#order", "doubt")

    def doubt(row):
        pair = [r for r in rows if r["group"] == row["group"]]
        return abs(sum(r["log_odds"] if r["label"] else -r["log_odds"] for r in pair))

    assert ids(page) == [row["id"] for row in sorted(rows, key=doubt, reverse=True)[:10]]
    page.select_option("#order", "changes")
    assert ids(page) == [row["id"] for row in rows[:10]]
    assert "labels by iteration: 0 " in page.locator("#list > li").first.text_content()


def test_hostile_text_is_shown_as_text(opened, report):
    page, rows = opened(report[0]), report[1]
    for number, text in enumerate(HOSTILE):
        page.fill("#search", f"question {number}?")
        item = page.locator("#list > li").first
        assert item.locator(".text").first.text_content() == f"Question {number}? {text}"
        sides = item.locator(".side .text").all()
        assert [side.text_content() for side in sides] == [rows[2 * number][name] for name in "ab"]
    assert page.locator("#list script, #list img").count() == 0
    answers = page.locator("#policy").text_content()
    assert "<script>alert(1)</script>" in answers and "&copy;" in answers
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_differs_between_two_responses_is_marked(opened, tmp_path):
    folder = tmp_path / "run"
    run_folder(folder, 1)
    row = {"id": "0:A>B", "text": "t", "label": True, "log_odds": 1.0, "group": "0", "query": "q"}
    row |= {"a": "It is red, then blue.", "b": "It is green, then blue."}
    write_jsonl(folder / "icm" / "labels.jsonl", [row])
    page = opened(write_report(folder, collect(folder, "ppo")))
    marked = [side.locator("mark").all_text_contents() for side in page.locator(".side").all()]
    assert marked == [["red,"], ["green,"]]
    assert "labeled better" in page.locator(".side").first.text_content()


def test_a_label_that_no_iteration_gave_is_given_in_the_end():
    row = {"id": "1", "text": "t", "label": True, "log_odds": 1.0, "group": "1"}
    history = [{"iteration": 3, "changes": {"1": False, "2": True}}]
    data = label_data([row, row | {"id": "2"}, row | {"id": "3"}], history)
    assert [example["changes"] for example in data["examples"]] == [
        [[3, False], ["the end", True]],
        [[3, True]],
        [["the end", True]],
    ]


def test_tables_sort_by_the_column_that_is_pressed(opened, report):
    page = opened(report[0])
    table = page.locator("#labels table").first
    button = table.locator("th button").nth(1)

    def column():
        cells = table.locator("tbody tr td:nth-child(2)").all()
        return [float(cell.get_attribute("data-value")) for cell in cells]

    before = column()
    button.click()
    assert column() == sorted(before)
    assert table.locator("th").nth(1).get_attribute("aria-sort") == "ascending"
    button.press("Enter")
    assert column() == sorted(before, reverse=True)
    table.locator("th button").first.click()
    names = table.locator("tbody tr td:first-child").all_text_contents()
    assert names == sorted(names, key=str.lower)
    folded = page.locator("details").first
    folded.locator("summary").press("Enter")
    assert folded.get_attribute("open") is not None


def test_an_audit_of_twenty_labels_saved_loaded_and_stated(opened, report, tmp_path):
    path, rows = report
    page = opened(path)
    page.fill("#seed", "7")
    page.click("#start")
    verdicts = [k % 4 != 2 for k in range(20)]
    page.keyboard.press("n")
    page.keyboard.press("b")  # takes it back
    for agrees in verdicts[:12]:
        page.keyboard.press("y" if agrees else "n")
    with page.expect_download() as download:
        page.click("#save")
    half = tmp_path / "half.json"
    download.value.save_as(half)

    page.reload()
    page.set_input_files("#load", half)
    expect(page.locator("#progress")).to_contain_text("13 of 20")
    for agrees in verdicts[12:]:
        page.click("#yes" if agrees else "#no")
    low, high = binomtest(15, 20).proportion_ci(method="wilson")
    sentence = f"75.0 % (95 % interval {100 * low:.1f}–{100 * high:.1f} %)"
    assert sentence in page.locator("#agreement").text_content()
    assert "All 20 are judged" in page.locator("#progress").text_content()
    with page.expect_download() as download:
        page.click("#save")
    audit = tmp_path / "audit.json"
    download.value.save_as(audit)
    saved = json.loads(audit.read_text())
    assert list(saved["answers"].values()) == verdicts
    groups = [id.split(":")[0] for id in saved["sample"]]
    assert len(set(groups)) == 20  # of a pair's two orders one is asked
    assert set(saved["sample"]) <= {row["id"] for row in rows}

    done = run("eval/report.py", "--runs", path.parent, "--audit", audit)
    assert done.stdout == f"report: {path}\n"
    assert json.loads((path.parent / "report.json").read_text())["audit"]["agreement"] == 0.75
    assert sentence in (path.parent / "report.md").read_text()
    page = opened(path)
    assert sentence in page.locator("#agreement").text_content()
    assert "75.0 %" in page.locator(".cards").text_content()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "This file is no audit: it is not JSON."),
        ('{"run": "x"}', "This file is no audit."),
        ('{"run": "x", "sample": [], "answers": {}}', "This audit is of another run (x)."),
    ],
)
def test_a_file_that_is_no_audit_of_this_run_is_named(opened, report, tmp_path, content, message):
    page = opened(report[0])
    (tmp_path / "audit.json").write_text(content)
    page.set_input_files("#load", tmp_path / "audit.json")
    expect(page.locator("#problem")).to_have_text(message)
    page.fill("#size", "0")
    page.click("#start")
    assert "Give a number of labels from 1 on" in page.locator("#problem").text_content()


def test_it_is_used_by_keyboard_alone(opened, report):
    page = opened(report[0])
    reached = set()
    for _ in range(200):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {
        "search",
        "group",
        "label",
        "gold",
        "changed",
        "order",
        "next",
        "size",
        "seed",
        "start",
    } <= reached
    assert {"load", "BUTTON", "SUMMARY", "A"} <= reached


def test_it_prints_dark_on_white_with_all_that_is_folded(opened, report):
    page = opened(report[0])
    page.emulate_media(media="print", color_scheme="dark")
    colors = [
        page.locator(place).first.evaluate(f"element => getComputedStyle(element).{name}")
        for place, name in (("body", "color"), (".chart svg text", "fill"))
    ]
    assert set(colors) == {"rgb(15, 23, 42)"}
    page.pdf()
    assert page.locator("details:not([open])").count() == 0


USE = """([id, value]) => {
    const control = document.getElementById(id), start = performance.now();
    control.value = value;
    control.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();  // the layout too
    return Math.round(performance.now() - start);
}"""


def test_five_thousand_pairs_are_filtered_and_sorted(opened, tmp_path):
    """``pytest -s -n 0 -k five_thousand`` prints how long a person waits for each control."""
    folder = tmp_path / "run"
    rows = run_folder(folder, 5000)
    path = write_report(folder, collect(folder, "ppo"))
    page = opened(path)
    assert page.locator("#count").text_content() == "10000 of 10000 labels"
    page.fill("#search", "question 4999?")
    assert ids(page) == ["4999:A>B", "4999:B>A"]
    page.fill("#search", "")
    page.select_option("#order", "unsure")
    assert ids(page)[0] == min(rows, key=lambda row: row["log_odds"])["id"]
    controls = {"search": "4", "group": "42", "label": "true", "gold": "right", "changed": "yes"}
    for id, value in [*controls.items(), ("order", "doubt"), ("order", "changes")]:
        print(f"{id} {value}: {page.evaluate(USE, [id, value])} ms")
        if id != "order":
            assert page.locator("#list > li").count()
            page.evaluate(USE, [id, ""])


def test_runs_are_compared_on_one_page(opened, report, tmp_path):
    folder = report[0].parent
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    runs = [(name, *read_run(f / "report.json")) for name, f in (("<b>A", folder), ("B", other))]
    (tmp_path / "compared.html").write_text(html(comparison_page(runs)))
    page = opened(tmp_path / "compared.html")
    expect(page.locator(".chart svg")).to_have_count(page.locator(".chart").count())
    head = page.locator("#figures th").all_text_contents()
    assert head == ["", "<b>A", "B"]
    assert page.locator("#figures tbody tr").count() >= 8


def test_the_page_is_small_and_names_no_other_place(report):
    page = report[0].read_text()
    assert len(page.encode()) < 3_000_000
    assert not re.search(r"(src|href)=.?(https?:)?//", page)
