"""One of several processes that serve one address; `run.py` starts it and tells it what to do on its standard input."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

from serve.http.logs import set_up
from serve.http.settings import Settings
from twotower.errors import TwoTowerError


def main() -> int:
    """Serve until told to stop; 1 where it cannot begin."""
    from serve.http.run import listening, serve

    told = json.load(sys.stdin)
    set_up()
    try:
        listener = listening(told["host"], told["port"], shared=True, listen=False)
        serve(replace(Settings.from_json(told["settings"]), number=told["number"]), told["journal"], listener)
    except TwoTowerError as error:
        print(f"twotower serve: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
