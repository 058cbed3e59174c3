"""Redaction in a process of its own, so that masking a long text never holds up the router's threads.

Notable: looking for what is personal is pure Python and takes milliseconds a text; in a thread it would hold the
interpreter's lock that long, and a match that should take half a millisecond would wait for it. The process is a plain
interpreter that reads lists of texts as lines of JSON and answers in kind. It ends when its input does, so it does not
outlive the router. Where it cannot be started, the thread that asks redacts, which a line in the log says.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from twotower.errors import ConfigError
from twotower.redaction.config import RedactionConfig, from_mapping
from twotower.redaction.redactor import Redactor

Text = tuple[str, str | None]
_log = logging.getLogger("serve.store")


class RedactingProcess:
    """Redacts texts elsewhere. Safe to call from several threads, one at a time.

    config: what is masked. Raises ConfigError for one that is switched off: what is stored is redacted or is not
    stored.
    """

    def __init__(self, config: RedactionConfig | None = None) -> None:
        self._config = RedactionConfig() if config is None else config
        if not self._config.enabled:
            raise ConfigError(
                "redaction is switched off; the store keeps text redacted, or with text='none' not at all"
            )
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._here: Redactor | None = None

    def redact(self, texts: Sequence[Text]) -> list[str]:
        """(text, its language or None) of each, masked."""
        if not texts:
            return []
        with self._lock:
            for _ in range(2):  # a process that was killed is started once more
                try:
                    return self._ask(texts)
                except (OSError, ValueError) as error:
                    self._stop()
                    reason = type(error).__name__
            if self._here is None:
                _log.warning("the redacting process cannot be run (%s); texts are redacted in this one", reason)
                self._here = Redactor(self._config)
            return _redacted(self._here, texts)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._stop()

    def _ask(self, texts: Sequence[Text]) -> list[str]:
        if self._process is None:
            self._process = self._started()
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise ValueError("no pipes")
        process.stdin.write(json.dumps(texts).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if not isinstance(answer, list) or len(answer) != len(texts):
            raise ValueError("another answer")
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "serve.store.redacting", json.dumps(asdict(self._config))]
        path = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # what was to be flushed has nobody to read it
        process.wait()


def main() -> None:
    """Answer line by line until the input ends."""
    # The router is told to stop, and closes this one's input; its matches go first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    redactor = Redactor(from_mapping(json.loads(sys.argv[1])))
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(_redacted(redactor, json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()


def _redacted(redactor: Redactor, texts: Sequence[Sequence[str | None]]) -> list[str]:
    return [redactor.redact(text, language).text if text else "" for text, language in texts]


if __name__ == "__main__":
    main()
