#!/usr/bin/env python3
"""50 poison files among 200 good ones, and the same 200 alone: the test `poison` of the daemon, at length, twice.

Needs what `make setup` installs. Takes about ten minutes on two cores. Writes bench/results/poison.{md,json}.
"""

import json
import os
import pathlib
import platform
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
GOOD, POISON, MOST = 200, 50, 2.0


def run(poison):
    raw = ROOT / "target" / "poison.json"
    raw.unlink(missing_ok=True)
    settings = {"POISON_GOOD": str(GOOD), "POISON_BAD": str(poison), "POISON_RESULTS": str(raw)}
    subprocess.run(["cargo", "test", "--workspace", "--test", "it", "--", "poison::"], cwd=ROOT, env={**os.environ, **settings}, check=True)
    return json.loads(raw.read_text())


def main():
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    alone, poisoned = run(0), run(POISON)
    ratio = round(poisoned["job_p99_s"] / alone["job_p99_s"], 2)
    about = {
        "commit": commit,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "command": "bench/poison.py",
    }
    result = {**about, "rows": [alone, poisoned], "job_p99_ratio": ratio}
    (RESULTS / "poison.json").write_text(json.dumps(result, indent=2) + "\n")
    lines = [
        f"# {POISON} poison files among {GOOD} good ones", "",
        f"Commit {commit}, {about['machine']}. Command: `{about['command']}`.", "",
        "Through the real daemon with two jobs of each stage at once. The poison: a child that dies of SIGSEGV in the middle of its work,",
        "cut off, five hours in a few kilobytes, nothing that decodes, a playlist, noise, a broken header. Every good file ended ready,",
        "every poison file failed with its cause, the worker lived. Seconds, of the good files: a job from its claim to done, and a video",
        f"from its first claim to ready. The p99 of the jobs may at most be {MOST:.0f} times that without poison: it is {ratio} times.", "",
        "| good | poison | job p50 | job p99 | video p50 | video p99 |", "|---|---|---|---|---|---|",
    ]
    for row in (alone, poisoned):
        figures = [f"{row[key]:.2f}" for key in ("job_p50_s", "job_p99_s", "video_p50_s", "video_p99_s")]
        lines.append(" | ".join([f"| {row['good']}", str(row["poison"]), *figures]) + " |")
    (RESULTS / "poison.md").write_text("\n".join(lines) + "\n")
    if ratio >= MOST:
        sys.exit(f"the good ones' p99 is {ratio} times that without poison")


main()
