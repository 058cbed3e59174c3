"""An explorer keeps its budget, states true propensities, and makes the same decision again."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.contact import MatchError
from serve.explore import Decision, Explorer
from serve.explore_chances import chances_of_largest
from serve.explore_options import Exploration, from_mapping, read_exploration
from serve.matcher import Matcher
from twotower.errors import ConfigError

KEY = bytes(range(32))
PAGE = Path(__file__).parents[2] / "docs" / "exploration.md"


@dataclass(frozen=True)
class One:
    csa_id: str
    p_resolved: float | None
    uncertainty: float | None
    logit: float | None = None


FEW = [One("ada", 0.80, 0.1), One("bob", 0.78, 0.6), One("cy", 0.72, 0.9), One("dee", 0.55, 2.0), One("eve", 0.30, 0.1)]


PLAIN: dict[str, Any] = {
    "policy": "thompson", "share": 0.1, "uniform": 0.01, "floor": 0.2, "most_loss": 0.1, "scale": 1.0
}  # fmt: skip


def explorer(**options: Any) -> Explorer:
    return Explorer(Exploration(**{**PLAIN, **options}), KEY)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


@pytest.mark.parametrize("policy", ["thompson", "optimistic", "greedy", "uniform"])
def test_who_is_chosen_how_often_is_what_the_propensities_say(policy: str) -> None:
    mine, many = explorer(policy=policy, share=0.5, uniform=0.2), 5_000
    decisions = [mine.choose(f"c{i}", FEW, urgent=False) for i in range(many)]
    stated = np.array(decisions[0].propensities)
    assert all(one.propensities == decisions[0].propensities for one in decisions)
    counts = Counter(one.csa_id for one in decisions)
    found = np.array([counts[one.csa_id] for one in FEW]) / many
    assert np.abs(found - stated).max() < 4 * np.sqrt(0.25 / many)
    assert stated.sum() == pytest.approx(1)
    assert (stated[3:] == 0).all()
    for one in decisions[:200]:
        assert one.propensity == stated[one.csa_ids.index(one.csa_id)]


def test_inverse_propensity_weights_recover_the_mean_of_every_candidate() -> None:
    mine, many = explorer(share=0.6, uniform=0.3), 5_000
    worth = {"ada": 0.2, "bob": 0.9, "cy": 0.5}
    total = dict.fromkeys(worth, 0.0)
    for i in range(many):
        one = mine.choose(f"c{i}", FEW, urgent=False)
        total[one.csa_id] += worth[one.csa_id] / one.propensity
    for name, value in worth.items():
        assert total[name] / many == pytest.approx(value, rel=0.12)


def test_the_mixture_is_the_one_that_is_documented() -> None:
    mean = np.array([logit(p) for p in (0.80, 0.78, 0.72)])
    chances = chances_of_largest(mean, 1.5 * np.array([0.1, 0.6, 0.9]))
    found = explorer(share=0.3, uniform=0.06, scale=1.5).choose("c", FEW, urgent=False).propensities
    expected = 0.02 + 0.24 * chances + np.array([0.7, 0, 0])
    assert found == pytest.approx([*expected, 0, 0], abs=1e-9)


def test_optimism_takes_the_largest_upper_bound() -> None:
    def chosen(scale: float) -> str:
        return explorer(policy="optimistic", share=1, uniform=0, scale=scale).choose("c", FEW, urgent=False).csa_id

    # 1.386 + 0.1 c, 1.266 + 0.6 c, 0.944 + 0.9 c
    assert [chosen(c) for c in (0.1, 0.5, 2.0)] == ["ada", "bob", "cy"]


def test_the_share_is_kept_and_a_larger_one_explores_the_same_contacts_and_more() -> None:
    ids = [f"contact-{i}" for i in range(4_000)]
    small, large = (explorer(share=share, uniform=0.02) for share in (0.05, 0.2))
    few, many = ({i for i in ids if one.choose(i, FEW, urgent=False).arm != "greedy"} for one in (small, large))
    assert len(few) / len(ids) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / len(ids)))
    assert len(many) / len(ids) == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / len(ids)))
    assert few < many


def test_nobody_below_the_floor_or_beyond_the_loss_is_ever_taken() -> None:
    draw = np.random.default_rng(0)
    mine = explorer(share=1, uniform=0.5, floor=0.6, most_loss=0.15, scale=3)
    for i in range(500):
        pool = [One(f"a{j}", float(draw.uniform(0.3, 0.9)), float(draw.uniform(0, 2))) for j in range(8)]
        p = {one.csa_id: one.p_resolved for one in pool}
        one = mine.choose(f"c{i}", pool, urgent=False)
        best = max(p.values())
        if best < 0.6:
            assert p[one.csa_id] == best
            assert one.propensity == 1
        assert one.loss == best - p[one.csa_id] <= 0.15
        for name, chance in zip(one.csa_ids, one.propensities, strict=True):
            acceptable = p[name] >= 0.6 and best - p[name] <= 0.15
            assert (chance > 0) == (acceptable or p[name] == best)


def test_urgent_contacts_go_to_the_best_and_need_no_uncertainty() -> None:
    mine = explorer(share=1, uniform=1)
    for i in range(50):
        one = mine.choose(f"c{i}", [replace(one, uncertainty=None) for one in FEW], urgent=True)
        assert (one.csa_id, one.propensity, one.arm, one.loss) == ("ada", 1.0, "greedy", 0.0)


def test_the_uniform_slice_bounds_propensities_from_below() -> None:
    far = [One("ada", 0.8, 0.0), One("bob", 0.75, 0.0), One("cy", 0.71, 1e-9)]
    found = explorer(share=0.1, uniform=0.03).choose("c", far, urgent=False).propensities
    assert found == pytest.approx([0.98, 0.01, 0.01], abs=1e-9)


def test_a_decision_is_made_again_bit_for_bit_whatever_the_order() -> None:
    mine, shuffle = explorer(share=0.9, uniform=0.1), random.Random(1)
    arms = set()
    for i in range(300):
        decided = mine.choose(f"c{i}", FEW, urgent=i % 7 == 0, attempt=i % 2)
        arms.add(decided.arm)
        logged = Decision.from_json(decided.as_json())
        assert logged == decided
        other = shuffle.sample(FEW, len(FEW))
        assert explorer(share=0.9, uniform=0.1).replay(logged, other) == decided
        again = mine.choose(f"c{i}", other, urgent=i % 7 == 0, attempt=i % 2)
        assert (again.csa_id, again.propensity) == (decided.csa_id, decided.propensity)
        assert dict(zip(again.csa_ids, again.propensities, strict=True)) == dict(
            zip(decided.csa_ids, decided.propensities, strict=True)
        )
    assert arms == {"uniform", "policy", "greedy"}


def test_key_seed_salt_contact_and_attempt_each_draw_anew() -> None:
    def arms(mine: Explorer, name: str = "c{}", attempt: int = 0) -> list[str]:
        return [mine.choose(name.format(i), FEW, urgent=False, attempt=attempt).csa_id for i in range(200)]

    options = {"share": 1, "uniform": 1}
    first = arms(explorer(**options))
    others = [
        arms(Explorer(explorer(**options).options, b"another key of many bytes")),
        arms(explorer(**options, seed=1)),
        arms(explorer(**options, salt="2")),
        arms(explorer(**options), "d{}"),
        arms(explorer(**options), attempt=1),
    ]
    for other in others:
        agree = np.mean([a == b for a, b in zip(first, other, strict=True)])
        assert abs(agree - 1 / 3) < 5 * np.sqrt(2 / 9 / 200)
    assert first == arms(explorer(**options))


def test_who_is_gone_changes_nothing_among_the_others() -> None:
    mine = explorer(share=1, uniform=0, most_loss=1)
    for i in range(100):
        decided = mine.choose(f"c{i}", FEW, urgent=False)
        rest = [one for one in FEW if one.csa_id in (decided.csa_id, "ada", "bob")]
        assert mine.choose(f"c{i}", rest, urgent=False).csa_id == decided.csa_id


def test_a_replay_with_other_options_key_or_candidates_is_refused() -> None:
    decided = explorer(share=0.2).choose("c1", FEW, urgent=False)
    with pytest.raises(ConfigError, match="policy"):
        explorer(share=0.3).replay(decided, FEW)
    with pytest.raises(ConfigError, match=r"salt '1:[0-9a-f]{8}'"):
        Explorer(explorer(share=0.2).options, b"another key of many bytes").replay(decided, FEW)
    for others in (FEW[1:], [*FEW, FEW[0]], [*FEW[1:], One("zoe", 0.5, 0.1)]):
        with pytest.raises(MatchError, match="'c1' had other candidates"):
            explorer(share=0.2).replay(decided, others)
    with pytest.raises(MatchError, match="not a decision"):
        Decision.from_json('{"contact_id": "c1"}')


def test_what_a_log_of_interactions_takes() -> None:
    one = explorer().choose("c1", FEW, urgent=False)
    row = one.interaction()
    assert row == {"contact_id": "c1", "csa_id": one.csa_id, "policy": one.policy, "propensity": one.propensity}
    assert 0 < row["propensity"] <= 1
    assert row["policy"].startswith("explore-thompson-")
    assert set(json.loads(one.as_json())) >= {"seed", "salt", "propensities", "arm"}


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (replace(FEW[1], p_resolved=None), "'bob': p_resolved is None.*trained on outcomes"),
        (replace(FEW[1], uncertainty=None), "'bob': uncertainty is None.*policy: uniform"),
        (replace(FEW[1], p_resolved=float("nan")), "'bob': p_resolved nan"),
        (replace(FEW[1], p_resolved=1.2), "'bob': p_resolved 1.2"),
        (replace(FEW[1], uncertainty=-0.1), "'bob': uncertainty -0.1"),
        (replace(FEW[1], uncertainty=float("inf")), "'bob': uncertainty inf"),
        (replace(FEW[1], logit=float("nan")), "'bob': logit nan"),
        (FEW[0], "'ada' stands there twice"),
    ],
)
def test_candidates_that_cannot_be_explored_are_named(spoilt: One, said: str) -> None:
    with pytest.raises(MatchError, match=said):
        explorer().choose("c1", [FEW[0], spoilt, *FEW[2:]], urgent=False)


def test_no_candidates_and_no_contact_are_refused() -> None:
    with pytest.raises(MatchError, match="none"):
        explorer().choose("c1", [], urgent=False)
    with pytest.raises(MatchError, match="contact_id: a text is expected, got int"):
        explorer().choose(17, FEW, urgent=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tied",
    [
        [One("ada", 0.6, 0.0, 0.4), One("bob", 0.6, 0.0, 0.5), One("cy", 0.6, 0.0, 0.3)],
        [One("ada", 0.6, 0.0, None), One("bob", 0.6, 0.0, -7.0), One("cy", 0.6, 0.0)],
        [One("bob", 0.6, 0.0, 0.5), One("cy", 0.6, 0.0, 0.5), One("dee", 0.6, 0.0, 0.5)],
        [One("ada", 0.55, 0.0, 9.0), One("bob", 0.6, 0.0, 0.5), One("cy", 0.6, 0.0, 0.4)],
    ],
)
@pytest.mark.parametrize("policy", ["thompson", "optimistic", "greedy"])
def test_equals_stand_by_probability_then_logit_then_id(policy: str, tied: list[One]) -> None:
    mine, shuffle = explorer(policy=policy, share=0.5, uniform=0.0), random.Random(2)
    arms = set()
    for i in range(60):
        one = mine.choose(f"c{i}", shuffle.sample(tied, len(tied)), urgent=i % 5 == 0)
        arms.add(one.arm)
        assert one.csa_id == "bob"
        assert one.propensity == pytest.approx(1, abs=1e-9)
        assert mine.replay(Decision.from_json(one.as_json()), tied) == one
    assert arms == {"policy", "greedy"}


def test_equal_upper_bounds_go_to_the_more_likely() -> None:
    def found(one: float, two: float) -> str:
        pair = [One("ada", 0.5, one), One("bob", 0.6, two)]
        return explorer(policy="optimistic", share=1, uniform=0).choose("c", pair, urgent=False).csa_id

    p = np.clip([0.5, 0.6], 1e-7, 1)
    gap = float(np.diff(np.log(p) - np.log1p(-p))[0])
    assert [found(gap, 0.0), found(gap + 0.01, 0.0), found(gap - 0.01, 0.0)] == ["bob", "ada", "bob"]


def test_a_flag_or_a_count_of_numpy_is_logged_as_any_other() -> None:
    mine = explorer()
    for urgent in (True, False):
        one = mine.choose("c1", FEW, urgent=np.bool_(urgent), attempt=np.int64(2))  # type: ignore[arg-type]
        assert (type(one.urgent), type(one.attempt)) == (bool, int)
        assert Decision.from_json(one.as_json()) == one == mine.choose("c1", FEW, urgent=urgent, attempt=2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"urgent": None}, "urgent: True or False expected, got None"),
        ({"urgent": 1}, "urgent: True or False expected, got 1"),
        ({"urgent": "no"}, "urgent: True or False expected, got 'no'"),
        ({"urgent": False, "attempt": -1}, "attempt: a whole number from 0 on is expected, got -1"),
        ({"urgent": False, "attempt": 1.0}, "attempt: a whole number from 0 on is expected, got 1.0"),
        ({"urgent": False, "attempt": True}, "attempt: a whole number from 0 on is expected, got True"),
        ({"urgent": False, "attempt": None}, "attempt: a whole number from 0 on is expected, got None"),
    ],
)
def test_what_is_no_flag_or_no_count_is_refused_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(MatchError, match=said) as error:
        explorer().choose("c1", FEW, **given)
    assert "\n" not in str(error.value)


def test_uniform_exploration_needs_no_uncertainty() -> None:
    bare = [replace(one, uncertainty=None) for one in FEW]
    found = explorer(policy="uniform", share=0.3, uniform=0.0).choose("c", bare, urgent=False).propensities
    assert found == pytest.approx([0.8, 0.1, 0.1, 0, 0])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_predictions_are_taken_as_nearly_certain(p: float) -> None:
    found = explorer(share=1, uniform=0, floor=0).choose("c", [One("a", p, 0.5), One("b", p, 0.5)], urgent=False)
    assert found.propensities == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("length", [0, 15, 65])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ConfigError, match=f"{length} bytes; 16 to 64"):
        Explorer(Exploration(), b"k" * length)


@pytest.mark.parametrize("key", ["x" * 20, None, 12345678901234567890])
def test_a_key_that_is_no_bytes_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError, match=r"bytes are expected, got (str|NoneType|int)"):
        Explorer(Exploration(), key)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": "ucb"}, "policy: 'ucb' is not known; there are thompson, optimistic, greedy, uniform"),
        ({"share": 1.5}, "share: 1.5; a number from 0 to 1"),
        ({"share": "10%"}, "share: '10%'; a number"),
        ({"share": True}, "share: True; a number"),
        ({"uniform": 0.2, "share": 0.1}, "uniform: 0.2 is more than share, 0.1"),
        ({"floor": -0.1}, "floor: -0.1"),
        ({"most_loss": float("nan")}, "most_loss: nan"),
        ({"scale": 0}, "scale: 0; a number from 1e-06 to 1e[+]06"),
        ({"scale": 10**400}, "scale: a whole number of more than 60 digits; a number from"),
        ({"share": -(10**5000)}, "share: a whole number of more than 60 digits; a number from 0 to 1"),
        ({"seed": 10**5000}, "seed: a whole number of more than 60 digits; a whole number from 0"),
        ({"seed": 1.0}, "seed: 1.0; a whole number"),
        ({"seed": -1}, "seed: -1"),
        ({"salt": ""}, "salt: ''"),
        ({"salt": 3}, "salt: 3"),
        ({"most_los": 0.1}, "'most_los' is no option; there are policy, share"),
        ([], "expected option: value"),
    ],
)
def test_a_bad_option_is_named_in_one_line(options: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        from_mapping(options)
    assert "\n" not in str(error.value)
    if "nan" not in said and "60 digits" not in said:
        file = tmp_path / "exploration.json"
        file.write_text(json.dumps(options))
        with pytest.raises(ConfigError, match=rf"exploration\.json: .*{said[:20]}"):
            read_exploration(file)


def test_options_come_from_yaml_and_what_is_left_out_is_as_by_default(tmp_path: Path) -> None:
    file = tmp_path / "exploration.yaml"
    file.write_text("policy: thompson\nshare: 0.2\nseed: 7\n")
    assert read_exploration(file) == Exploration(policy="thompson", share=0.2, seed=7)
    file.write_text("")
    assert read_exploration(file) == Exploration()
    file.write_text("a: [")
    with pytest.raises(ConfigError, match="is no YAML file"):
        read_exploration(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_exploration(tmp_path / "none.yaml")


def test_every_option_is_in_the_name_of_the_policy() -> None:
    changed = {"share": 0.2, "uniform": 0.02, "floor": 0.4, "most_loss": 0.2, "scale": 2.0, "seed": 1, "salt": "b"}
    names = {Exploration(**{name: value}).name for name, value in changed.items()}  # type: ignore[arg-type]
    assert len(names | {Exploration().name}) == len(changed) + 1


def test_equal_options_have_one_name_however_their_numbers_are_written() -> None:
    whole = Exploration(share=1, uniform=0, floor=0, most_loss=1, scale=2)
    written = Exploration(share=1.0, uniform=-0.0, floor=0.0, most_loss=1.0, scale=2.0)
    assert whole == written
    assert whole.name == written.name == from_mapping({**vars(whole), "floor": np.float64(0)}).name
    assert all(type(getattr(whole, name)) is float for name in ("share", "uniform", "floor", "most_loss", "scale"))


def test_the_lines_of_the_page_run(matcher: Matcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    [options] = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("exploration.yaml").write_text(options)
    Path("exploration.key").write_bytes(KEY)
    assert read_exploration("exploration.yaml") == Exploration(floor=0.3, salt="2026-07")
    told: dict[str, Any] = {"matcher": matcher}
    exec(compile(code, str(PAGE), "exec"), told)
    decision = told["decision"]
    assert decision.csa_id in {one.csa_id for one in told["candidates"]}
    assert sum(decision.propensities) == pytest.approx(1)
    assert len(decision.propensities) == len(told["candidates"]) > 1
