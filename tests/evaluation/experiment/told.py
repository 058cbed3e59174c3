"""What an analysis says of an experiment that was made, and of one that it refuses."""

from __future__ import annotations

from evaluation.experiment.analyse import Analysis, analyse
from tests.evaluation.experiment.made import Made


def said_of(made: Made, **more) -> Analysis:
    return analyse(made.plan, made.schedule, made.frame, draws=300, **more)


def refused(made: Made, **more) -> str:
    """The one refusal, after it is sure that nothing else was told."""
    found = said_of(made, **more)
    assert found.found is None
    assert found.verdict.action == "no answer"
    [line] = found.refusals
    assert "\n" not in line
    assert line in found.verdict.paragraph
    return line
