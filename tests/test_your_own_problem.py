"""The page docs/your_own_problem.md: its blocks run, and print what they say."""

import contextlib
import io
import pathlib
import re

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "your_own_problem.md").read_text()


def test_the_recipes_run_from_top_to_bottom_and_print_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 7
    namespace = {"__name__": "your_own_problem"}
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "your_own_problem.md", "exec"), namespace)
        assert printed.getvalue().splitlines() == re.findall(r"^# → (.*)$", block, re.MULTILINE)


def test_its_table_of_contents_names_its_sections():
    def anchor(title):
        return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")

    listed = re.findall(r"^- \[(.+?)\]\(#(.+?)\)$", PAGE, re.MULTILINE)
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert listed == [(title, anchor(title)) for title in sections]
