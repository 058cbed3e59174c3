"""Every feature there is, by level and family: the one list that tensors, files and pages are made from.

Notable: a feature is declared where it is computed (`contact.py`, `customer.py`, `csa.py`, `engine/record.py`,
`complexity.py`) and nowhere else; this module puts the declarations in order and names the families that a
configuration switches. Which of them are on by default is what `benchmarks/ablation.py` measured (docs/results.md).

    python -m twotower.features.registry > docs/features.md
"""

from __future__ import annotations

from typing import Any

from twotower.features import contact, customer
from twotower.features.complexity import COMPLEXITY, Complexity
from twotower.features.csa import CSA
from twotower.features.feature import AS_OF, Feature


def _complexity(one: Complexity, place: int) -> Feature[Any]:
    # Computed inside the contact tower's graph: the source is what the tower said, `sessions.Encoded`.
    return Feature(
        one.name, "contact", "complexity", one.unit, one.low, one.high, one.meaning, "heads",
        lambda encoded: encoded.complexity[:, place],
    )  # fmt: skip


FEATURES: tuple[Feature[Any], ...] = (
    *contact.LABELS,
    *contact.NUMBERS,
    *customer.NUMBERS,
    *customer.RELATIONSHIP,
    *(_complexity(one, i) for i, one in enumerate(COMPLEXITY)),
    *CSA,
)

FAMILIES: dict[str, str] = {
    "labels": "channel, queue, language and intent of a contact",
    "form": "lengths, marks and characters of the text",
    "clock": "hour of arrival",
    "priority": "priority as given",
    "signals": "sentiment, urgency, upset, manner and issues named",
    "complexity": "predicted handle time, its spread, risks of transfer, repeat and failure",
    "customer": "whether the customer is known, and since when",
    "frequency": "how often the customer comes",
    "style": "how the customer writes, and how that drifts",
    "relationship": "who served the customer before, and how it ended",
    "profile": "the CSA's profile text",
    "skills": "the CSA's skills and levels",
    "roster": "languages, site, team and kind",
    "tenure": "days since hiring and a beginner's curve",
    "record": "success, handle time, transfers and ratings, decayed",
    "upset": "results on upset contacts against expectation",
    "load": "recent assignments and open work",
    "similarity": "likeness of recent to older work",
    "history": "decayed embeddings of what went well and what did not",
    "groups": "success and handle time by intent, language, channel and complexity",
}
# On by default, and what is added where people chose their work themselves and the log tells who took what.
DEFAULT: tuple[str, ...] = ("labels", "customer", "profile", "skills", "roster", "tenure")
BY_CHOICE: tuple[str, ...] = ("frequency", "style")


def suggested(by_choice: bool) -> tuple[str, ...]:
    """Families that are on where a configuration names none."""
    return (*DEFAULT, *BY_CHOICE) if by_choice else DEFAULT


def page() -> str:
    """Every feature as a Markdown page."""
    lines = [
        "# Features",
        "",
        "Written by `python -m twotower.features.registry`; a test holds it to the code. Families are switched by",
        "`data.towers.families`; those in **bold** are on by default, those in *italics* also where the log tells who",
        "took what because people chose their work ([why](results.md#what-each-family-of-features-adds)). A value that",
        "is not known is the default, 0 where the meaning says no other.",
        "",
        "| as of | rule |",
        "| --- | --- |",
        *(f"| {name} | {rule} |" for name, rule in AS_OF.items()),
        "",
        "Every rule means *strictly before*: facts known in the very microsecond do not count.",
    ]
    for family, meaning in FAMILIES.items():
        members = [feature for feature in FEATURES if feature.family == family]
        title = f"**{family}**" if family in DEFAULT else f"*{family}*" if family in BY_CHOICE else family
        lines += ["", f"## {title}", "", f"{meaning[0].upper()}{meaning[1:]}.", ""]
        lines += ["| feature | of | unit | range | meaning | as of |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [_row(feature) for feature in members]
    return "\n".join(lines) + "\n"


def _row(feature: Feature[Any]) -> str:
    several = "" if feature.columns is None else " (several columns)"
    unit, meaning = (text.replace("|", "\\|") for text in (feature.unit, feature.meaning))
    return (
        f"| `{feature.name}`{several} | {feature.level} | {unit} | {feature.low:g} … {feature.high:g} "
        f"| {meaning} | {feature.as_of} |"
    )


if __name__ == "__main__":
    print(page(), end="")
