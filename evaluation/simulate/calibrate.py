"""A centre fitted to a call log: arrivals, patience, handling, after-call work, order of service and staffing.

Formulas and sources are in `docs/calibrate.md`. Notable: everything is fitted to the days that it is given, so that
other days can be held out; what a held-out day brings is its arrivals and who was there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evaluation.simulate.after_call import After, fit_after
from evaluation.simulate.calls import UNKNOWN, Calls
from evaluation.simulate.centre import Centre, Patience, Shifts
from evaluation.simulate.discipline import Discipline, fit_discipline
from evaluation.simulate.on_shift import Staffing
from evaluation.simulate.survival import Survival, kaplan_meier
from twotower.errors import DataError

Doubles = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
HALF_HOUR_S = 1800.0
SHORT_S = 10.0


@dataclass(frozen=True)
class Choices:
    """Modelling choices, made on fitting days."""

    staffing: Staffing = field(default_factory=Staffing)
    after: str = "interval"
    """After-call work: `none`, `queued` (gaps after which a call had waited, as they are), `interval` (all gaps)."""
    waiting: tuple[int, ...] = (0, 1, 2, 3, 5)
    """From how many waiting calls on after-call work is fitted apart."""
    shrunk: float = 20.0
    """Calls that the mean of a type by a CSA is worth before any was seen."""
    skilled: float = 0.1
    """A CSA takes a type if they took so large a share of what their calls would have of it."""
    patience_of: str = "class"
    """`class` (type and priority), `type` or `all`."""
    sigma: str = "moments"
    """Of handling times: `moments` (keeps their variance) or `logs` (of the logarithm)."""
    credits: bool = True
    """Whether classes have head starts."""
    pace: bool = True
    """Whether handling times differ by the hour of the day."""
    day_effect: bool = True
    """Whether handling times share a day's luck."""
    after_luck: float = 0.3
    """Least standard deviation of the logarithm of a day's luck in after-call work: what gaps alone do not show of how
    available people are on a day, such as pauses while nobody waits. Chosen by the coverage on fitting days."""
    drawn_edges: bool = True
    """Whether how long before its first and after its last service a stretch of work goes on is drawn."""
    few: int = 100
    """Abandonments that a group needs to have a patience of its own."""


@dataclass(frozen=True)
class Rates:
    """Arrivals: calls an hour (kinds of days, classes, half-hours of the day), and by how much counts of half-hours
    vary more than a Poisson's (1: no more), of a half-hour alone and with its day's luck taken off."""

    an_hour: Doubles
    dispersion: float
    dispersion_within: float
    day_cv: float


@dataclass(frozen=True)
class Fitted:
    """All that was fitted; K = 2·T classes (type and priority) and J CSAs."""

    classes: tuple[str, ...]
    csas: tuple[str, ...]
    rates: Rates
    high_share: Doubles
    """(T,)."""
    survival: tuple[Survival, ...]
    patience_from: tuple[str, ...]
    """(K,) which calls a class has its patience of."""
    handle_s: Doubles
    """(K, J); 0: does not take it."""
    sigma: Doubles
    pace: Doubles
    """(48,) by half-hour of the day, times `handle_s`."""
    short: Doubles
    """(T,) share of services of at most ten seconds."""
    day_sigma: float
    """Of the logarithm of a day's handling times, beside chance."""
    after: After | None
    discipline: Discipline
    choices: Choices
    days: tuple[int, ...]

    def centre(self, shifts: Shifts | None, kind: int = 0, slow: float = 1.0, longer: float = 1.0) -> Centre:
        """For one day of a kind; handling times `slow` times and after-call work `longer` times as long."""
        k, j = self.handle_s.shape
        return Centre(
            classes=self.classes,
            csas=self.csas,
            rates=self.rates.an_hour[kind],
            handle_s=self.handle_s * slow,
            success=np.ones((k, j)),
            interval_s=HALF_HOUR_S,
            sigma=self.sigma,
            pace=self.pace,
            patience=self.patience(),
            shifts=shifts,
            head_start_s=self.discipline.head_start() if self.choices.credits else None,
            after_s=None if self.after is None else self.after.seconds * longer,
            after_waiting=self.choices.waiting if self.after is not None else (0,),
            after_pace=None if self.after is None else self.after.pace,
        )

    def luck_of_a_day(self, luck: np.random.Generator) -> tuple[float, float]:
        """Times as long as on average handling and after-call work take on a day that is drawn."""
        if not self.choices.day_effect:
            return 1.0, 1.0
        bell = luck.standard_normal(2)
        sigma = np.array(
            [self.day_sigma, 0.0 if self.after is None else max(self.after.day_sigma, self.choices.after_luck)]
        )
        slow, longer = np.exp(bell * sigma - sigma**2 / 2)
        return float(slow), float(longer)

    def patience(self) -> tuple[Patience, ...]:
        """Of each class."""
        return tuple(Patience("quantiles", table=one.quantiles()) for one in self.survival)


def fit(calls: Calls, choices: Choices | None = None) -> Fitted:
    """Fits the days of `calls`. Raises DataError where they are not enough."""
    choices = choices or Choices()
    if not calls.named.any() or not calls.lost.any():
        raise DataError("the days to fit hold no served calls with a CSA's name, or no abandoned ones; both are needed")
    classes = tuple(f"{name}{suffix}" for name in calls.types for suffix in ("", ", priority"))
    can = skills(calls, choices.skilled)
    handle, sigma, pace, day_sigma = handling(calls, can, choices)
    survival, of = patience(calls, choices)
    share = high_share(calls)
    credited = fit_discipline(calls, can) if choices.credits else Discipline(np.zeros(len(can)), 0.0, 0.0, 0.0, 0)
    return Fitted(
        classes=classes,
        csas=calls.csas,
        rates=arrivals(calls, share),
        high_share=share,
        survival=survival,
        patience_from=of,
        handle_s=np.repeat(handle, 2, axis=0),
        sigma=np.repeat(sigma, 2),
        pace=pace,
        short=np.array([_mean(calls.handle[(calls.type == t) & ~calls.lost] <= SHORT_S) for t in range(len(can))]),
        day_sigma=day_sigma,
        after=None
        if choices.after == "none"
        else fit_after(calls, can, choices.staffing, choices.waiting, choices.after),
        discipline=credited,
        choices=choices,
        days=tuple(int(day) for day in np.unique(calls.day)),
    )


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0


def high_share(calls: Calls) -> Doubles:
    """(T,) share of calls with priority among those of whom it is known."""
    known = calls.high != UNKNOWN
    many = np.bincount(calls.type[known], minlength=len(calls.types))
    high = np.bincount(calls.type[known], calls.high[known].astype(np.float64), minlength=len(calls.types))
    return np.where(many > 0, high / np.maximum(many, 1), 0.0)


def arrivals(calls: Calls, share: Doubles) -> Rates:
    """Mean counts by kind of day, class and half-hour, and how they vary between days of a kind."""
    kinds, types, slots = len(calls.kinds), len(calls.types), round(86400 / HALF_HOUR_S)
    slot = (calls.arrival // HALF_HOUR_S).astype(np.int64)
    an_hour = np.zeros((kinds, 2 * types, slots))
    chi, chi_within, freedom, freedom_within, totals = 0.0, 0.0, 0, 0, []
    for kind in range(kinds):
        days = [day for day in np.unique(calls.day) if calls.kind_of[day] == kind]
        if not days:
            continue
        counts = np.zeros((len(days), types, slots))
        for place, day in enumerate(days):
            of = calls.day == day
            np.add.at(counts[place], (calls.type[of], slot[of]), 1)
        mean = counts.mean(axis=0) * 3600.0 / HALF_HOUR_S
        an_hour[kind] = (mean[:, None, :] * np.stack([1 - share, share], axis=1)[:, :, None]).reshape(-1, slots)
        whole = counts.sum(axis=1)
        expected = whole.mean(axis=0, keepdims=True)
        used = expected[0] > 1
        chi += float(((whole - expected) ** 2 / np.maximum(expected, 1e-9))[:, used].sum())
        freedom += (len(days) - 1) * int(used.sum())
        of_day = whole.sum(axis=1, keepdims=True)
        product = of_day * expected / expected.sum()
        chi_within += float(((whole - product) ** 2 / np.maximum(product, 1e-9))[:, used].sum())
        freedom_within += (len(days) - 1) * max(int(used.sum()) - 1, 0)
        totals += [(one / of_day.mean() - 1) ** 2 * len(days) / max(len(days) - 1, 1) for one in of_day[:, 0]]
    return Rates(
        an_hour,
        chi / freedom if freedom else float("nan"),
        chi_within / freedom_within if freedom_within else float("nan"),
        float(np.sqrt(np.mean(totals))),
    )


def skills(calls: Calls, least: float) -> npt.NDArray[np.bool_]:
    """(T, J) who takes what: whose calls have a type at `least` times its share of all calls, and twice at that. Of
    whom nothing was seen takes what most take."""
    types, csas = len(calls.types), len(calls.csas)
    many = np.zeros((types, csas))
    np.add.at(many, (calls.type[calls.named], calls.csa[calls.named]), 1)
    share = many.sum(axis=1) / max(many.sum(), 1)
    can = (many >= 2) & (many >= least * share[:, None] * many.sum(axis=0))
    unseen = many.sum(axis=0) == 0
    can[:, unseen] = (can[:, ~unseen].mean(axis=1) > 0.5)[:, None]
    return can


def handling(calls: Calls, can: npt.NDArray[np.bool_], choices: Choices) -> tuple[Doubles, Doubles, Doubles, float]:
    """Means (T, J) by type and CSA, shrunk to the product of what a type and a CSA take; sigma (T,); the pace (48,) of
    half-hours; a day's luck."""
    types, csas = can.shape
    served, named = ~calls.lost, calls.named
    many, total = np.zeros((types, csas)), np.zeros((types, csas))
    np.add.at(many, (calls.type[named], calls.csa[named]), 1)
    np.add.at(total, (calls.type[named], calls.csa[named]), calls.handle[named])
    overall = float(calls.handle[served].mean())
    of_type = np.array(
        [_shrunk(calls.handle[served & (calls.type == t)], overall, choices.shrunk) for t in range(types)]
    )
    with_name = np.where(many.sum(axis=1) > 0, total.sum(axis=1) / np.maximum(many.sum(axis=1), 1), of_type)
    expected = (many * with_name[:, None]).sum(axis=0)
    prior = choices.shrunk * overall
    of_csa = (total.sum(axis=0) + prior) / (expected + prior)
    product = with_name[:, None] * of_csa
    mean = (total + choices.shrunk * product) / (many + choices.shrunk)
    # Services of which nobody is named count in a type's mean, in equal parts to everybody.
    mean *= (of_type / with_name)[:, None]
    ratio = calls.handle[named] / mean[calls.type[named], calls.csa[named]]
    pace = hourly(calls.start[named], ratio) if choices.pace else np.ones(round(86400 / HALF_HOUR_S))
    ratio = ratio / pace[(calls.start[named] % 86400 // HALF_HOUR_S).astype(np.int64)]
    sigma = np.array([_sigma(ratio[calls.type[named] == t], choices.sigma) for t in range(types)])
    return np.where(can, np.maximum(mean, 1.0), 0.0), sigma, pace, _day_sigma(calls.day[named], ratio)


def hourly(at: Doubles, ratio: Doubles) -> Doubles:
    """(48,) mean ratio of services that began within an hour of the day, shrunk to 1 as far as hours differ by chance
    (the method of moments of empirical Bayes), for both of its half-hours."""
    hour = (at % 86400 // 3600).astype(np.int64)
    many = np.bincount(hour, minlength=24)
    seen = many > 1
    mean = np.bincount(hour, ratio, minlength=24) / np.maximum(many, 1) / ratio.mean()
    chance = float((ratio / ratio.mean()).var()) / np.maximum(many, 1)
    between = max(float(np.average((mean - 1)[seen] ** 2 - chance[seen], weights=many[seen])), 0.0)
    weight = np.where(seen, between / (between + chance + 1e-12), 0.0)
    found = 1 + weight * (mean - 1)
    return np.repeat(found, 2)


def _shrunk(values: Doubles, to: float, weight: float) -> float:
    return float((values.sum() + weight * to) / (len(values) + weight))


def _sigma(ratio: Doubles, how: str) -> float:
    if len(ratio) < 2:
        return 1.0
    if how == "logs":
        return float(np.log(np.maximum(ratio, 1e-3)).std(ddof=1))
    return float(np.sqrt(np.log1p(ratio.var(ddof=1) / max(ratio.mean(), 1e-9) ** 2)))


def _day_sigma(day: Longs, ratio: Doubles) -> float:
    """Standard deviation of days' means of the ratio of a service to what was expected, beside that of chance."""
    days, place = np.unique(day, return_inverse=True)
    if len(days) < 3:
        return 0.0
    many = np.bincount(place)
    mean = np.bincount(place, ratio) / many
    chance = float((ratio.var() / many).mean())
    return float(np.sqrt(max(mean.var(ddof=1) - chance, 0.0)) / mean.mean())


def patience(calls: Calls, choices: Choices) -> tuple[tuple[Survival, ...], tuple[str, ...]]:
    """(K,) curves of time to abandonment, censored by service, and of which calls each one is."""
    queued = calls.wait > 0
    whole = kaplan_meier(calls.wait, calls.lost)
    found, names = [], []
    for t, name in enumerate(calls.types):
        of_type = queued & (calls.type == t)
        for high in (0, 1):
            of_class = of_type & (calls.high == high)
            for of, label, wanted in (
                (of_class, "class", choices.patience_of == "class"),
                (of_type, f"type {name}", choices.patience_of in ("class", "type")),
            ):
                if wanted and int((of & calls.lost).sum()) >= choices.few:
                    found.append(kaplan_meier(calls.wait[of], calls.lost[of]))
                    names.append(label)
                    break
            else:
                found.append(whole)
                names.append("all calls")
    return tuple(found), tuple(names)
