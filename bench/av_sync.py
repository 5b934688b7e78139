#!/usr/bin/env python3
"""Picture against sound over ten minutes, for every container: the test `sync` of the media child, on long clips.

Needs what `make setup` installs. Takes about ten CPU minutes. Writes bench/results/av_sync.{md,json}.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
SECONDS = sys.argv[1] if len(sys.argv) > 1 else "600"
TEST = ["cargo", "test", "--workspace", "--test", "media_child", "--", "sync::"]


def main():
    raw = ROOT / "target" / "av_sync.json"
    raw.unlink(missing_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    ended = subprocess.run(TEST, cwd=ROOT, env={**os.environ, "AV_SYNC_SECONDS": SECONDS, "AV_SYNC_RESULTS": str(raw)})
    rows = json.loads(raw.read_text())
    about = {
        "commit": commit,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "command": f"bench/av_sync.py {SECONDS}",
        "seconds": int(SECONDS),
    }
    (RESULTS / "av_sync.json").write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    lines = [
        f"# Picture against sound over {SECONDS} s", "",
        f"Commit {commit}, {about['machine']}. Command: `{about['command']}`.", "",
        "A white picture and a beep at the same moment, about once a second. Both are measured on the output: init and segments of each",
        "rendition decoded by ffmpeg, with the times that stand in the segments. Milliseconds by which the beep is later than the flash;",
        "*recognition* is the sound that speech recognition gets, against the same flashes. More than 25 fails the test.", "",
        "FFmpeg's own muxer puts the picture of *MKV, Opus* 7 ms late, and AVI cannot say how much priming its MP3 has: those two are",
        "in the sources.", "",
        "| source | flashes | first | last | worst | recognition, worst |", "|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = [f"{row[key]:.1f}" for key in ("first_ms", "last_ms", "worst_ms", "recognition_worst_ms")]
        lines.append(" | ".join([f"| {row['source']}", str(row["flashes"]), *figures]) + " |")
    (RESULTS / "av_sync.md").write_text("\n".join(lines) + "\n")
    sys.exit(ended.returncode)


main()
