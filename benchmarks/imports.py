"""`twotower import connect` on a large export: bytes and records a second, and peak memory, on one core.

Writes contact records as Firehose does, one behind the other without a separator, in files of some size each: of a
hundred, five were transferred, two were given up in the queue, one is delivered twice; every tenth has a transcript of
Contact Lens. Imports them in a process of its own, without masking and with it, and reports what that process used.
Claim: a gigabyte is imported in less than 500 MB of memory.

    python benchmarks/imports.py --megabytes 1000
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from measured import measure_verb

from twotower.files import atomic_write

CSAS = 400
QUEUES = ("Cards", "Loans", "Accounts", "Fraud", "Business")
FILE_MB = 64
START = datetime(2026, 1, 1, tzinfo=UTC)
SAID = (
    "hello, my card was charged twice for one order and I would like to have one of them back",
    "I cannot log in since yesterday, the app says that my password is wrong",
    "where is the parcel that I ordered two weeks ago, the page says it was delivered",
    "I would like to cancel my contract at the end of the month, what do I have to do",
)
ARN = "arn:aws:connect:eu-west-2:123456789012:instance/1d908e11-3d5f-4cfb-b34d-1e7e0f216898"


def main() -> None:
    """Writes, imports, prints a table and the JSON, to `--output` as well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=40, help="of contact records")
    parser.add_argument("--folder", type=Path, default=None, help="keep the generated export here")
    parser.add_argument("--masking", choices=["both", "no", "yes"], default="both", help="whether texts are masked")
    parser.add_argument("--output", type=Path, default=None, help="write the figures here as JSON")
    args = parser.parse_args()
    masking = {"both": (False, True), "no": (False,), "yes": (True,)}[args.masking]
    with tempfile.TemporaryDirectory() as scratch:
        source = args.folder or Path(scratch) / "export"
        if not source.exists():
            write(source, args.megabytes)
        rows = [measure(source, Path(scratch) / f"tables-{masked}", masked) for masked in masking]
    print(f"{'masked':>7} {'MB':>7} {'records':>10} {'seconds':>8} {'MB/s':>6} {'records/s':>10} {'peak MB':>8}")
    for row in rows:
        print(
            f"{row['masked']!s:>7} {row['megabytes']:>7,.0f} {row['records']:>10,} {row['seconds']:>8.1f} "
            f"{row['megabytes_per_second']:>6.1f} {row['records_per_second']:>10,} {row['peak_mb']:>8,}"
        )
    text = json.dumps({"imports": rows}, indent=2)
    print(text)
    if args.output:
        atomic_write(args.output, text + "\n")


def measure(source: Path, output: Path, masked: bool) -> dict[str, Any]:
    """Time and peak memory of `twotower import connect`."""
    words = ["import", "connect", str(source), "--output", str(output), "--no-customers"]
    found = measure_verb(*words, *([] if masked else ["--no-redact"]))
    size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file()) / 1e6
    records = found.report["counts"]["records"]
    return {
        "masked": masked,
        "megabytes": round(size, 1),
        "records": records,
        "contacts": found.report["counts"]["contacts"],
        "damaged": found.report["damaged"],
        "seconds": round(found.seconds, 1),
        "megabytes_per_second": round(size / found.seconds, 2),
        "records_per_second": round(records / found.seconds),
        "peak_mb": round(found.peak_gb * 1024),
    }


def write(folder: Path, megabytes: int) -> None:
    """An export of that size."""
    rng = np.random.default_rng(7)
    contacts = _records(rng)
    left, n = megabytes * 1_000_000, 0
    while left > 0:
        room = min(left, FILE_MB * 1_000_000)
        left -= room
        path = folder / "records" / f"{n:05}"
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / "lens").mkdir(exist_ok=True)
        with path.open("w") as records, (folder / "lens" / f"{n:05}.json").open("w") as lens:
            while room > 0:
                text, transcript = next(contacts)
                room -= records.write(text)
                if transcript:
                    lens.write(transcript + "\n")
        n += 1


def _records(rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """(contact records of one contact, its transcript or nothing), without end."""
    n = 0
    while True:
        begun = START + timedelta(seconds=7 * n)
        kind = int(rng.integers(100))
        queue, csa = QUEUES[int(rng.integers(len(QUEUES)))], int(rng.integers(CSAS))
        first = _record(f"c{n:09}", begun, queue, None if kind in (5, 6) else csa, n)
        text = json.dumps(first)
        if kind < 5:
            more = {"InitialContactId": f"c{n:09}", "PreviousContactId": f"c{n:09}", "InitiationMethod": "TRANSFER"}
            text += json.dumps(_record(f"t{n:09}", begun + timedelta(seconds=200), queue, (csa + 1) % CSAS, n) | more)
        if kind == 7:
            text += text
        yield text, json.dumps(_transcript(f"c{n:09}", begun, n)) if n % 10 == 0 else ""
        n += 1


def _at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _record(contact_id: str, begun: datetime, queue: str, csa: int | None, n: int) -> dict[str, Any]:
    answered = begun + timedelta(seconds=45)
    agent = None if csa is None else {
        "ARN": f"{ARN}/agent/{csa:08}-8c01-44e6-abd5-80b7b51944cf",
        "AfterContactWorkDuration": 32, "AfterContactWorkEndTimestamp": _at(answered + timedelta(seconds=332)),
        "AfterContactWorkStartTimestamp": _at(answered + timedelta(seconds=300)), "AgentInteractionDuration": 300,
        "ConnectedToAgentTimestamp": _at(answered), "CustomerHoldDuration": 0,
        "HierarchyGroups": {"Level1": {"ARN": f"{ARN}/agent-group/1", "GroupName": "London"},
                            "Level2": {"ARN": f"{ARN}/agent-group/{csa % 9}", "GroupName": f"Team {csa % 9}"},
                            "Level3": None, "Level4": None, "Level5": None},
        "LongestHoldDuration": 0, "NumberOfHolds": 0,
        "RoutingProfile": {"ARN": f"{ARN}/routing-profile/6e16b957", "Name": "Basic Routing Profile"},
        "Username": f"user{csa}",
    }  # fmt: skip
    location = f"amazon-connect/connect/CallRecordings/{begun:%Y/%m/%d}/{contact_id}_{answered:%Y%m%dT%H:%M}_UTC.wav"
    return {
        "AWSAccountId": "123456789012", "AWSContactTraceRecordFormatVersion": "2017-03-10", "Agent": agent,
        "AgentConnectionAttempts": 1, "AnsweringMachineDetectionStatus": None,
        "Attributes": {"greetingPlayed": "true", "PathCode": f"{n:07}", "SurveyFlag": "N"},
        "Campaign": {"CampaignId": None}, "Channel": "VOICE", "ConnectedToSystemTimestamp": _at(begun),
        "ContactDetails": {}, "ContactId": contact_id,
        "CustomerEndpoint": {"Address": f"+4420{n % 1_000_000:08}", "Type": "TELEPHONE_NUMBER"},
        "DisconnectReason": "CUSTOMER_DISCONNECT", "DisconnectTimestamp": _at(answered + timedelta(seconds=300)),
        "InitialContactId": None, "InitiationMethod": "INBOUND", "InitiationTimestamp": _at(begun), "InstanceARN": ARN,
        "LastUpdateTimestamp": _at(answered + timedelta(seconds=400)), "MediaStreams": [{"Type": "AUDIO"}],
        "NextContactId": None, "PreviousContactId": None,
        "Queue": {"ARN": f"{ARN}/queue/{queue}", "DequeueTimestamp": _at(answered), "Duration": 30,
                  "EnqueueTimestamp": _at(begun + timedelta(seconds=15)), "Name": queue},
        "Recording": {"DeletionReason": None, "Location": location, "Status": "AVAILABLE", "Type": "AUDIO"},
        "Recordings": [{"DeletionReason": None, "FragmentStartNumber": None, "FragmentStopNumber": None,
                        "Location": location, "MediaStreamType": "AUDIO", "ParticipantType": None,
                        "StartTimestamp": _at(begun), "Status": "AVAILABLE", "StopTimestamp": None,
                        "StorageType": "S3"}],
        "References": [], "ScheduledTimestamp": None,
        "SystemEndpoint": {"Address": "+448000000000", "Type": "TELEPHONE_NUMBER"},
        "TransferCompletedTimestamp": None, "TransferredToEndpoint": None, "VoiceIdResult": None,
    }  # fmt: skip


def _transcript(contact_id: str, begun: datetime, n: int) -> dict[str, Any]:
    turns = [
        ("s", "How can we help you today?"),
        ("c", f"{SAID[n % len(SAID)]}, number {n}"),
        ("s", "One moment please."),
    ]
    later = [
        (who, f"this was said afterwards and is of no use here, turn {turn}") for turn, who in enumerate("acacacacac")
    ]
    return {
        "Version": "1.1.0", "AccountId": "123456789012", "Channel": "VOICE", "ContentMetadata": {"Output": "Raw"},
        "JobStatus": "COMPLETED", "LanguageCode": "en-GB",
        "Participants": [{"ParticipantId": "c", "ParticipantRole": "CUSTOMER"},
                         {"ParticipantId": "a", "ParticipantRole": "AGENT"},
                         {"ParticipantId": "s", "ParticipantRole": "SYSTEM"}],
        "Categories": {"MatchedCategories": [], "MatchedDetails": {}}, "ConversationCharacteristics": {},
        "CustomerMetadata": {"ContactId": contact_id, "InputS3Uri": "s3://x", "InstanceId": "1d908e11"},
        "Transcript": [{"BeginOffsetMillis": 5000 * turn, "Content": said, "EndOffsetMillis": 5000 * turn + 4000,
                        "Id": f"{contact_id}-{turn}", "ParticipantId": who, "Sentiment": "NEUTRAL",
                        "LoudnessScore": [79.27, 66.56]} for turn, (who, said) in enumerate([*turns, *later])],
    }  # fmt: skip


if __name__ == "__main__":
    main()
