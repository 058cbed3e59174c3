"""What must hold before a number is told. A check that fails refuses the whole answer, in one line that says what to
do.

Notable: whether the arms got the contacts they should is asked of what was drawn. Of the design `customer` these are
customers (chi-square, tea-tasting's SampleRatio). Blocks and sites differ in traffic, so contacts as if each had been
drawn would be refused in every honest switchback; there the treatment's contacts are held against what the lots
themselves would have given it, χ² = (observed − mean)² / variance over schedules drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from evaluation.experiment.effects import Means, Setting
from evaluation.experiment.frame import CONTROL, TREATMENT
from evaluation.experiment.outcomes import OF_CELLS, OF_HANDOVERS, Outcome, outcome_of
from evaluation.experiment.plan import Plan
from evaluation.experiment.spans import Spans
from twotower.clock import DAY, SECOND, format_time, parse_time

Status = Literal["passed", "refused", "note"]

MISMATCH = 0.001
"""p below which arms did not get the contacts they should (Fabijan et al. 2019, KDD)."""
KNOWN_APART, TOO_FAR_APART = 0.02, 0.05
"""Difference of the arms' shares of known outcomes from which one is told, and from which there is no answer."""


@dataclass(frozen=True)
class Check:
    """One question to plan and data, and how it went."""

    name: str
    status: Status
    said: str
    """One line."""


def of_schedule(plan: Plan, spans: Spans) -> list[Check]:
    """Whether the schedule is one that something can be learnt from."""
    overlap = spans.overlap()
    found = [
        _check("spans", not overlap, "no unit has two arms at once", f"{overlap}; which arm it was cannot be told")
    ]
    for arm, name in ((CONTROL, plan.control.name), (TREATMENT, plan.treatment.name)):
        many = _windows(plan, spans, arm)
        word = "cluster" if plan.design == "cluster" else "window" if plan.design == "customer" else "block"
        said = "no span at all" if many == 0 else f"a single {word}, so chance cannot be told from effect"
        found.append(_check(f"clusters of {name}", many > 1, f"{many} {word}s", f"arm {name!r} has {said}"))
    return found


def _windows(plan: Plan, spans: Spans, arm: int) -> int:
    begins = spans.begins[spans.arm == arm]
    return len(np.unique(begins)) if plan.design == "customer" else len(begins)


def of_time(plan: Plan, look: int, data_end: int) -> list[Check]:
    """Whether one may look now (µs UTC), and whether the data reach so far."""
    first = parse_time(plan.ends if plan.stopping.rule == "fixed" else plan.stopping.first_look or plan.begins)
    rule = "the rule is fixed" if plan.stopping.rule == "fixed" else "first_look"
    early = f"a look at {format_time(look)} comes before the first one allowed, {format_time(first)} ({rule}); wait"
    short = f"data end at {format_time(data_end)}, more than a day before {format_time(look)}; give newer tables" + (
        "" if plan.stopping.rule == "fixed" else ", or --at for an interim look"
    )
    return [
        _check("first look", look >= first, f"not before {format_time(first)}", early),
        _check("data's end", data_end >= look - DAY, f"{format_time(data_end)}", short),
    ]


def of_blocks(plan: Plan, spans: Spans, arrived: npt.NDArray[np.int64], look: int, data_end: int) -> list[Check]:
    """Whether the blocks are there that had ended at the look: one at least, and nothing of more than one after the
    last record. Hours in which hardly anybody arrives are not missed: that nobody came must be less likely than 0.001.

    arrived (N,): of contacts; all in µs UTC.
    """
    if plan.design == "cluster":
        return []
    begins, first = np.unique(spans.begins, return_index=True)
    ends = spans.ends[first]
    over = ends <= look
    if not over.any():
        when = f"the first of the schedule ends at {format_time(int(ends.min()))}"
        said = f"no block had ended at {format_time(look)}, {when}; look later, or give the schedule of this plan"
        return [Check("blocks", "refused", said)]
    missed = np.flatnonzero(over & ((begins + ends) // 2 > data_end))
    usual = np.array([_usual(arrived, max(int(begins[i]), data_end + 1), int(ends[i])) for i in missed])
    missed = missed[usual > 0]
    if math.exp(-usual.sum()) >= MISMATCH:
        return [Check("blocks", "passed", "data reach into the last one")]
    many = int((begins[missed] > data_end).sum())
    block, are = ("block", "is") if len(missed) == 1 else ("blocks", "are")
    said = (
        f"nothing was written down after {format_time(data_end)}, so that {len(missed)} {block} from "
        f"{format_time(int(begins[missed[0]]))} on {are} missing or less than half there"
    )
    if many <= 1:
        return [Check("blocks", "note", said)]
    again = "" if plan.stopping.rule == "fixed" else ", or --at for an interim look"
    return [Check("blocks", "refused", f"{said}; give newer tables{again}")]


def _usual(arrived: npt.NDArray[np.int64], begins: int, ends: int) -> float:
    """Contacts that arrive at such hours of that day of the week, or of any day before a week is over."""
    before = begins - int(arrived.min(initial=begins))
    every = 7 * DAY if before >= 7 * DAY else DAY
    return float(((arrived - begins) % every < ends - begins).sum()) / max(before / every, 1.0)


def of_data(setting: Setting, outcomes: dict[str, Outcome]) -> list[Check]:
    """Whether contacts are where the schedule puts them, and whether what decides was measured in both arms."""
    found = list(_arms(setting))
    if all(one.status != "refused" for one in found):
        found += [*_measured(setting, outcomes), _ratio(setting), *_followed(setting)]
    return found


def _arms(setting: Setting) -> Iterator[Check]:
    cells, plan = setting.cells, setting.plan
    many = cells.total(np.flatnonzero(cells.counted))
    for arm, name in ((CONTROL, plan.control.name), (TREATMENT, plan.treatment.name)):
        of_arm = many[cells.arm == arm]
        with_any = int((of_arm > 0).sum())
        bad = "not a contact" if not with_any else "contacts in a single block or cluster"
        yield _check(f"contacts of {name}", with_any > 1, f"{of_arm.sum():,.0f}", f"arm {name!r} has {bad} that counts")


def _measured(setting: Setting, outcomes: dict[str, Outcome]) -> Iterator[Check]:
    """Primary metric and guardrails are known in both arms; a guardrail that nobody measured at all is said
    elsewhere."""
    plan = setting.plan
    for metric in dict.fromkeys((plan.primary.metric, *(guard.metric for guard in plan.guardrails))):
        if metric not in outcomes:
            continue
        some = setting.known_in(metric, outcomes[metric])
        if metric != plan.primary.metric and not (outcomes[metric].n > 0).any():
            continue
        arms = ((CONTROL, plan.control.name), (TREATMENT, plan.treatment.name))
        less = [name for a, name in arms if some[a] < 2]
        which = f"arm {less[0]!r}" if len(less) == 1 else "either arm"
        yield _check(metric, not less, "known in both arms", f"{metric} is known in less than two cells of {which}")
        if metric not in OF_CELLS and not less:
            yield from _known_apart(setting, metric)


def _known_apart(setting: Setting, metric: str) -> Iterator[Check]:
    """Outcomes that are known more often in one arm: who is not known may differ, and no design undoes that.

    Errors are the design's, and not less than those of as many contacts drawn one by one: few cells may agree by
    chance.
    """
    could, known = setting.could(metric), ~np.isnan(setting.column(metric))
    if known[could].all():
        return
    arm = setting.cells.arm[setting.cells.of]
    n = np.array([(could & (arm == a)).sum() for a in (CONTROL, TREATMENT)])
    many = np.array([(known & could & (arm == a)).sum() for a in (CONTROL, TREATMENT)])
    told = Means(setting, outcome_of(setting.cells, metric, known.astype(np.float64)), could).difference()
    pooled = many.sum() / n.sum()
    least = math.sqrt(pooled * (1 - pooled) * float((1 / n).sum()))
    p = replace(told, se=max(told.se, least)).p()
    control, treatment = many / n
    if abs(treatment - control) <= KNOWN_APART or p >= MISMATCH:
        return
    plan = setting.plan
    said = (
        f"{metric} is known of {control:.1%} of contacts in arm {plan.control.name!r} and of {treatment:.1%} in arm "
        f"{plan.treatment.name!r} (p {p:.2g}); who is not known may differ"
    )
    if abs(treatment - control) <= TOO_FAR_APART:
        yield Check(f"{metric} known", "note", said)
        return
    remedy = ", or set mature_days so that both arms are known" if metric in OF_HANDOVERS else ""
    yield Check(f"{metric} known", "refused", f"{said}; find out why{remedy}")


def _ratio(setting: Setting) -> Check:
    """Sample-ratio mismatch."""
    cells, plan = setting.cells, setting.plan
    if plan.design == "customer":
        return _ratio_of_customers(setting)
    inside = cells.total(np.flatnonzero(cells.of >= 0))
    # Of how many are the treatment's under each schedule: a share of all, whose lots are those of the experiment.
    arms, _ = setting.lots
    shares = (arms == TREATMENT) @ inside / inside.sum()
    mean, sd, got = float(shares.mean()), float(shares.std()), float(shares[0])
    p = 1.0 if sd < 1e-12 else math.erfc(abs(got - mean) / sd / math.sqrt(2))
    said = f"{got:.1%} of contacts in the treatment, {mean:.1%} ± {2 * sd:.1%} by the lots (χ² test, p {p:.2g})"
    return _check("sample ratio", p >= MISMATCH, said, f"sample-ratio mismatch: {said}; find out who loses contacts")


def _ratio_of_customers(setting: Setting) -> Check:
    import pandas as pd
    from tea_tasting.metrics import SampleRatio

    cells, share = setting.cells, setting.plan.share
    rows = np.flatnonzero(cells.of >= 0)
    data = pd.DataFrame({"arm": cells.arm[cells.of[rows]].astype(np.int64), "who": setting.customers[rows]})
    once = data.drop_duplicates()
    found = SampleRatio(share / (1 - share)).analyze(once, 0, 1, "arm")
    twice = int(once["who"].duplicated().sum())
    got = found.treatment / max(found.treatment + found.control, 1)
    said = f"{got:.1%} of customers in the treatment, {share:.1%} expected (χ² test, p {found.pvalue:.2g})"
    if twice:
        return Check("sample ratio", "refused", f"{twice} customers were in both arms; one stays in one arm")
    good = found.pvalue >= MISMATCH
    return _check("sample ratio", good, said, f"sample-ratio mismatch: {said}; find out who loses customers")


def policy_arms(plan: Plan, policies: npt.NDArray[np.object_]) -> npt.NDArray[np.int8]:
    """(N,) whose policy it is: 0 control, 1 treatment, −1 neither; the longest beginning of a name that is known
    counts."""
    import pandas as pd

    known = [(name, CONTROL) for name in plan.control.policies] + [
        (name, TREATMENT) for name in plan.treatment.policies
    ]
    known.sort(key=lambda one: -len(one[0]))
    codes, names = pd.factorize(policies)
    arms = [next((arm for start, arm in known if str(name).startswith(start)), -1) for name in names]
    return np.array([*arms, -1], np.int8)[codes]


def _followed(setting: Setting) -> Iterator[Check]:
    """Whether hand-overs were chosen by their arm's policy."""
    cells, plan = setting.cells, setting.plan
    policies = setting.frame["policy"].to_numpy(object)
    taken = cells.counted & ~setting.frame["csa_id"].isna().to_numpy()
    told, whose = _told(policies), policy_arms(plan, policies)
    in_time = _in_time(setting) if plan.design == "switchback" else np.ones(len(told), np.bool_)
    named = np.flatnonzero(taken & told & in_time)
    neither = named[whose[named] < 0]
    whose = _by_pool(setting, whose) if plan.design == "customer" else np.where(in_time, whose, -1)
    rows = np.flatnonzero(cells.counted & (whose >= 0))
    if not len(rows) and not len(named):
        yield Check("schedule followed", "note", "no hand-over says which policy chose, so it cannot be checked")
        return
    arm = cells.arm[cells.of[rows]]
    for a, asked in ((CONTROL, plan.control), (TREATMENT, plan.treatment)):
        if not (whose[rows[arm == a]] == a).any():
            seen = _names(policies[named[cells.arm[cells.of[named]] == a]])
            there = f"there are {seen}" if seen else "none there says which policy chose"
            said = f"no hand-over in arm {asked.name!r} is by {' or '.join(asked.policies)}; {there}"
            yield Check("schedule followed", "refused", f"{said}; correct the arm's policies in the plan")
            return
    yield _as_planned(setting, rows, whose)
    yield _by_neither(setting, named, neither, _names(policies[neither]))
    yield from _untold(setting, np.flatnonzero(taken), told)


def _told(policies: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """(N,) that say which policy chose."""
    import pandas as pd

    told: npt.NDArray[np.bool_] = ~np.asarray(pd.isna(policies), np.bool_) & (policies != "")
    return told


def _names(policies: npt.NDArray[np.object_]) -> str:
    """The first few."""
    names = sorted({str(name) for name in policies})
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _by_neither(setting: Setting, named: npt.NDArray[np.int64], neither: npt.NDArray[np.int64], names: str) -> Check:
    """Hand-overs by policies that the plan gives to no arm, of each arm and in the worst cell: what chose there is not
    what was asked about."""
    cells, plan = setting.cells, setting.plan
    many, bad, tolerated = cells.total(named), cells.total(neither), plan.not_followed
    shares = [float(bad[cells.arm == a].sum() / max(many[cells.arm == a].sum(), 1)) for a in (CONTROL, TREATMENT)]
    worst = _worst(many, bad, tolerated)
    good = max(shares) <= tolerated and not _surely(many[worst], bad[worst], tolerated, len(many))
    said = (
        f"{shares[0]:.2%} of hand-overs in arm {plan.control.name!r} and {shares[1]:.2%} in arm "
        f"{plan.treatment.name!r} are by policies of neither, at most {tolerated:.2%} tolerated"
    )
    block = f"there are {names}; {_place(setting, worst, many, bad)}; list in the plan what belongs to an arm"
    return _check("policies of neither arm", good, said, f"{said}; {block}")


def _untold(setting: Setting, taken: npt.NDArray[np.int64], told: npt.NDArray[np.bool_]) -> Iterator[Check]:
    """Hand-overs that do not say which policy chose, so that nobody knows whether the schedule was followed."""
    cells, plan = setting.cells, setting.plan
    many, silent = cells.total(taken), cells.total(taken[~told[taken]])
    shares = [float(silent[cells.arm == a].sum() / max(many[cells.arm == a].sum(), 1)) for a in (CONTROL, TREATMENT)]
    if max(shares) > plan.not_followed:
        yield Check(
            "policies", "note",
            f"{shares[0]:.0%} of hand-overs in arm {plan.control.name!r} and {shares[1]:.0%} in arm "
            f"{plan.treatment.name!r} do not say which policy chose, so of these it cannot be checked",
        )  # fmt: skip


def _place(setting: Setting, worst: int, many: npt.NDArray[np.float64], bad: npt.NDArray[np.float64]) -> str:
    """The worst cell in words."""
    cells = setting.cells
    where = f"{cells.unit[worst]} from {format_time(int(cells.begins[worst]))} on"
    return f"worst is {where}: {bad[worst]:.0f} of {many[worst]:.0f}"


def _in_time(setting: Setting) -> npt.NDArray[np.bool_]:
    """(N,) taken while the arm still held in which they arrived. Who waits across a change is taken up by whichever
    policy holds then, as it must be."""
    frame, cells, spans = setting.frame, setting.cells, setting.spans
    waited = np.nan_to_num(frame["wait_s"].to_numpy(np.float64)) * SECOND
    span = spans.at(frame["unit"].to_numpy(object), cells.arrived + waited.astype(np.int64))
    same: npt.NDArray[np.bool_] = (span >= 0) & (spans.arm[span] == cells.arm[cells.of])
    return same


def _as_planned(setting: Setting, rows: npt.NDArray[np.int64], whose: npt.NDArray[np.int8]) -> Check:
    """Hand-overs by the other arm's policy, of all and in the worst cell."""
    cells, tolerated = setting.cells, setting.plan.not_followed
    wrong = rows[whose[rows] != cells.arm[cells.of[rows]]]
    many, bad = cells.total(rows), cells.total(wrong)
    share = len(wrong) / len(rows)
    worst = _worst(many, bad, tolerated)
    good = share <= tolerated and not _surely(many[worst], bad[worst], tolerated, len(many))
    said = f"{share:.2%} of hand-overs by the other arm's policy, at most {tolerated:.2%} tolerated"
    place = _place(setting, worst, many, bad)
    return _check("schedule followed", good, said, f"the schedule was not followed: {said}; {place}")


def _by_pool(setting: Setting, whose: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """The arm (N,) that a hand-over was of: of a CSA of the other pool it is the other's, whatever the policy."""
    span = setting.spans.at(setting.frame["csa_id"].to_numpy(object), setting.cells.arrived)
    pool = np.where(span >= 0, setting.spans.arm[span], -1).astype(np.int8)
    of = setting.cells.arm[setting.cells.of]
    return np.where((pool >= 0) & ((whose < 0) | (pool != of)), pool, whose)


def _worst(many: npt.NDArray[np.float64], bad: npt.NDArray[np.float64], tolerated: float) -> int:
    """The cell that is the most standard errors above what is tolerated."""
    spread = np.sqrt(np.maximum(many * tolerated * (1 - tolerated), 1e-12))
    return int(np.argmax(np.where(many > 0, (bad - many * tolerated) / spread, -np.inf)))


def _surely(many: float, bad: float, tolerated: float, cells: int) -> bool:
    """Whether one of so many cells is above what is tolerated by more than chance."""
    from scipy.stats import binom

    return bool(binom.sf(bad - 1, many, tolerated) < MISMATCH / cells)


def _check(name: str, good: bool, said: str, bad: str) -> Check:
    return Check(name, "passed" if good else "refused", said if good else bad)
