"""`twotower encoder NAME --output FILE`: a sentence encoder as one file, for machines that cannot fetch it."""

from __future__ import annotations

import argparse
from pathlib import Path

from twotower.cli import Report, Verb


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="minilm, a sentence-transformers folder, or a model's name")
    said = "file to write, NAME.safetensors; one that exists is replaced"
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=said)
    parser.epilog = (
        "Weights in half precision, with architecture, pooling and tokenizer beside them. `train` takes the file as "
        "--data.towers.encoder FILE; TWOTOWER_MINILM=FILE makes it the default encoder."
    )


def _run(args: argparse.Namespace) -> Report:
    from twotower.towers.encoders import save_encoder

    facts = save_encoder(args.name, args.output)
    text = f"{facts['weights']:,} weights in half precision, {facts['bytes'] / 1e6:.1f} MB, {facts['digest']}"
    return Report(f"{text}\nencoder {facts['file']}", facts)


VERB = Verb("a sentence encoder as one file", _configure, _run, extra="train")
