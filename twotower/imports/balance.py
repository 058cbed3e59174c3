"""Where a JSON object ends, in bytes, without building it; and where it cannot be one.

Notable: a string or a run of plain characters is one match of a regular expression, so the loop turns once a bracket.
Three things that no JSON has are looked for, because a record that lost a brace or a quote would otherwise swallow the
records behind it: an object straight after another, an object as a key, and characters outside of strings that no
number or literal has. A string with a line break in it is broken as well.
"""

from __future__ import annotations

import re

END, MORE, BAD = "end", "more", "bad"

_OUTSIDE = rb"[ \t\r\n:,0-9+\-.eEtrufalsnNIiy]*+"  # true, false, null, NaN, Infinity, numbers
_STRING = rb'"(?:[^"\\\n]|\\.)*+"'
_RUN = re.compile(_OUTSIDE + rb"(?:" + _STRING + _OUTSIDE + rb")*+")
_INSIDE = re.compile(rb'(?:[^"\\\n]|\\.)*+')
_OPENS = {ord("{"): ord("}"), ord("["): ord("]")}
_QUOTE, _COMMA, _BRACE = ord('"'), b",", ord("}")


def balanced(buffer: bytes, at: int) -> tuple[str, int]:
    """Follows the object or list that begins at `at`.

    Returns:
        (END, the place behind it), (MORE, a place) where the buffer ends first, or (BAD, the place that cannot be).
    """
    stack = bytearray()
    previous, behind = 0, at  # the last bracket, and the place behind it
    while True:
        found = _RUN.match(buffer, behind)
        place = found.end() if found else behind
        if place >= len(buffer):
            return MORE, place
        char = buffer[place]
        if char in _OPENS:
            if stack and _misplaced(buffer, previous, behind, place, stack[-1]):
                return BAD, place
            stack.append(_OPENS[char])
        elif char == _QUOTE:
            return _open_string(buffer, place)
        elif stack and char == stack[-1]:
            stack.pop()
            if not stack:
                return END, place + 1
        else:
            return BAD, place
        previous, behind = char, place + 1


def _misplaced(buffer: bytes, previous: int, behind: int, place: int, inside: int) -> bool:
    """Whether a bracket opens where none may: behind a closing one without a comma, or as a key."""
    between = buffer[behind:place].strip()
    if previous in _OPENS.values():
        return between == b"" or (between == _COMMA and inside == _BRACE)
    return between == b"" and inside == _BRACE  # `{{`, `{[`


def _open_string(buffer: bytes, place: int) -> tuple[str, int]:
    """A string that does not end: broken by a line break, or longer than the buffer."""
    found = _INSIDE.match(buffer, place + 1)
    end = found.end() if found else place + 1
    if end < len(buffer) and not (buffer[end] == ord("\\") and end + 1 == len(buffer)):
        return BAD, end
    return MORE, len(buffer)
