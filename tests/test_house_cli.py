"""The command line: verbs by entry point, reports for people and machines, errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint, entry_points

import pytest

from twotower.cli import GROUP, main, run_verb


def run(name: str, *argv: str) -> int:
    """Runs one of the verbs in `tests/verbs.py`."""
    return run_verb(name.lower(), argv, EntryPoint(name.lower(), f"tests.verbs:{name}", GROUP))


def test_a_report_is_printed_for_people(capsys):
    assert run("NUMBERS", "--count", "3") == 0
    assert capsys.readouterr().out == "counted 3\n"


def test_with_json_the_data_is_printed_for_machines(capsys):
    assert run("NUMBERS", "--json", "--count", "3") == 0
    data = json.loads(capsys.readouterr().out)
    assert data == {"count": 3, "mean": None, "path": "a/b", "scores": [0.5, None]}


def test_a_report_that_is_not_ok_exits_with_one(capsys):
    assert run("NUMBERS", "--count", "0") == 1
    assert capsys.readouterr().out == "counted 0\n"


def test_an_error_is_one_line_on_stderr(capsys):
    assert run("REFUSE") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "twotower refuse: contacts.parquet, row 3: no such thing\n"


def test_a_missing_package_names_the_extra(capsys):
    assert run("NEED") == 1
    assert capsys.readouterr().err == (
        "twotower need: needs the package a_package_nobody_has, which is not installed; "
        "run: pip install 'twotower-matcher[train]'\n"
    )


def test_a_defect_of_our_own_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError):
        run("BROKEN")


def test_a_file_that_cannot_be_opened_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("OPEN") == 1
    assert capsys.readouterr().err == "twotower open: nowhere/at-all: No such file or directory\n"


def test_an_interrupt_is_no_success(capsys):
    assert run("INTERRUPTED") == 130
    assert capsys.readouterr().err == "twotower interrupted: interrupted\n"


def test_options_for_another_parser_are_passed_on(capsys):
    assert run("REST", "--count", "2", "--trainer.max_epochs", "3") == 0
    assert capsys.readouterr().out == "--trainer.max_epochs 3\n"


def test_options_nobody_knows_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("NUMBERS", "--nonsense")
    assert stopped.value.code == 2
    assert "unrecognized arguments: --nonsense" in capsys.readouterr().err


def test_an_unknown_verb_is_told_the_verbs(capsys):
    assert main(["guess"]) == 2
    error = capsys.readouterr().err
    assert "no verb 'guess'; the verbs are " in error
    assert " check, " in error


def test_help_lists_every_verb_with_what_it_does(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    for entry in entry_points(group=GROUP):
        assert f"  {entry.name:<10} {entry.load().help}" in said


@pytest.mark.parametrize("name", sorted(entry.name for entry in entry_points(group=GROUP)))
def test_every_verb_has_help_and_json(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: twotower {name}" in said
    assert "--json" in said


def test_help_is_quick_and_loads_nothing_heavy():
    loaded = (
        "import sys; from twotower.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'pandas', 'pandera', 'scipy', 'faiss', 'onnxruntime', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_verb_leaves_nothing_half_written(tmp_path, sent):
    code = (
        "import signal, sys; from importlib.metadata import EntryPoint; from twotower.cli import run_verb\n"
        # Where the tests run in the background, a shell has them ignore interrupts, and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.exit(run_verb('slow', sys.argv[1:], EntryPoint('slow', 'tests.verbs:SLOW', '')))"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "out")]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ})
    assert process.stdout
    assert process.stdout.readline() == b"writing\n"
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.05)
    process.send_signal(sent)
    assert process.wait(20) != 0
    assert list(tmp_path.iterdir()) == []
