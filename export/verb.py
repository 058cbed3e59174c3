"""`twotower export RUN --output BUNDLE`: a training run becomes what a router loads."""

from __future__ import annotations

import argparse

from twotower.cli import Report, Verb


def configure(parser: argparse.ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("run", metavar="RUN", help="folder that `twotower train` wrote")
    parser.add_argument("--output", required=True, metavar="BUNDLE", help="folder to write; must not exist")
    parser.add_argument("--quantize", choices=["int8"], help="try int8; kept only if its gate passes on this machine")


def run(args: argparse.Namespace) -> Report:
    """Export and say what was written."""
    from export.bundle import export_bundle

    manifest = export_bundle(args.run, args.output, quantise=args.quantize == "int8")
    size = sum(facts["bytes"] for facts in manifest.files.values())
    lines = [f"bundle {manifest.id[:12]} in {args.output}: {len(manifest.files)} files, {size / 1e6:.1f} MB"]
    for name, choice in manifest.indexes.items():
        measured = "exact" if choice["kind"] == "flat" else f"recall {choice['recall']:.3f} at {choice['at']}"
        lines.append(f"  index {name}: {choice['kind']}, {measured}")
    lines.append(f"  reduced mode: {manifest.reduced['graph']}")
    if args.quantize:
        kept = manifest.quantisation
        lines.append(f"  int8 asked, {kept['kept']} kept: {kept['reason']}")
    data = {"bundle": args.output, "id": manifest.id, "bytes": size, "indexes": manifest.indexes}
    return Report("\n".join(lines), {**data, "quantisation": manifest.quantisation})


VERB = Verb("turn a training run into a bundle that a router loads", configure, run, extra="train")
