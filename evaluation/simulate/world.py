"""How a centre behaves and what a policy is, as arrays that a compiler takes (`centre.py` and `policies.py` make them).

The truth of contact c of class k with CSA a, who has handled e contacts and is strained by s in [0, 1]:

    logit p(c, a) = success[k, a] + logit_c + x_c·y_a + pairs[c, a] − gain·exp(−e / scale) − harm·over(s)
    E handle(c, a) = handle[k, a]·(1 + slow·exp(−e / scale))·(1 + tired·over(s))·(1 + chats·others in hand)
    over(s)        = max(0, s − threshold) / (1 − threshold)

and the time itself is lognormal (exponential where sigma is negative) about that mean. Strain moves to its target by
exp(−t / tau): 0 without work, 1 with it, more with the weight of hard classes.
"""

from __future__ import annotations

from typing import NamedTuple

from evaluation.simulate.state import Bytes, Doubles, Ints, Longs, Singles

# Policies of the compiled loop; DECIDED hands every decision to Python.
LONGEST_IDLE, LEVELS, INDEX, RANDOM, DECIDED = range(5)


class World(NamedTuple):
    """What is true. K classes, J CSAs, D columns of a contact's vectors (none: 0)."""

    handle: Doubles
    """(K, J) mean seconds; 0: the CSA cannot take the class."""
    sigma: Doubles
    """(K,) of the logarithm; negative: exponential."""
    success: Doubles
    """(K, J) log-odds."""
    contacts: Singles
    """(N, D)."""
    csas: Singles
    """(J, D)."""
    pairs: Singles
    """(N, J) log-odds of pairs, where they are no inner products; (0, J): none."""
    capacity: Ints
    """(J,) contacts at once."""
    repeats: Doubles
    """(K,) probability that an unresolved one comes back."""
    delay_s: Doubles
    """(K,) mean, exponential."""
    transfers: Doubles
    """(K,) probability that the CSA hands it on."""
    transfer_to: Ints
    """(K,) its class then."""
    hard: Doubles
    """(K,) weight of a class in strain."""
    of: Doubles
    """(8,) gain, scale, slow, tau_s, threshold, harm, tired, chats."""
    pace: Doubles
    """(I, 2) times `handle`, and times `after`, by the interval in which it begins; the last one holds on."""
    interval_s: Doubles
    """(1,)."""
    ahead: Doubles
    """(K,) seconds of waiting that a class is credited with in the order of queues."""
    after: Doubles
    """(L, J, Q) ascending seconds of after-call work at evenly spaced probabilities; Q = 0: none."""
    after_waiting: Longs
    """(L,) from how many waiting contacts on a level holds."""
    taken_by: Ints
    """(K, J) positions of the CSAs who can take a class, then NOBODY."""
    takes: Ints
    """(J, K) classes that a CSA can take, then NOBODY."""


class Policy(NamedTuple):
    """Who gets whom. `kind` is of LONGEST_IDLE, LEVELS, INDEX, RANDOM, DECIDED."""

    kind: Longs
    """(1,)."""
    value: Doubles
    """(K, J) of a pair, beside x·y of its vectors."""
    age: Doubles
    """(K,) value of a second that a contact has waited."""
    price: Doubles
    """(J,) what a CSA's time is worth to others; a pair below it waits, up to `hold_s`."""
    hold_s: Doubles
    """(1,)."""
    level: Bytes
    """(K, J) from which step of overflow on a CSA may take a class; negative: never."""
    after_s: Doubles
    """(L,) seconds waited from which on step l is open, ascending from 0."""
    contacts: Singles
    """(N, D) what the policy knows of a contact; D = 0: nothing but its class."""
    csas: Singles
    """(J, D)."""
    pairs: Singles
    """(N, J) value of pairs, beside all of these; (0, J): none."""
    scanned: Longs
    """(1,) waiting contacts of a class that are scored when a CSA gets free."""
    clock_s: Doubles
    """(1,) DECIDED: seconds between decisions, 0: at every event that allows one."""


# Arms of an experiment, and what a CSA is for who takes contacts of both.
CONTROL, TREATMENT, SHARED = 0, 1, -1


class Arms(NamedTuple):
    """Two policies in one centre, and which of them holds for whom when. B blocks of time, U units of contacts."""

    policies: tuple[Policy, Policy]
    """Of CONTROL and TREATMENT."""
    begins: Doubles
    """(B,) seconds, ascending; the first block holds from the start."""
    arm: Bytes
    """(B, U) of the contacts of a unit that wait in a block."""
    unit: Ints
    """(N,) unit of a contact, by its `row`: what comes of a contact stays in its unit."""
    staff: Bytes
    """(B, J) arm whose contacts a CSA takes in a block; SHARED: those of both."""
