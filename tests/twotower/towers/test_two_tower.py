"""The towers: what is served is the mean of what is trained, and a stranger is what their features say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.distributions import Normal, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

from tests.twotower.towers.conftest import CONFIG, PAD, SCHEMA, WIDTH, WORDS, fitted_heads, random_model
from twotower.features.complexity import COMPLEXITY
from twotower.features.customer import SIGNATURE, signatures
from twotower.scoring.outcomes import TARGETS
from twotower.towers import divergence
from twotower.towers.divergence import kl_gaussian
from twotower.towers.store import build
from twotower.towers.two_tower import Standardise, TwoTower


def test_what_is_served_is_the_mean_of_the_members_logits(model, contacts, csas):
    """profile · vector + level = mean over members of u·v + b, plus the level."""
    profile, _, level = model.contact_tower(*contacts)[:3]
    served = profile @ model.csa_tower(*csas)[0].T + level[:, None]
    out = model.contact_tower.outputs(*contacts)
    members = model.cross_logits(out, model.csa_tower.members(*csas)) + out.level[:, None, None]
    assert torch.allclose(served, members.mean(dim=1), atol=1e-4)


def test_pairs_and_the_whole_roster_have_the_same_logits(model, contacts, csas):
    out = model.contact_tower.outputs(*contacts)
    taken = torch.tensor([2, 0, 3, 1, 2])
    features, identity = csas
    pairs = model.pair_logits(out, model.csa_tower.members(features[taken], identity[taken]))
    cross = model.cross_logits(out, model.csa_tower.members(features, identity))
    assert torch.allclose(pairs, cross[torch.arange(5), :, taken], atol=1e-5)


def test_shapes_and_lengths_are_those_of_the_contract(model, contacts, csas):
    profile, memory, level, base, intent, intent_p, complexity, outcomes = model.contact_tower(*contacts)
    width = CONFIG.members * CONFIG.profile_dim + SIGNATURE + 1
    assert profile.shape == (5, width)
    assert (profile[:, -1] == 1).all()
    assert memory.shape == (5, CONFIG.memory_dim)
    assert torch.allclose(memory.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(base.norm(dim=1), torch.ones(5), atol=1e-5)
    assert level.shape == (5,)
    assert base.shape == (5, CONFIG.base_dim)
    assert intent.shape == intent_p.shape == (5,)
    assert intent.dtype == torch.int64
    assert complexity.shape == (5, len(COMPLEXITY))
    vector, _, own = model.csa_tower(*csas)
    assert vector.shape == (4, width)
    assert outcomes.shape == (5, len(TARGETS))
    assert own.shape == (4, len(TARGETS))


def test_padding_changes_nothing(model, contacts):
    tokens, categories, numbers = contacts
    wider = torch.cat([tokens, torch.full((5, 3), PAD)], dim=1)
    for ours, theirs in zip(
        model.contact_tower(tokens, categories, numbers), model.contact_tower(wider, categories, numbers), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_text_read_beforehand_gives_the_same(model, contacts):
    tokens, categories, numbers = contacts
    text = model.contact_tower.backbone(tokens)
    read = model.contact_tower.read(tokens, text)
    for ours, theirs in zip(
        model.contact_tower.outputs(*contacts), model.contact_tower.head(text, read, categories, numbers), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_an_unknown_category_says_nothing(model, contacts):
    """Code 0 is the mean over nothing: no weight of any known value enters; but an unknown intent is guessed."""
    tokens, categories, numbers = contacts
    before = model.contact_tower.outputs(tokens, categories * 0, numbers)
    sizes = model.contact_tower.heads.sizes
    start = model.contact_tower.backbone.width
    intent = start + sum(sizes[:-1])
    with torch.no_grad():
        model.contact_tower.weight[:, start:intent] += 1
    after = model.contact_tower.outputs(tokens, categories * 0, numbers)
    assert torch.equal(before.members, after.members)
    known = torch.tensor([min(size, 2) - 1 for size in sizes]).expand_as(categories)
    assert not torch.equal(after.members, model.contact_tower.outputs(tokens, known, numbers).members)
    with torch.no_grad():
        model.contact_tower.weight[:, intent : intent + sizes[-1]] += 1
    assert not torch.equal(after.members, model.contact_tower.outputs(tokens, categories * 0, numbers).members)


def test_complexity_is_as_the_heads_say_unless_it_is_told(model, contacts):
    tokens, categories, numbers = contacts
    tower = model.contact_tower
    text = tower.backbone(tokens)
    said = tower.heads(text, categories).complexity
    usual, told, other = (tower.head(text, text, categories, numbers, t) for t in (None, said, said + 1))
    assert torch.equal(usual.members, told.members)
    assert torch.equal(usual.level, told.level)
    assert not torch.allclose(usual.members, other.members)
    assert torch.equal(tower(*contacts)[6], said)


def test_what_was_not_told_reads_as_the_mean(model, contacts):
    tokens, categories, numbers = contacts
    tower = model.contact_tower
    told = torch.rand(5, len(COMPLEXITY)) * 3
    told[:2] = torch.nan
    tower.fit_standardise(numbers, told)
    mean = told[2:].mean(dim=0)
    assert torch.allclose(tower.standardise.mean[-len(COMPLEXITY) :], mean)
    text = tower.backbone(tokens)
    unknown, average = (tower.head(text, text, categories, numbers, t.expand(5, -1)) for t in (told[:1], mean[None]))
    for ours, theirs in zip(unknown, average, strict=True):
        assert torch.isfinite(ours).all()
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_complexity_widens_the_contact_tower_and_can_be_left_out(contacts):
    with_it, without = random_model(), one_without("complexity")
    tokens, categories, numbers = contacts
    assert with_it.contact_tower.width == without.contact_tower.width + len(COMPLEXITY)
    assert with_it.contact_tower.weight.shape[1] == with_it.contact_tower.width
    assert with_it.contact_tower.standardise.mean.shape[0] == with_it.contact_tower.plain + len(COMPLEXITY)
    assert without.contact_tower.standardise.mean.shape[0] == without.contact_tower.plain
    text = without.contact_tower.backbone(tokens)
    deaf = [without.contact_tower.head(text, text, categories, numbers, t) for t in (None, torch.ones(5, 5))]
    assert torch.equal(deaf[0].members, deaf[1].members)
    without.contact_tower.fit_standardise(numbers, torch.full((5, 5), torch.nan))
    complexity = without.contact_tower(*contacts)[6]
    assert torch.equal(complexity, without.contact_tower.heads(text, categories).complexity)  # still said to who asks


def test_without_labels_the_towers_know_no_code(contacts):
    model = one_without("labels", "complexity")  # which labels are read by
    tokens, categories, numbers = contacts
    assert model.contact_tower.heads.sizes == random_model().contact_tower.heads.sizes
    found, unknown = (
        model.contact_tower(tokens, categories, numbers),
        model.contact_tower(tokens, categories * 0, numbers),
    )
    for mine, other in zip(found[:4], unknown[:4], strict=True):  # profile, memory, level, base
        assert torch.equal(mine, other)
    assert all(torch.isfinite(part).all() for part in found)
    assert one_without("complexity").contact_tower.width == model.contact_tower.width + sum(
        model.contact_tower.heads.sizes
    )


def test_who_met_whom_passes_through_with_its_weight(model, contacts, csas):
    """met · signature joins every member's logit, in pairs, across the roster and in what is served."""
    tokens, categories, numbers = contacts
    features, identity = csas
    signature = torch.from_numpy(signatures(["ada", "bob", "cy", "new"]))
    features = torch.cat([features[:, :-SIGNATURE], signature], dim=1)
    nobody = torch.cat([numbers[:, : -3 * SIGNATURE], torch.zeros(5, 3 * SIGNATURE)], dim=1)
    met = nobody.clone()
    met[:, -3 * SIGNATURE : -2 * SIGNATURE] = 1.5 * signature[3]  # together with the last
    met[:, -SIGNATURE:] = 0.5 * signature[1]  # and a bad end with the second
    added = model.contact_tower.gain[0] * 1.5 * signature[3] + model.contact_tower.gain[2] * 0.5 * signature[1]
    expected = (signature @ added).expand(5, -1)
    roster = model.csa_tower.members(features, identity)
    before, after = (model.contact_tower.outputs(tokens, categories, n) for n in (nobody, met))
    cross = model.cross_logits(after, roster) - model.cross_logits(before, roster)
    assert torch.allclose(cross, expected[:, None].expand_as(cross), atol=1e-4)
    taken = torch.tensor([3, 1, 0, 2, 3])
    pairs = model.csa_tower.members(features[taken], identity[taken])
    gained = model.pair_logits(after, pairs) - model.pair_logits(before, pairs)
    assert torch.allclose(gained, expected[torch.arange(5), taken, None].expand_as(gained), atol=1e-4)
    served = [model.contact_tower(tokens, categories, n)[0] @ model.csa_tower(features, identity)[0].T
              for n in (nobody, met)]  # fmt: skip
    assert torch.allclose(served[1] - served[0], expected, atol=1e-4)
    assert torch.equal(before.level, after.level)
    assert torch.equal(before.memory, after.memory)


def test_who_met_whom_starts_without_weight():
    tower = build(
        CONFIG, SCHEMA, np.ones((WORDS, WIDTH), "f4"), np.ones(WORDS, "f4"), PAD, fitted_heads()
    ).contact_tower
    assert tower.gain.tolist() == [0, 0, 0]
    assert tower.gain.requires_grad


def test_without_the_relationship_no_vector_carries_it(contacts, csas):
    model = one_without("relationship")
    tokens, categories, numbers = contacts
    features, identity = csas
    numbers, features = numbers[:, : -3 * SIGNATURE], features[:, :-SIGNATURE]
    profile, vectors = model.contact_tower(tokens, categories, numbers)[0], model.csa_tower(features, identity)[0]
    assert model.contact_tower.gain is None
    assert profile.shape[1] == vectors.shape[1] == CONFIG.members * CONFIG.profile_dim + 1
    out = model.contact_tower.outputs(tokens, categories, numbers)
    roster = model.csa_tower.members(features, identity)
    assert out.met.shape == (5, 0)
    members = model.cross_logits(out, roster)
    assert torch.allclose(profile @ vectors.T, members.mean(dim=1), atol=1e-4)
    taken = torch.arange(4)
    pairs = model.pair_logits(type(out)(*(part[:4] for part in out)), roster)
    assert torch.allclose(pairs, members[taken, :, taken], atol=1e-5)


def test_evaluation_is_deterministic_and_training_is_not(model, contacts, csas):
    def logits() -> torch.Tensor:
        out = model.contact_tower.outputs(*contacts)
        found: torch.Tensor = model.cross_logits(out, model.csa_tower.members(*csas))
        return found

    assert torch.equal(logits(), logits())
    model.train()
    assert not torch.equal(logits(), logits())
    torch.manual_seed(3)
    first = logits()
    torch.manual_seed(3)
    assert torch.equal(first, logits())


def test_logits_sampled_in_training_spread_around_those_that_are_served(model, contacts, csas):
    """The mean over many draws is the logit of the posterior means."""
    model.contact_tower.config = model.csa_tower.config = replace(CONFIG, identity_dropout=0.0, category_dropout=0.0)
    tokens, categories, numbers = (t[:1] for t in contacts)
    features, identity = csas[0][:1], csas[1][:1]
    served = model.pair_logits(
        model.contact_tower.outputs(tokens, categories, numbers), model.csa_tower.members(features, identity)
    )
    model.train()
    n = 40_000
    many = [t.expand(n, *t.shape[1:]) for t in (tokens, categories, numbers)]
    drawn = model.pair_logits(
        model.contact_tower.outputs(*many), model.csa_tower.members(features.expand(n, -1), identity.expand(n))
    )
    error = drawn.std(dim=0) / n**0.5
    assert ((drawn.mean(dim=0) - served[0]).abs() < 5 * error).all()
    assert (drawn.std(dim=0) > 0.05).all()


def test_a_stranger_is_what_their_features_say(model, csas):
    features, identity = csas
    stranger = model.csa_tower(features, identity * 0)[0]
    assert torch.equal(model.csa_tower(features, identity)[0][3], stranger[3])
    assert not torch.allclose(model.csa_tower(features, identity)[0][:3], stranger[:3])
    same = features[:1].expand(2, -1)
    one, other = model.csa_tower(same, torch.zeros(2, dtype=torch.long))[0]
    # Rows of one batch may be summed in different orders; alone, each is the same to the bit.
    assert torch.allclose(one, other, atol=1e-6)
    alone = [model.csa_tower(row[None], torch.zeros(1, dtype=torch.long))[0] for row in same]
    assert torch.equal(alone[0], alone[1])


def test_a_strangers_spread_is_that_of_the_priors(model, csas):
    features, identity = csas
    model.csa_tower.config = replace(CONFIG, identity_std=0.9, bias_std=0.3)
    found = model.csa_tower.members(features, identity * 0)
    assert torch.allclose(found.vector_var, torch.full_like(found.vector_var, 0.81))
    assert torch.allclose(found.bias_var, torch.full_like(found.bias_var, 0.09))


def test_identity_dropout_makes_strangers_while_training(model, csas):
    features, identity = csas
    model.csa_tower.config = replace(CONFIG, identity_dropout=0.5)
    model.train()
    n = 2000
    vectors = model.csa_tower.members(features[:1].expand(n, -1), identity[:1].expand(n)).vectors
    model.eval()
    stranger = model.csa_tower.members(features[:1], identity[:1] * 0).vectors
    known = model.csa_tower.members(features[:1], identity[:1]).vectors
    met = [torch.isclose(vectors, v, atol=1e-6).flatten(1).all(dim=1) for v in (stranger, known)]
    assert (met[0] ^ met[1]).all()
    assert 0.4 < met[0].float().mean() < 0.6


def test_the_divergence_is_that_of_the_distributions(model, monkeypatch):
    mean, log_std = torch.randn(4, 3), torch.randn(4, 3)
    theirs = kl_divergence(Normal(mean, log_std.exp()), Normal(torch.zeros(4, 3), torch.full((4, 3), 0.7))).sum()
    assert torch.allclose(kl_gaussian(mean, log_std, 0.7), theirs, rtol=1e-5)
    given = [one.double().requires_grad_() for one in (mean, log_std)]
    priors = torch.tensor([0.7, 0.2, 1.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m, s: kl_gaussian(m, s, priors), given)
    monkeypatch.setattr(divergence, "CELLS", 5)
    assert torch.allclose(kl_gaussian(mean, log_std, 0.7), theirs, rtol=1e-5)
    assert kl_gaussian(torch.zeros(2), torch.full((2,), 0.7).log(), 0.7).abs() < 1e-6
    assert model.divergence() > 0


def test_standardised_features_have_mean_zero_and_spread_one():
    values = torch.randn(200, 3) * torch.tensor([1.0, 50.0, 0.0]) + torch.tensor([0.0, 1000.0, 7.0])
    layer = Standardise(3)
    layer.fit(values)
    out = layer(values)
    assert torch.allclose(out.mean(dim=0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(out.std(dim=0, unbiased=False)[:2], torch.ones(2), atol=1e-3)
    assert (out[:, 2] == 0).all()
    assert layer(torch.tensor([[1e9, -1e9, 7.0]])).tolist() == [[8.0, -8.0, 0.0]]


def test_what_the_contact_tower_gives_does_not_depend_on_who_else_is_in_the_batch(model, contacts):
    whole = model.contact_tower(*contacts)
    for i in range(5):
        alone = model.contact_tower(*(t[i : i + 1] for t in contacts))
        for ours, theirs in zip(whole, alone, strict=True):
            assert np.allclose(ours[i].detach().numpy(), theirs[0].detach().numpy(), atol=1e-5)


def one_without(*off: str) -> TwoTower:
    """Random weights, some families of features off."""
    families = [name for name in SCHEMA.families if name not in off]
    return random_model(replace(CONFIG, families=tuple(families)), replace(SCHEMA, families=families))


class Rows(TorchDispatchMode):
    """The most rows that any tensor had that was computed."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dim():
            self.most = max(self.most, len(out))
        return out


def test_some_csas_cost_no_pass_over_the_whole_roster():
    model = random_model(CONFIG, replace(SCHEMA, identities=[f"csa-{i}" for i in range(500)]))
    with Rows() as rows:
        model.csa_tower.members(torch.zeros(3, len(SCHEMA.csa_numbers)), torch.tensor([1, 0, 7]))
    assert rows.most < 500
