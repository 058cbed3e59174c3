"""The towers: what is served is the mean of what is trained, and a stranger is what their features say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.twotower.towers.conftest import CONFIG, PAD, SCHEMA
from twotower.errors import ConfigError
from twotower.towers.store import load, save
from twotower.towers.two_tower import Standardise, kl_gaussian


def test_what_is_served_is_the_mean_of_the_members_logits(model, contacts, csas):
    """profile · vector + level = mean over members of u·v + b, plus the level."""
    profile, _, level, _ = model.contact_tower(*contacts)
    served = profile @ model.csa_tower(*csas).T + level[:, None]
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
    profile, memory, level, base = model.contact_tower(*contacts)
    width = CONFIG.members * CONFIG.profile_dim + 1
    assert profile.shape == (5, width)
    assert (profile[:, -1] == 1).all()
    assert memory.shape == (5, CONFIG.memory_dim)
    assert torch.allclose(memory.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(base.norm(dim=1), torch.ones(5), atol=1e-5)
    assert level.shape == (5,)
    assert base.shape == (5, CONFIG.base_dim)
    assert model.csa_tower(*csas).shape == (4, width)


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
    for ours, theirs in zip(
        model.contact_tower.outputs(*contacts), model.contact_tower.head(text, categories, numbers), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_an_unknown_category_says_nothing(model, contacts):
    """Code 0 is the mean over nothing: no weight of any known value enters."""
    tokens, categories, numbers = contacts
    before = model.contact_tower.outputs(tokens, categories * 0, numbers)
    sizes = [1 + len(values) for values in SCHEMA.categories.values()]
    start = model.contact_tower.backbone.width
    with torch.no_grad():
        model.contact_tower.weight[:, start : start + sum(sizes)] += 1
    after = model.contact_tower.outputs(tokens, categories * 0, numbers)
    assert torch.equal(before.members, after.members)
    known = torch.tensor([min(size, 2) - 1 for size in sizes]).expand_as(categories)
    assert not torch.equal(after.members, model.contact_tower.outputs(tokens, known, numbers).members)


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
    stranger = model.csa_tower(features, identity * 0)
    assert torch.equal(model.csa_tower(features, identity)[3], stranger[3])
    assert not torch.allclose(model.csa_tower(features, identity)[:3], stranger[:3])
    same = features[:1].expand(2, -1)
    one, other = model.csa_tower(same, torch.zeros(2, dtype=torch.long))
    # Rows of one batch may be summed in different orders; alone, each is the same to the bit.
    assert torch.allclose(one, other, atol=1e-6)
    alone = [model.csa_tower(row[None], torch.zeros(1, dtype=torch.long)) for row in same]
    assert torch.equal(alone[0], alone[1])


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


def test_the_divergence_is_that_of_the_distributions(model):
    mean, log_std = torch.randn(4, 3), torch.randn(4, 3)
    theirs = kl_divergence(Normal(mean, log_std.exp()), Normal(torch.zeros(4, 3), torch.full((4, 3), 0.7))).sum()
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


def test_saving_and_loading_changes_no_bit(model, contacts, csas, tmp_path):
    save(model, CONFIG, tmp_path)
    (tmp_path / "features.json").write_text(SCHEMA.to_json())
    again = load(tmp_path)
    assert not again.training
    for ours, theirs in zip(model.contact_tower(*contacts), again.contact_tower(*contacts), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(model.csa_tower(*csas), again.csa_tower(*csas))
    other = tmp_path / "other"
    other.mkdir()
    save(again, CONFIG, other)
    for name in ("model.safetensors", "model.json"):
        assert (other / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("spoil", ["model.json", "model.safetensors"])
def test_a_run_without_its_model_is_refused_in_one_line(model, tmp_path, spoil):
    save(model, CONFIG, tmp_path)
    (tmp_path / "features.json").write_text(SCHEMA.to_json())
    (tmp_path / spoil).unlink()
    with pytest.raises(ConfigError, match="not a training run") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_weights_of_other_sizes_are_refused_in_one_line(model, tmp_path):
    save(model, CONFIG, tmp_path)
    (tmp_path / "features.json").write_text(replace(SCHEMA, identities=["ada"]).to_json())
    with pytest.raises(ConfigError, match=r"weights do not fit model\.json") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_what_the_contact_tower_gives_does_not_depend_on_who_else_is_in_the_batch(model, contacts):
    whole = model.contact_tower(*contacts)
    for i in range(5):
        alone = model.contact_tower(*(t[i : i + 1] for t in contacts))
        for ours, theirs in zip(whole, alone, strict=True):
            assert np.allclose(ours[i].detach().numpy(), theirs[0].detach().numpy(), atol=1e-5)
