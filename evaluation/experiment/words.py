"""How metrics are called and written: titles, levels, changes."""

from __future__ import annotations

import math

TITLES = {
    "resolved": "resolution", "abandoned": "abandonment", "wait_s": "wait", "handle_minutes": "handle time",
    "csat": "rating", "quality": "quality score", "repeat": "repeat contacts", "transferred": "transfers",
    "occupancy": "occupancy", "gini_load": "Gini of load",
}  # fmt: skip
SHARES = ("resolved", "abandoned", "repeat", "transferred", "occupancy")
UNITS = {"wait_s": " s", "handle_minutes": " min"}
UNTOLD = "–"


def level(metric: str, value: float) -> str:
    """`71.2 %`, `43.1 s`, `0.412`."""
    if not math.isfinite(value):
        return UNTOLD
    return f"{100 * value:.1f} %" if metric in SHARES else f"{value:.{_digits(metric)}f}{UNITS.get(metric, '')}"


def change(metric: str, value: float, unit: bool = True) -> str:
    """`+2.10 points`, `−3.2 s`, `−∞`."""
    if math.isnan(value):
        return UNTOLD
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    if metric in SHARES:
        return _minus(f"{100 * value:+.2f}") + (" points" if unit else "")
    return _minus(f"{value:+.{_digits(metric)}f}") + (UNITS.get(metric, "") if unit else "")


def towards(metric: str, value: float, better: str) -> str:
    """A gain of so much: `+2.10 points` of what is better when `higher`, `−3.2 s` of what is better when `lower`."""
    return change(metric, value if better == "higher" else -value)


def span(metric: str, low: float, high: float) -> str:
    """`+0.4 to +3.8 points`."""
    return f"{change(metric, low, unit=False)} to {change(metric, high)}"


def share(value: float) -> str:
    """`+3.1 %`, of a relative change."""
    if math.isnan(value):
        return UNTOLD
    return _minus(f"{100 * value:+.1f} %") if math.isfinite(value) else ("+∞" if value > 0 else "−∞")


def p_said(p: float) -> str:
    """`0.031`, `< 0.001`."""
    return UNTOLD if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def money(value: float, currency: str) -> str:
    """`EUR 12,300`, three digits of it."""
    if not math.isfinite(value):
        return UNTOLD if math.isnan(value) else f"{currency} {'+' if value > 0 else '−'}∞"
    if value == 0:
        return f"{currency} 0"
    places = 2 - math.floor(math.log10(abs(value)))
    return _minus(f"{currency} {round(value, places):,.{max(places, 0)}f}")


def _minus(text: str) -> str:
    """A minus sign for a hyphen, and none where a number rounds to zero."""
    number = text.strip("+-")
    if text.startswith("-") and not any(digit in number for digit in "123456789"):
        return "+" + number
    return text.replace("-", "−")


def _digits(metric: str) -> int:
    return {"wait_s": 1, "handle_minutes": 2, "csat": 2}.get(metric, 3)
