"""What a device can do at most, measured in the process that asks: matrix products and copies.

Notable: data sheets state what no program reaches, and a shared machine gives less still; so achieved rates are held
against the same arithmetic on this device, with these threads, now. A product is large enough to be bound by
arithmetic, the copy runs over memory much larger than the caches. A figure is the median of several samples, each long
enough for the clock; a device is waited for at the ends of a sample alone. Half a roofline each (Williams, Waterman and
Patterson, "Roofline: an insightful visual performance model", CACM 2009).
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

SAMPLES = 9
SAMPLE_S = 0.02  # a sample lasts so long at least
MOST_S = 0.25  # one product on a CPU lasts so long at most
CPU_SIZES, CUDA_SIZES = (256, 512, 1024, 2048), (8192,)
TIMES_CACHE = 8  # the copy's buffer beside the last-level cache
CPU_CACHE, CPU_LEAST, CUDA_LEAST = 32 << 20, 256 << 20, 1 << 30  # bytes


@dataclass(frozen=True)
class Rate:
    """`per_s` the median of the samples, `best` the largest, `size`: of the matrices (n, n), or bytes of a buffer."""

    per_s: float
    best: float
    size: int


@dataclass(frozen=True)
class Ceilings:
    """FLOP/s of a product in fp32 and in bf16 (None where the device has none), bytes/s of a copy, read and written.

    `fp32_precision`: `torch.get_float32_matmul_precision()`; other than `highest`, fp32 products may round to TF32.
    """

    device: str
    threads: int
    fp32_precision: str
    fp32: Rate
    bf16: Rate | None
    copy: Rate

    def facts(self) -> dict[str, Any]:
        """As JSON holds them."""
        return asdict(self)


def measure_ceilings(device: torch.device, samples: int = SAMPLES) -> Ceilings:
    """Measure one device, in seconds; the memory it takes is given back."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    precision = torch.get_float32_matmul_precision()
    fp32, bf16 = (product_rate(device, dtype, samples) for dtype in (torch.float32, torch.bfloat16))
    if fp32 is None:
        raise RuntimeError(f"{name}: no matrix product in fp32")
    return Ceilings(name, torch.get_num_threads(), precision, fp32, bf16, copy_rate(device, samples))


@torch.inference_mode()
def product_rate(device: torch.device, dtype: torch.dtype, samples: int = SAMPLES) -> Rate | None:
    """FLOP/s of a product of two (n, n) matrices, 2n³ operations each; None where the device does not have it."""
    found: tuple[int, Callable[[], Any], float] | None = None
    for size in CUDA_SIZES if device.type == "cuda" else CPU_SIZES:
        try:
            left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            product = partial(torch.mm, left, right, out=torch.empty_like(left))
            product()
            seconds = timed(product, 1, device)
        except RuntimeError:  # the type, or the memory, is not there
            break
        found = (size, product, seconds)
        if seconds * 8 > MOST_S:  # the next one takes eight times as long
            break
    if found is None:
        return None
    size, work, seconds = found
    return rate(work, seconds, 2 * size**3, size, device, samples)


@torch.inference_mode()
def copy_rate(device: torch.device, samples: int = SAMPLES) -> Rate:
    """Bytes/s of a copy from one buffer to another: each byte counts as read and as written."""
    size = copy_bytes(device)
    source = torch.ones(size // 4, device=device)
    target = torch.zeros_like(source)

    def copy() -> None:
        target.copy_(source)

    copy()
    return rate(copy, timed(copy, 1, device), 2 * source.nbytes, source.nbytes, device, samples)


def rate(work: Callable[[], Any], seconds: float, amount: float, size: int, device: torch.device, samples: int) -> Rate:
    """`amount` a second of something that took `seconds` the last time."""
    times = max(1, math.ceil(SAMPLE_S / max(seconds, 1e-6)))
    found = [amount * times / timed(work, times, device) for _ in range(samples)]
    return Rate(statistics.median(found), max(found), size)


def timed(work: Callable[[], Any], times: int, device: torch.device) -> float:
    """Seconds of `times` calls; the device is waited for before and after."""
    settled(device)
    begun = time.perf_counter()
    for _ in range(times):
        work()
    settled(device)
    return time.perf_counter() - begun


def settled(device: torch.device) -> None:
    """Wait until a device has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_bytes(device: torch.device) -> int:
    """Size of the copy's buffer: eight times the last-level cache at least, a sixteenth of the free memory at most."""
    if device.type == "cuda":
        return min(CUDA_LEAST, torch.cuda.mem_get_info(device)[0] // 16) // 4 * 4
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not told here
        free = 16 * CPU_LEAST
    return max(1 << 20, min(max(TIMES_CACHE * last_level_cache(), CPU_LEAST), free // 16)) // 4 * 4


def last_level_cache() -> int:
    """Bytes of the largest cache that Linux tells of; 32 MiB where it tells of none."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        if text.rstrip("KMG").isdigit():
            sizes.append(int(text.rstrip("KMG")) * unit)
    return max(sizes, default=CPU_CACHE)
