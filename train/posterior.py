"""Sampling the profile's posterior: who is good at what, averaged over everything the outcomes do not decide.

For contact x and CSA a with outcome r the model is that of the sigmoid contrast, r ~ Bernoulli(σ(z)), with

    z(x, a) = b·x + g·e + (Wᵀx)·u_a + c·s_a,     (u_a, s_a) ~ N(Γ f_a, diag(I, S)),   W ~ N(0, 1/ρ),   Γ ~ N(0, 1/τ)

x (K) what the contact is about, c (Q) what is plain about it (language, channel, a constant), e (E) what makes a pair
easy or hard for everybody, f_a what is declared of the CSA. W is the few directions in which work differs for CSAs;
no gradient finds it well from one bit a hand-over, but given Pólya-Gamma variables ω every factor is Gaussian and is
drawn exactly. What is served is the mean over draws of (W u_a, s_a), one vector per CSA, so that all draws together
cost one inner product; their spread says how little is known of a pair.

Notable: one sweep needs Σ ω (x, c)(x, c)ᵀ of each CSA and nothing else of the hand-overs, so it costs
hand-overs × (K + Q)² and runs on any device. Given the maps, CSAs are independent: processes that train together take
the hand-overs of some CSAs each, and meet in sums as large as the maps' precision. The first sweeps take means instead
of draws, which is coordinate ascent and gets to the mode's neighbourhood at once.

Sources: Polson, Scott and Windle, "Bayesian inference for logistic models using Pólya-Gamma latent variables", JASA
2013; Salakhutdinov and Mnih, "Bayesian probabilistic matrix factorization using MCMC", ICML 2008; Simm et al., "Macau:
scalable Bayesian factorization with high-dimensional side information", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, distributed, nn

from train.polya_gamma import mean_polya_gamma, polya_gamma, weighed
from train.ranges import LOGITS, MAPS, MEANS, PAIR, PRODUCTS, SIDE, SKILLS, span
from train.together import seed_of
from twotower.towers.spread import leading

ASCENT, BURN_IN = 0.1, 0.15  # shares of the sweeps: means, and draws that do not count
START_PRECISION = 300.0  # ρ: on standardised topics, near where chains on generated centres settle
LEVEL_PRECISION = 30.0  # of b and g
SIDE_SHARE = 0.5  # of a skill's own variance that what is declared adds at most
DEGREES = 2.0  # beyond the least, of the inverse-Wishart prior of S
PLAIN_VARIANCE = 0.05  # where S is thought to be
CSAS_AT_ONCE = 512
SUMS = ("vectors", "common", "pair", "side", "metric")
CHAIN = ("maps", "skills", "common", "pair", "side", "plain_cov", "precision", "side_precision")


@dataclass(frozen=True)
class Means:
    """Means over the draws: `vectors` (J, K + Q), `common` b (K,), `pair` g (E,), `side` (F, K + Q) from what is
    declared to a vector, `metric` (K + Q, K + Q) covariance of vectors about that."""

    vectors: Tensor
    common: Tensor
    pair: Tensor
    side: Tensor
    metric: Tensor


@dataclass(frozen=True)
class Design:
    """n hand-overs with an outcome, sorted by CSA, and J CSAs.

    `about` (n, K), `plain` (n, Q) with a constant last, `level` (n, E) with a constant last, `resolved` (n,) 0 or 1,
    `csa` (n,) int64, `declared` (J, F), `group` (F,) int64 the feature that each of its columns belongs to, `weight`
    (n,) ≥ 1, of how many each stands for in what is common to all CSAs; of its own CSA it tells as much as one.
    """

    about: Tensor
    plain: Tensor
    level: Tensor
    resolved: Tensor
    csa: Tensor
    declared: Tensor
    group: Tensor
    weight: Tensor

    def part(self, rank: int, world: int) -> tuple[Design, range]:
        """The hand-overs of some CSAs, and which CSAs these are: `world` parts of about as many hand-overs."""
        if world == 1:
            return self, range(len(self.declared))
        count = torch.bincount(self.csa, minlength=len(self.declared))
        owner = ((count.cumsum(0) - count) * world // max(len(self.csa), 1)).clamp(max=world - 1)
        csas = range(*torch.searchsorted(owner, owner.new_tensor([rank, rank + 1])).tolist())
        rows = slice(*torch.searchsorted(self.csa.contiguous(), owner.new_tensor([csas.start, csas.stop])).tolist())
        names = ("about", "plain", "level", "resolved", "csa", "weight")
        return replace(self, **{name: getattr(self, name)[rows].clone() for name in names}), csas

    def to(self, device: torch.device) -> Design:
        """All tensors on a device."""
        return Design(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


class PosteriorSampler(nn.Module):
    """The chain: where it stands, and the sums over its draws, as buffers that a checkpoint holds.

    design: the hand-overs; rank: directions in which work differs; sweeps: of the whole chain; seed: with the number of
    a sweep, of its draws. shard: rank and number of the processes that sample one chain together, each with its part of
    the design; every call that draws is made by all of them.
    """

    step: Tensor
    drawn: Tensor
    maps: Tensor
    skills: Tensor
    common: Tensor
    pair: Tensor
    side: Tensor
    plain_cov: Tensor
    precision: Tensor
    side_precision: Tensor
    sum_vectors: Tensor
    sum_common: Tensor
    sum_pair: Tensor
    sum_side: Tensor
    sum_metric: Tensor

    def __init__(self, design: Design, rank: int, sweeps: int, seed: int, shard: tuple[int, int] = (0, 1)) -> None:
        super().__init__()
        self.shard = shard
        self.ascent = max(1, round(ASCENT * sweeps))
        self.idle = self.ascent + round(BURN_IN * sweeps)
        # Many declared features tell any CSA from all others, so they foretell a share of the variance and no more.
        self.least_side = max(1.0, float((design.declared**2).sum(dim=1).mean()) / SIDE_SHARE)
        design, self.owned = design.part(*shard)
        self.design, self.rank, self.seed = design, rank, seed
        self.replayed = bool((design.weight != 1).any())
        self.k, self.q, self.e = (part.shape[1] for part in (design.about, design.plain, design.level))
        self.csas, self.f = design.declared.shape
        self.groups = int(design.group.max()) + 1 if self.f else 0
        width, double, device = self.k + self.q, torch.float64, design.csa.device
        self.starts = torch.searchsorted(design.csa.contiguous(), torch.arange(self.csas + 1, device=device)).tolist()
        for name, shape in {
            "maps": (self.k, rank), "skills": (self.csas, rank + self.q), "common": (self.k,), "pair": (self.e,),
            "side": (self.f, rank + self.q), "plain_cov": (self.q, self.q), "precision": (),
            "side_precision": (self.groups,),
            "sum_vectors": (self.csas, width), "sum_common": (self.k,), "sum_pair": (self.e,),
            "sum_side": (self.f, width), "sum_metric": (width, width),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.zeros(shape, dtype=double, device=device))
        self.register_buffer("step", design.csa.new_zeros(()))
        self.register_buffer("drawn", torch.zeros_like(self.step))
        self._start()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PosteriorSampler:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.design = self.design.to(self.maps.device)  # which is no buffer, as checkpoints do not hold it
        return self

    def _start(self) -> None:
        """Directions of the CSAs' shrunken mean residuals; everything else as the priors say."""
        d = self.design
        count, resolved = (self._summed(x) for x in (d.weight.sum(), (d.weight * d.resolved).sum()))
        share = float((resolved / count).clamp(0.01, 0.99))
        self.pair[-1] = math.log(share / (1 - share))
        self.plain_cov.copy_(torch.eye(self.q, device=d.csa.device) * PLAIN_VARIANCE)
        self.precision.fill_(START_PRECISION)
        self.side_precision.fill_(10 * self.least_side)
        sums = d.about.new_zeros(self.csas, self.k).index_add_(0, d.csa, d.about * (d.resolved - share)[:, None])
        sums, counts = self._summed(sums), self._summed(torch.bincount(d.csa, minlength=self.csas))
        means = (sums / (0.2 * counts + 20.0)[:, None]).double()
        _, size, right = torch.linalg.svd(means, full_matrices=False)
        many = min(self.rank, len(size))
        self.maps[:, :many] = 2 * right[:many].T * size[:many] / math.sqrt(self.csas)

    def _summed(self, own: Tensor) -> Tensor:
        """The sum over all processes of what each has found, which is replaced by it."""
        if self.shard[1] > 1:
            distributed.all_reduce(own)
        return own

    @property
    def sweeps(self) -> int:
        """Sweeps so far."""
        return int(self.step)

    def means(self) -> Means:
        """Means over the draws that count; before there are any, where the chain stands."""
        if not int(self.drawn):
            out = self._spread_out()
            return Means(self.skills @ out.T, self.common, self.pair, self.side @ out.T, self._metric(out))
        return Means(**{name: self.get_buffer(f"sum_{name}") / self.drawn for name in SUMS})

    @torch.no_grad()
    def factors(self, moment: Tensor, rank: int) -> Tensor:
        """Factors (J, rank + 1, K + Q) of every CSA's posterior covariance given the maps where the chain stands.

        moment (K + Q, K + Q): E u uᵀ of contacts, as in `towers.spread.leading`.
        """
        d, prior, out = self.design, self._prior(), self._spread_out()
        omega = mean_polya_gamma(d.about @ self.common.float() + d.level @ self.pair.float() + self._own())
        found = []
        for csas in self._parts():
            precision = out.T @ self._products(csas, omega).double() @ out + prior
            rows = torch.linalg.solve_triangular(torch.linalg.cholesky(precision), out.T, upper=False)
            found.append(leading(rows, moment, rank))
        return torch.cat(found)

    def continued(self, design: Design, sweeps: int) -> PosteriorSampler:
        """A chain over other hand-overs of the same CSAs that starts where this one stands."""
        chain = PosteriorSampler(design, self.rank, sweeps, self.seed + 1)
        chain.start_at({name: self.get_buffer(name) for name in CHAIN}, sweeps)
        return chain

    def start_at(self, state: Mapping[str, Tensor], sweeps: int) -> None:
        """Stand where another chain stood, buffers by the names of `CHAIN`; none of the `sweeps` to come is ascent."""
        for name in CHAIN:
            self.get_buffer(name).copy_(state[name])
        self.ascent, self.idle = 0, round(BURN_IN * sweeps)

    def recall(self, means: Means, draws: int) -> None:
        """Count earlier means as so many draws."""
        for name in SUMS:
            self.get_buffer(f"sum_{name}").copy_(getattr(means, name) * draws)
        self.drawn.fill_(draws)

    @torch.no_grad()
    def sweep(self) -> None:
        """One draw of everything, given the rest."""
        device = self.maps.device
        generator = torch.Generator(device).manual_seed(self.seed * 1_000_003 + self.sweeps)
        noise = 0.0 if self.sweeps < self.ascent else 1.0
        own = generator
        if self.shard[1] > 1:  # what is drawn for hand-overs and CSAs is drawn by one process, the rest by all alike
            own = torch.Generator(device).manual_seed(seed_of(generator.initial_seed(), self.shard[0] + 1))
        self._everything(generator, own, noise)
        self.step += 1
        if self.sweeps > self.idle:
            self._remember()

    def _everything(self, generator: torch.Generator, own: torch.Generator, noise: float) -> None:
        d = self.design
        common, pair = (d.about @ self.common.float(), d.level @ self.pair.float())
        logit = common + pair + self._own()
        each = polya_gamma(logit, own) if noise else mean_polya_gamma(logit)
        omega, wanted = each, d.resolved - 0.5
        if self.replayed:
            omega, wanted = weighed(each, logit, d.weight), d.weight * wanted
        gram = torch.zeros((self.rank + 1) ** 2, self.k**2, dtype=torch.float32, device=omega.device)
        prior = self._prior()
        target = d.resolved - 0.5 - each * (common + pair)
        for csas in self._parts():
            products = self._products(csas, each)
            self._draw_skills(csas, products, self._sums(csas, target), prior, own, noise)
            # A row of ones beside the skills: what is common to all CSAs is drawn with the maps.
            products = self._products(csas, omega) if self.replayed else products
            beside = self._beside(csas).float()
            pairs = (beside[:, :, None] * beside[:, None, :]).flatten(1)
            gram += pairs.T @ products[:, : self.k, : self.k].flatten(1)
        if self.shard[1] > 1:
            mine, there = torch.zeros_like(self.skills), slice(self.owned.start, self.owned.stop)
            mine[there] = self.skills[there]
            self.skills.copy_(self._summed(mine))
        gram = self._summed(gram)
        self._draw_side(generator, noise)
        plain = (d.plain * self.skills[d.csa, self.rank :].float()).sum(dim=1)
        self._draw_maps(gram, wanted - omega * (pair + plain), generator, noise)
        rest = d.about @ self.common.float() + self._own()
        self._draw_pair(omega, wanted - omega * rest, generator, noise)

    def _parts(self) -> list[range]:
        """CSAs taken together, of those whom this process samples."""
        low, high = self.owned.start, self.owned.stop
        return [range(first, min(first + CSAS_AT_ONCE, high)) for first in range(low, high, CSAS_AT_ONCE)]

    @span(LOGITS)
    def _own(self) -> Tensor:
        """(n,) what the CSA adds to each hand-over's logit."""
        d, skills = self.design, self.skills.float()
        return (torch.cat([d.about @ self.maps.float(), d.plain], dim=1) * skills[d.csa]).sum(dim=1)

    @span(PRODUCTS)
    def _products(self, csas: range, omega: Tensor) -> Tensor:
        """(j, K + Q, K + Q) Σ ω (x, c)(x, c)ᵀ over the hand-overs of each CSA."""
        out = torch.zeros(len(csas), self.k + self.q, self.k + self.q, device=omega.device)
        for i, csa in enumerate(csas):
            rows = slice(self.starts[csa], self.starts[csa + 1])
            if rows.stop > rows.start:
                inputs = torch.cat([self.design.about[rows], self.design.plain[rows]], dim=1)
                out[i] = inputs.T @ (inputs * omega[rows, None])
        return out

    def _sums(self, csas: range, target: Tensor) -> Tensor:
        """(j, K + Q) Σ target · (x, c) over the hand-overs of each CSA."""
        rows = slice(self.starts[csas.start], self.starts[csas.stop])
        d = self.design
        inputs = torch.cat([d.about[rows], d.plain[rows]], dim=1) * target[rows, None]
        return torch.zeros(len(csas), self.k + self.q, device=target.device).index_add_(
            0, d.csa[rows] - csas.start, inputs
        )

    def _prior(self) -> Tensor:
        """(R + Q, R + Q) precision of a CSA's skills about their mean."""
        prior = torch.eye(self.rank + self.q, dtype=torch.float64, device=self.maps.device)
        prior[self.rank :, self.rank :] = torch.linalg.inv(self.plain_cov)
        return prior

    def _spread_out(self) -> Tensor:
        """(K + Q, R + Q) from skills to vectors: diag(W, I)."""
        eye = torch.eye(self.q, dtype=torch.float64, device=self.maps.device)
        joined: Tensor = torch.block_diag(self.maps, eye)  # type: ignore[no-untyped-call]
        return joined

    def _metric(self, out: Tensor) -> Tensor:
        metric: Tensor = out @ torch.linalg.inv(self._prior()) @ out.T
        return metric

    @span(SKILLS)
    def _draw_skills(
        self, csas: range, products: Tensor, sums: Tensor, prior: Tensor, generator: torch.Generator, noise: float
    ) -> None:
        there = slice(csas.start, csas.stop)
        out = self._spread_out()
        precision = out.T @ products.double() @ out + prior
        mean = self.design.declared[there].double() @ self.side
        self.skills[there] = gaussian(precision, sums.double() @ out + mean @ prior, generator, noise)

    def _beside(self, csas: range) -> Tensor:
        skills = self.skills[csas.start : csas.stop, : self.rank]
        return torch.cat([skills, torch.ones_like(skills[:, :1])], dim=1)

    @span(SIDE)
    def _draw_side(self, generator: torch.Generator, noise: float) -> None:
        """Γ, τ and S given the skills."""
        declared = self.design.declared.double()
        prior = self._prior()
        gram = declared.T @ declared
        gram.diagonal().add_(self.side_precision[self.design.group])
        factor = torch.linalg.cholesky(gram)
        mean = torch.cholesky_solve(declared.T @ self.skills, factor)
        draws = normal(mean.shape, generator, mean.device)
        scale = torch.linalg.cholesky(torch.linalg.inv(prior))
        self.side.copy_(mean + noise * torch.linalg.solve_triangular(factor.T, draws, upper=True) @ scale.T)
        if not noise:
            return  # means alone would make every variance too small
        gap = (self.skills - declared @ self.side)[:, self.rank :]
        scatter = gap.T @ gap + DEGREES * PLAIN_VARIANCE * torch.eye(self.q, dtype=gap.dtype, device=gap.device)
        degrees = self.csas + self.q + 1 + DEGREES
        # The mean of the inverse-Wishart posterior; its own spread is far below that of the skills.
        self.plain_cov.copy_(scatter / (degrees - self.q - 1))
        squares = ((self.side @ torch.linalg.cholesky(prior)) ** 2).sum(dim=1)
        total = torch.zeros_like(self.side_precision).index_add_(0, self.design.group, squares)
        count = torch.bincount(self.design.group, minlength=self.groups) * self.side.shape[1]
        self.side_precision.copy_(((count + 2) / (total + 0.02)).clamp(self.least_side, 1e6))

    @span(MAPS)
    def _draw_maps(self, gram: Tensor, target: Tensor, generator: torch.Generator, noise: float) -> None:
        """W and b together, then ρ."""
        r, k = self.rank + 1, self.k
        big = gram.view(r, r, k, k).transpose(1, 2).reshape(r * k, r * k).double()
        diagonal = torch.full((r, k), float(self.precision), dtype=torch.float64, device=big.device)
        diagonal[-1] = LEVEL_PRECISION
        big += torch.diag(diagonal.flatten())
        everyone = range(self.csas)
        sums = self._sums(everyone, target)[:, :k].double()
        right = self._summed((self._beside(everyone).T @ sums).flatten())
        drawn = gaussian(big[None], right[None], generator, noise)[0].view(r, k)
        self.maps.copy_(drawn[:-1].T)
        self.common.copy_(drawn[-1])
        if not noise:
            return
        squares = (self.maps**2).sum()
        count = self.maps.numel() / 2 + 1
        # Γ(count, squares/2) is this narrow: count is in the hundreds.
        self.precision.copy_((count / (squares / 2 + 0.1)).clamp(START_PRECISION / 4, START_PRECISION * 16))

    @span(PAIR)
    def _draw_pair(self, omega: Tensor, target: Tensor, generator: torch.Generator, noise: float) -> None:
        level = self.design.level
        gram = self._summed((level.T @ (level * omega[:, None])).double())
        penalty = torch.full((self.e,), LEVEL_PRECISION, dtype=torch.float64, device=gram.device)
        penalty[-1] = 1e-3
        right = self._summed((level.T @ target).double())
        self.pair.copy_(gaussian((gram + torch.diag(penalty))[None], right[None], generator, noise)[0])

    @span(MEANS)
    def _remember(self) -> None:
        """Add this draw to the sums."""
        out = self._spread_out()
        self.sum_vectors += self.skills @ out.T
        self.sum_common += self.common
        self.sum_pair += self.pair
        self.sum_side += self.side @ out.T
        self.sum_metric += self._metric(out)
        self.drawn += 1


def normal(shape: torch.Size | tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal draws in float64."""
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=device)


def gaussian(precision: Tensor, right: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    """Draws (j, d) of N(P⁻¹ right, P⁻¹) for precisions P (j, d, d) and right (j, d); noise 0: the means."""
    factor = torch.linalg.cholesky(precision)
    mean = torch.cholesky_solve(right.unsqueeze(-1), factor)
    if noise:
        draws = normal(mean.shape, generator, mean.device)
        mean = mean + noise * torch.linalg.solve_triangular(factor.transpose(-1, -2), draws, upper=True)
    return mean.squeeze(-1)
