"""`twotower generate`: a contact centre with known truth."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from twotower.cli import Report, Verb

HARDER = (
    ("confounding", 1.0, "times as much as by default that the queue prefers the fast, who are the worse; 0 to 10"),
    ("joiners", 0.0, "share of CSAs who are new when the test begins, beyond those who join anyway; 0 to 0.6"),
    ("drift", 0.0, "how far skills and what contacts are about move over the window; 0 to 0.99"),
    ("noise", 0.0, "share of words dropped, misspelt or replaced, and of intent labels left out; 0 to 1"),
    ("propensity-error", 0.0, "standard deviation of the error in the log of logged propensities; 0 to 5"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("--contacts", type=int, required=True, metavar="N", help="contacts that arrive in the window")
    parser.add_argument("--csas", type=int, required=True, metavar="J", help="CSAs, joiners and leavers included")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to create")
    parser.add_argument(
        "--languages", default="en,es,de", help="codes with commas between, the most frequent first (default en,es,de)"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses the world (default 0)")
    parser.add_argument("--days", type=int, default=180, help="length of the window (default 180)")
    parser.add_argument(
        "--eligible", type=float, default=25, metavar="E", help="mean number of eligible CSAs aimed at (default 25)"
    )
    parser.add_argument("--until", default="2026-07-01T00:00:00Z", metavar="TIME", help="end of the window")
    parser.add_argument(
        "--propensities",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="log the probability of the queue's choices, which real queues do not (default: not)",
    )
    parser.add_argument(
        "--resolved-only", action="store_true", help="log only the hand-overs that resolved the contact"
    )
    harder = parser.add_argument_group("harder worlds", "what is left out changes no bit of a centre")
    for name, default, told in HARDER:
        harder.add_argument(f"--{name}", type=float, default=default, metavar="X", help=f"{told} (default {default:g})")
    harder.add_argument(
        "--launches", type=int, default=0, metavar="N", help="intents, and products, that are new in the last days"
    )
    harder.add_argument(
        "--launch-days", type=int, default=28, metavar="N", help="over how many last days --launches come (default 28)"
    )
    harder.add_argument(
        "--joiner-contacts",
        default="0,20,50",
        metavar="N,…",
        help="what --joiners have been given before the test begins, at most, in equal groups (default 0,20,50)",
    )


def run(args: argparse.Namespace) -> Report:
    """Generates the centre and says what is in it."""
    from evaluation.generate.centre import generate
    from evaluation.generate.settings import Settings

    settings = Settings(
        contacts=args.contacts,
        csas=args.csas,
        languages=tuple(code.strip() for code in args.languages.split(",") if code.strip()),
        seed=args.seed,
        days=args.days,
        eligible=args.eligible,
        propensities=args.propensities,
        resolved_only=args.resolved_only,
        confounding=args.confounding,
        joiners=args.joiners,
        joiner_contacts=_numbers(args.joiner_contacts),
        drift=args.drift,
        launches=args.launches,
        launch_days=args.launch_days,
        noise=args.noise,
        propensity_error=args.propensity_error,
        until=args.until,
    )
    made = generate(settings, args.output)
    text = (
        f"{args.output}: {made.contacts:,} contacts of {made.customers:,} customers, {made.csas:,} CSAs on "
        f"{made.shifts:,} shifts, {made.handovers:,} hand-overs\n"
        f"resolved {made.resolved:.1%} of those known, eligible {made.mean_eligible:.1f} on average, "
        f"abandoned {made.abandoned:,}; truth for {made.truth_pairs:,} pairs of the last tenth"
    )
    return Report(text, {"output": str(args.output), **asdict(made)})


def _numbers(text: str) -> tuple[int, ...]:
    from twotower.errors import ConfigError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--joiner-contacts {text!r}: numbers from 0 with commas between were expected") from None


VERB = Verb(help="generate a contact centre with known truth", configure=configure, run=run)
