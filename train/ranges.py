"""The parts of a training step by name, as traces and profiles tell them.

Notable: a part is a range of `torch.profiler`, so any trace of a run shows it, also one that Lightning's own profiler
took. Ranges nest; a part's time is what no range inside it takes. Where no profiler listens, a range costs a few
microseconds and waits for no device.
"""

from __future__ import annotations

from torch.profiler import record_function

PREFIX = "twotower/"
STEP, OTHER = "step", "other"
DATA, TRANSFER, TEXT, TOWERS, OBJECTIVE = "data", "transfer", "text", "towers", "objective"
BACKWARD, OPTIMISER = "backward", "optimiser"
LOGITS, AUGMENTATION, PRODUCTS, SKILLS, SIDE, MAPS, PAIR, MEANS = (
    "logits", "augmentation", "products", "skills", "side", "maps", "pair", "means",
)  # fmt: skip

STEP_PARTS = {
    DATA: "waiting for data",
    TRANSFER: "host to device",
    TEXT: "text",
    TOWERS: "towers",
    OBJECTIVE: "objective",
    BACKWARD: "backward",
    OPTIMISER: "optimiser",
    OTHER: "other",
}
"""Of a gradient step, in its order; text and towers are their forward passes."""
SWEEP_PARTS = {
    DATA: "waiting for data",
    LOGITS: "logits",
    AUGMENTATION: "Pólya-Gamma variables",
    PRODUCTS: "products of each CSA",
    SKILLS: "skills",
    SIDE: "what is declared",
    MAPS: "maps",
    PAIR: "levels",
    MEANS: "means over draws",
    OTHER: "other",
}
"""Of a sweep of the sampler (`train.posterior`)."""


def span(part: str) -> record_function:
    """The range of a part: a context manager, or a decorator of a function that neither recurses nor is shared by
    threads."""
    return record_function(PREFIX + part)
