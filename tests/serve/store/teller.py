"""A process that tells a store things and prints each once it is acknowledged, until it is killed.

python -m tests.serve.store.teller URL NAME feedback|decisions|open
"""

from __future__ import annotations

import sys
from itertools import count

from serve.store.store import Store
from tests.serve.store import told
from tests.support import at


def main() -> None:
    """Tell and print."""
    url, name, what = sys.argv[1:]
    with Store.open(url, text="none") as store:
        print("open", flush=True)
        for number in count() if what != "open" else ():
            contact_id = f"{name}-{number}"
            if what == "feedback":
                store.feedback(told.feedback(contact_id, ended_at=at(5), resolved=True))
            else:
                store.log.decided(told.decided(contact_id))
                store.log.flush()
            print(contact_id, flush=True)


if __name__ == "__main__":
    main()
