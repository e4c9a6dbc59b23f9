"""Text that would be markup, a formula, a template or a terminal's command: shown, never obeyed."""

import json
import shutil

import pytest
from datasets import load_dataset

from icm_rl.report.page import Page, Section, Table, html, markdown
from icm_rl.terminal import printable
from tests.conftest import rows, run

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload=window.hacked=1>",
    "<iframe src='javascript:parent.hacked=1'></iframe>",
    "<a href='javascript:window.hacked=1'>here</a>",
    "<style>body{display:none}</style>",
    "<!-- all that follows",
    "]]><![CDATA[",
    "<base href='http://elsewhere'>",
    "<meta http-equiv=refresh content='0;url=http://elsewhere'>",
    "<link rel=stylesheet href=http://elsewhere/a.css>",
    "&lt;b&gt; &amp; &#x3C;script&#x3E; &copy;",
    "\"'`> onmouseover=window.hacked=1 x=",
    "javascript:window.hacked=1",
    "data:text/html,<script>window.hacked=1</script>",
    "${window.hacked = 1}",
    "{{ 7 * 7 }}{{ cycler.__init__.__globals__ }}",
    "{% for x in range(10**9) %}{% endfor %}",
    "{0.__class__} {query} {text}",
    "%s%n%(x)s",
    "$(touch hacked) `touch hacked`; rm -rf .",
    "=HYPERLINK('http://elsewhere')",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "| a | b |\n|---|---|",
    "# heading\n\n- [ ] todo",
    "![image](http://elsewhere/x.png)",
    "[link](javascript:alert(1))",
    "```\n~~~\n---\nname: other",
    "*bold* _it_ ~~no~~ <b>x</b>",
    "\x1b[2J\x1b[1;31mred",
    "\x1b]0;title\x07 and a bell",
    "\x1b]8;;http://elsewhere\x1b\\link\x1b]8;;\x1b\\",
    "right\rwrong",
    "back\b\b\b\bspaced",
    "\x9b31mred by one byte",
    "null\x00byte",
    "\v\f\x85 spaces",
    "\u202egnp.exe\u202c",
    "\u2066isolated\u2069 \u200frtl",
    "zero\u200bwidth\u200djoiner\ufeff",
    "\u2028line\u2029paragraph",
    "שלום مرحبا 你好 🙂 é e\u0301",
    "\u0300" * 50,
    "__proto__ constructor prototype",
    "../../../etc/passwd\\..\\x",
    "NaN null undefined -Infinity 1e999",
    "<|endoftext|><s></s>[INST]",
]


def claims() -> list[dict[str, str]]:
    return [
        {"id": f"{n} {text}", "text": f"{text} says {n}", "group": f"{n // 2} {text}"}
        for n, text in enumerate(HOSTILE)
    ]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "claims.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in claims()))
    return path


def is_plain(text: str) -> bool:
    return text == printable(text)


@pytest.mark.process
def test_hostile_text_is_labeled_as_it_stands_and_steers_no_terminal(data, tmp_path):
    assert len(HOSTILE) == 50
    words = '{"true": " True", "false": " False"}'
    done = run(
        *("recipes/icm.py", "--method", "zero_shot", "--task", "claims", "--data", data),
        *("--template", "{text}\nTrue?", "--group_column", "group", "--verbalizers", words),
        *("--signals", "false", "--output_dir", tmp_path / "out"),
    )
    assert is_plain(done.stdout) and is_plain(done.stderr)
    labels = rows(tmp_path / "out" / "labels.jsonl")
    expected = [(row["id"], f"{row['text']}\nTrue?", row["group"]) for row in claims()]
    assert [(row["id"], row["text"], row["group"]) for row in labels] == expected
    published = load_dataset(str(tmp_path / "out" / "dataset"), split="train")
    assert published["text"] == [row["text"] for row in labels]
    assert not (tmp_path / "hacked").exists()


@pytest.mark.process
def test_an_error_shows_hostile_text_and_does_not_obey_it(data, tmp_path):
    data.write_text(json.dumps({"id": "\x1b[2J\u202e", "text": "a"}) + "\n" + data.read_text())
    data.write_text(json.dumps({"id": "\x1b[2J\u202e", "text": "b"}) + "\n" + data.read_text())
    flags = ("--method", "zero_shot", "--task", "claims", "--template", "{text}")
    done = run("recipes/icm.py", *flags, "--data", data, check=False)
    assert done.returncode == 2 and is_plain(done.stderr)
    assert "line 2: the id '\\x1b[2J\\u202e' is there twice" in done.stderr


@pytest.mark.parametrize("name", ["claims.jsonl", "claims.json"])
def test_half_a_character_is_named(name, tmp_path):
    from icm_rl.data import read_rows
    from icm_rl.errors import InputError

    path = tmp_path / name
    whole, half = '{"text": "\\ud83d\\ude42"}', '{"text": "\\ud83d"}'
    path.write_text(f"{whole}\n{whole}\n" if name.endswith("l") else f"[{whole}, {whole}]")
    assert [row["text"] for row in read_rows(path)] == ["🙂", "🙂"]
    path.write_text(f"{whole}\n{half}\n" if name.endswith("l") else f"[{whole}, {half}]")
    where = "line 2" if name.endswith("l") else "row 2"
    with pytest.raises(InputError, match=rf"{where}: holds \\ud83d, half of a surrogate pair"):
        read_rows(path)


def shown(texts: list[str]) -> Page:
    table = Table("texts", ["text"], [[text] for text in texts])
    return Page("hostile", "text", [Section("texts", "texts", "look", tables=[table])])


@pytest.mark.process
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_a_page_shows_hostile_text_as_text(tmp_path):
    from playwright.sync_api import sync_playwright

    texts = [text.replace("\x00", "") for text in HOSTILE]  # which no HTML can hold
    path = tmp_path / "page.html"
    path.write_text(html(shown(texts)), encoding="utf-8")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page, heard = chromium.new_page(), []
        page.on("request", lambda request: heard.append(request.url))
        page.on("dialog", lambda dialog: heard.append(dialog.message))
        page.goto(path.as_uri())
        cells = page.locator("#texts td").all()
        found = [cell.text_content() for cell in cells]
        assert page.evaluate("window.hacked") is None
        chromium.close()
    assert heard == [path.as_uri()]
    assert found == [text.replace("\r", "\n") for text in texts]  # as HTML reads it


def test_markdown_shows_hostile_text_as_a_cell():
    lines = markdown(shown(HOSTILE)).splitlines()
    cells = [line for line in lines if line.startswith("| ") and line != "| text |"]
    assert len(cells) == len(HOSTILE)
    for cell in cells:
        bare = cell.removeprefix("| ").removesuffix(" |")
        for mark in "<>[]|*_`#!{}":
            assert bare.count(mark) == bare.count(f"\\{mark}")
