"""What the pages tell a reader to type is what the program takes: every block is parsed, the line of verbs is run.

Notable: the README's own line is run as it stands on a tiny centre, in the order of the page, in one process. A block
that names a verb, an option, a target or a file that does not exist fails here and not at a reader's terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.generate.centre import generate
from evaluation.generate.settings import Settings
from tests import tables_page
from twotower.cli import GROUP, Verb, main
from twotower.clock import from_arrow, parse_time

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
VERBS = {entry.name: entry for entry in entry_points(group=GROUP)}
# The least that training can do; what a page shows is otherwise run as it stands.
QUICK = ["--trainer.max_epochs", "1"]


def blocks(page: Path, language: str) -> list[str]:
    return [found[2] for found in FENCE.finditer(page.read_text(encoding="utf-8")) if found[1] == language]


def commands(text: str) -> list[list[str]]:
    """The words of each line, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def every_command() -> list[tuple[str, list[str]]]:
    """(page, words) of every line of every block that a shell reads, indented ones and inline ones included."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        indented = "\n".join(re.findall(r"^    (.*)$", FENCE.sub("", text), re.MULTILINE))
        inline = "\n".join(re.findall(r"`((?:make|twotower|python) [a-z][^`]+)`", text))
        for block in [*blocks(page, "sh"), indented, inline]:
            found += [(str(page.relative_to(ROOT)), words) for words in commands(block)]
    return found


COMMANDS = every_command()


def parser(verb: str) -> tuple[argparse.ArgumentParser, Verb]:
    loaded = VERBS[verb].load()
    made = argparse.ArgumentParser(exit_on_error=False)
    loaded.configure(made)
    made.add_argument("--json", action="store_true")
    return made, loaded


def named(words: list[str]) -> str:
    return " ".join(words)


@pytest.mark.parametrize(("page", "words"), [c for c in COMMANDS if c[1][0] == "twotower"], ids=lambda v: str(v)[:60])
def test_verbs_and_options_exist(page: str, words: list[str]) -> None:
    verb, rest = words[1], words[2:]
    assert verb in VERBS
    if not rest or rest == ["DIR"]:
        return  # the verb is spoken of, not called
    made, loaded = parser(verb)
    options = [word for word in rest if word.startswith("--")]
    known = {option for action in made._actions for option in action.option_strings}
    strange = [option for option in options if option not in known]
    if not loaded.passes_on:
        assert not strange
        if options:
            made.parse_args(rest)
    else:
        made.parse_known_args(rest)
        assert all(
            re.match(r"--(model|data|trainer|join|early_stopping|checkpoint|cluster)\.\w+", one) for one in strange
        )


@pytest.mark.parametrize(("page", "words"), [c for c in COMMANDS if c[1][0] == "make"], ids=lambda v: str(v)[:60])
def test_targets_and_variables_exist(page: str, words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for word in words[1:]:
        name, sign, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if sign else rf"^{name}:", makefile, re.MULTILINE), f"{page}: {word}"


@pytest.mark.parametrize(
    ("page", "words"), [c for c in COMMANDS if "python" in c[1] and "make" not in c[1]], ids=lambda v: str(v)[:60]
)
def test_benchmarks_and_their_options_exist(page: str, words: list[str]) -> None:
    words = words[words.index("python") + 1 :]
    script = ROOT / words[0]
    assert script.is_file()
    text = script.read_text()
    shared = re.search(r"^from (\w+) import .*\boptions\b", text, re.MULTILINE)
    text += (script.parent / f"{shared[1]}.py").read_text() if shared else ""
    # Options with a dot are those of training, to which some scripts pass on what they do not know.
    options = [word for word in words if word.startswith("--") and "." not in word.partition("=")[0]]
    assert all(f'"{word}"' in text for word in options)
    assert len(options) == sum(word.startswith("--") for word in words) or "parse_known_args" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_project_that_a_page_names_exist(page: Path) -> None:
    stages = "|".join(
        ("twotower", "train", "export", "serve", "evaluation", "loop", "benchmarks", "tests", "docs", "configs")
    )
    for path in re.findall(rf"`((?:{stages})/[\w/.-]*)`", page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


def test_the_page_of_tables_is_what_is_declared() -> None:
    page = tables_page.PAGE.read_text(encoding="utf-8")
    assert page == tables_page.with_columns(page), "run: python -m tests.tables_page"
    assert set(re.findall(r"<!-- columns: (\w+) -->", page)) == {table.name for table in tables_page.TABLES}


def test_results_have_one_place_each() -> None:
    for page in (README, ROOT / "docs" / "results.md"):
        keys = re.findall(r"<!-- result: ([\w.]+) -->", page.read_text(encoding="utf-8"))
        assert len(keys) == len(set(keys))


def test_extras_of_the_readme_are_those_of_the_project() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    told = re.findall(r"^\| `\[(\w+)\]` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(told) == set(extras)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's line of verbs was run on a tiny centre."""
    place = tmp_path_factory.mktemp("readme")
    generate(Settings(contacts=1200, csas=14, seed=3), place / "my-tables")
    [line] = [block for block in blocks(README, "sh") if block.startswith("twotower check")]
    with contextlib.chdir(place):
        arrivals(Path("my-tables"), Path("arrivals.parquet"))
        for words in commands(line):
            quick = QUICK if words[1] == "train" else []
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                status = main([*words[1:], *quick])
            assert status == 0, f"{named(words)}: {said.getvalue()}"
    return place


def arrivals(data: Path, output: Path) -> None:
    """The contacts of the last days, as a file of their own."""
    contacts = pq.read_table(data / "contacts.parquet")
    late = from_arrow(contacts["arrived_at"], 0) >= parse_time("2026-06-28T00:00:00Z", "arrivals")
    pq.write_table(contacts.filter(pa.array(late)), output)


def test_the_line_of_verbs_ends_with_candidates(done: Path) -> None:
    contacts, matched = pq.read_table(done / "arrivals.parquet"), pq.read_table(done / "candidates.parquet")
    assert matched.column_names == ["contact_id", "rank", "csa_id", "score", "p_resolved"]
    eligible = dict(zip(contacts["contact_id"].to_pylist(), contacts["eligible"].to_pylist(), strict=True))
    pairs = list(zip(matched["contact_id"].to_pylist(), matched["csa_id"].to_pylist(), strict=True))
    assert {contact for contact, _ in pairs} == {contact for contact, csas in eligible.items() if csas}
    assert all(csa in eligible[contact] for contact, csa in pairs)
    shown = Counter(contact for contact, _ in pairs)
    assert all(count == min(10, len(eligible[contact])) for contact, count in shown.items())


def test_the_line_of_verbs_leaves_a_report_without_warnings_of_a_seen_test(done: Path) -> None:
    page = (done / "out" / "first" / "report.html").read_text(encoding="utf-8")
    assert "Against the truth" in page
    assert "it has seen part of the test" not in page


def test_the_routers_lines_run(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks(README, "python")
    with contextlib.chdir(done):
        exec(compile(code, str(README), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all("Reason(" in line for line in lines)


def test_the_lines_of_the_customers_store_run(done: Path) -> None:
    page = ROOT / "docs" / "customers.md"
    [code] = blocks(page, "python")
    secret, state = done / "customers.secret", done / "customers.state"
    secret.write_bytes(b"sixteen bytes or more")
    build = ["bundles/first", "--data", "my-tables", "--output", str(state), "--secret", str(secret)]
    with contextlib.chdir(done):
        assert main(["customers", "build", *build]) == 0
        before = state.read_bytes()
        exec(compile(code, str(page), "exec"), {})
    assert state.read_bytes() != before


def test_the_lines_of_utility_run(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "utility.md"
    [code] = blocks(page, "python")
    (done / "configs").mkdir()
    (done / "configs" / "utility.yaml").write_bytes((ROOT / "configs" / "utility.yaml").read_bytes())
    with contextlib.chdir(done):
        exec(compile(code, str(page), "exec"), {})
        for words in commands(blocks(page, "sh")[0]):
            assert main(words[1:]) == 0
    assert "handle_time_s=" in capsys.readouterr().out


def test_the_lines_of_explanations_run(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = ROOT / "docs" / "explanations.md"
    [code] = blocks(page, "python")
    with contextlib.chdir(done):
        exec(compile(code, str(page), "exec"), {})
    assert "This tells of one person" in capsys.readouterr().out


def test_the_tables_that_the_page_writes_are_read(tmp_path: Path) -> None:
    from twotower.tables.schema import CONTACTS

    [code] = blocks(tables_page.PAGE, "python")
    (tmp_path / "my-tables").mkdir()
    with contextlib.chdir(tmp_path):
        exec(compile(code, str(tables_page.PAGE), "exec"), {})
    written = pq.read_table(tmp_path / "my-tables" / "contacts.parquet")
    assert set(written.column_names) <= {column.name for column in CONTACTS.columns}
    assert written.schema.field("arrived_at").type == CONTACTS.column("arrived_at").type
    assert {column.name for column in CONTACTS.columns if not column.optional} <= set(written.column_names)
