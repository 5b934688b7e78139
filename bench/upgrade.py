#!/usr/bin/env python3
"""An upgrade that rolls: the test `upgrade` with a real older build, on one database across its forward migrations.

    bench/upgrade.py [COMMIT]

The older build is that of COMMIT; without one, of the last commit before the newest migration. Needs what `make setup`
installs and the history of the repository down to that commit: a shallow clone must be completed first (git fetch --unshallow).
Builds both (about 5 minutes on two cores; dependencies that did not change are shared), then takes about a minute. Writes
bench/results/upgrade.{md,json}.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import platform

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
WORK = ROOT / "target" / "upgrade"


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def previous():
    if len(sys.argv) > 1:
        return git("rev-parse", sys.argv[1])
    if git("rev-parse", "--is-shallow-repository") == "true":
        sys.exit("this clone has no history, and the older build is made of it: git fetch --unshallow")
    newest = max((ROOT / "migrations").glob("*.sql")).relative_to(ROOT)
    return git("rev-parse", git("log", "-1", "--format=%H", "--", str(newest)) + "^")


def build(commit):
    """Compiled dependencies are shared as hard links: cargo replaces files and never writes into them."""
    sources, target, made_of = WORK / "sources", WORK / "target", WORK / "commit"
    if not target.exists():
        (target / "debug").mkdir(parents=True)
        for part in ("deps", "build", ".fingerprint"):
            subprocess.run(["cp", "-al", ROOT / "target" / "debug" / part, target / "debug"], check=True)
    if not made_of.exists() or made_of.read_text() != commit:
        shutil.rmtree(sources, ignore_errors=True)
        sources.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        # With times of now: cargo goes by them.
        subprocess.run(["tar", "-xm", "-C", sources], input=archive.stdout, check=True)
        made_of.write_text(commit)
    subprocess.run(["cargo", "build", "--workspace"], cwd=sources, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, check=True)
    return target / "debug" / "clipstream"


def main():
    commit = previous()
    subprocess.run(["cargo", "build", "--workspace"], cwd=ROOT, check=True)
    older = build(commit)
    raw = WORK / "figures.json"
    raw.unlink(missing_ok=True)
    settings = {"UPGRADE_FROM": str(older), "UPGRADE_RESULTS": str(raw)}
    test = ["cargo", "test", "--workspace", "--test", "it", "--", "upgrade::"]
    subprocess.run(test, cwd=ROOT, env={**os.environ, **settings}, check=True)
    figures = json.loads(raw.read_text())
    if figures["migrations_after"] <= figures["migrations_before"]:
        sys.exit("the older build knows every migration: name an older commit")
    about = {
        "commit": git("describe", "--always", "--dirty"),
        "previous_commit": git("rev-parse", "--short", commit),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "command": " ".join(["bench/upgrade.py", *sys.argv[1:]]),
    }
    (RESULTS / "upgrade.json").write_text(json.dumps({**about, **figures}, indent=2) + "\n")
    (RESULTS / "upgrade.md").write_text("\n".join([
        "# Two builds on one database across a migration", "",
        f"Commit {about['commit']}, and the build of {about['previous_commit']} as the older one. {about['machine']}. Command:",
        f"`{about['command']}`.", "",
        "The older build migrates a fresh database and works; the newer one migrates it forward and works beside it, and an older one",
        "that is started only then; uploads are announced through both; the older ones are stopped by SIGTERM under load, and MinIO's",
        "events with them. Every video ended ready, once; no job was charged a failure, a crash or a lost worker; no log has an error.", "",
        "| | |", "|---|---|",
        f"| migrations before and after | {figures['migrations_before']}, {figures['migrations_after']} |",
        f"| videos, all of them ready | {figures['videos']} |",
        f"| jobs done by the older build before the migration | {figures['jobs_by_the_older_before']} |",
        f"| jobs done by the older build after it | {figures['jobs_by_the_older_beside_the_newer']} |",
        f"| jobs done by an older build started after it | {figures['jobs_by_an_older_started_late']} |",
        f"| jobs done by the newer build | {figures['jobs_by_the_newer']} |",
        f"| seconds in all | {figures['seconds']} |",
    ]) + "\n")


main()
