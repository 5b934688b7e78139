"""Measures the path of a clip on a private stack. See path.sh."""

import json
import os
import pathlib
import platform
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

RESULTS = pathlib.Path(__file__).parent / "results"
# name, recipe of the clip
CLIPS = {
    "10 s 1080p30": "-f lavfi -i testsrc2=size=1920x1080:rate=30:duration=10 -f lavfi -i sine=frequency=440:duration=10"
    " -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac",
    "5 min 480p30": "-f lavfi -i testsrc2=size=854x480:rate=30:duration=300 -f lavfi -i sine=frequency=440:duration=300"
    " -c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac",
}
LADDER = {1080: 6000, 720: 3000, 480: 1400}


class Memory(threading.Thread):
    """Highest resident set of the daemon and of any media child, in MiB, sampled from /proc."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.daemon_pid, self.peak = daemon, {"daemon": 0.0, "child": 0.0}

    def run(self):
        while True:
            for entry in pathlib.Path("/proc").iterdir():
                if entry.name.isdigit():
                    self.look(entry)
            time.sleep(0.1)

    def look(self, entry):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            status = (entry / "status").read_text()
        except OSError:
            return
        kind = "child" if b"media-child" in command else "daemon" if int(entry.name) == self.daemon_pid else None
        if kind and "VmRSS:" in status:
            kib = int(status.split("VmRSS:")[1].split()[0])
            self.peak[kind] = max(self.peak[kind], kib / 1024)


def run(command, **options):
    return subprocess.run(command, check=True, **options)


def settings(path):
    lines = (line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)


def upload(environment, file):
    """As an app developer would: announce, PUT, poll. Returns the id and when the PUT was answered, on this clock."""
    body = json.dumps({"filename": file.name, "size": file.stat().st_size, "content_type": "video/mp4"}).encode()
    request = urllib.request.Request(environment["CLIPSTREAM_URL"].rstrip("/") + "/v1/videos", data=body, method="POST")
    request.add_header("Content-Type", "application/json")
    request.add_header("Authorization", "Bearer " + environment["CLIPSTREAM_API_KEY"])
    with urllib.request.urlopen(request) as response:
        announced = json.load(response)
    headers = [f"{name}: {value}" for name, value in announced["upload"]["headers"].items()]
    arguments = [argument for header in headers for argument in ("-H", header)]
    run(["curl", "-sSf", "-X", "PUT", "-T", str(file), *arguments, announced["upload"]["url"]])
    return announced["video_id"], time.time()


def times(environment, video):
    sql = f"""select json_build_object('state', v.state, 'put_to_webhook', extract(epoch from v.uploaded_at),
        'claim', extract(epoch from (select min(a.started_at) from job_attempts a join jobs j on j.id = a.job_id where j.video_id = v.id)),
        'playable', extract(epoch from v.playable_at), 'ready', extract(epoch from v.processed_at))
        from videos v where id = '{video}'"""
    out = run(["psql", environment["DATABASE_URL"], "-Atc", sql], capture_output=True, text=True).stdout
    return json.loads(out)


def command_line_ladder(file, directory):
    """One ffmpeg, one decode, the same rungs and rate control: what a person would type. Wall and CPU seconds."""
    height = int(run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "stream=height", "-of", "csv=p=0", str(file)],
                     capture_output=True, text=True).stdout.strip().strip(","))
    rungs = [rung for rung in LADDER if rung <= height]
    graph = f"[0:v]split={len(rungs)}" + "".join(f"[i{rung}]" for rung in rungs)
    graph += "".join(f";[i{rung}]scale=-2:{rung}:flags=area[o{rung}]" for rung in rungs)
    arguments = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", str(file), "-filter_complex", graph]
    for rung in rungs:
        arguments += ["-map", f"[o{rung}]", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-maxrate", f"{LADDER[rung]}k",
                      "-bufsize", f"{2 * LADDER[rung]}k", "-force_key_frames", "expr:gte(t,n_forced*2)", "-sc_threshold", "0",
                      "-f", "hls", "-hls_time", "4", "-hls_segment_type", "fmp4", "-hls_playlist_type", "event",
                      "-hls_fmp4_init_filename", f"{rung}.mp4", str(directory / f"{rung}.m3u8")]
    arguments += ["-map", "0:a", "-c:a", "aac", "-b:a", "128k", str(directory / "audio.m4a")]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run(arguments)
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(program, work):
    stack = work / "stack"
    log = open(work / "dev.log", "w")
    dev = subprocess.Popen([program, "dev", "--dir", str(stack)], stdout=log, stderr=log)
    try:
        while not (stack / "dev.env").exists():
            if dev.poll() is not None:
                sys.exit((work / "dev.log").read_text()[-2000:])
            time.sleep(0.1)
        environment = settings(stack / "dev.env")
        rows = []
        for name, recipe in CLIPS.items():
            file = work / (name.replace(" ", "-") + ".mp4")
            run(["ffmpeg", "-v", "error", "-nostdin", "-y", *recipe.split(), str(file)])
            memory = Memory(dev.pid)
            memory.start()
            video, answered = upload(environment, file)
            while (seen := times(environment, video))["state"] in ("uploading", "processing"):
                time.sleep(0.2)
            if seen["state"] != "ready":
                sys.exit(f"{name}: {seen}")
            wall, cpu = command_line_ladder(file, work)
            rows.append({
                "clip": name,
                "size_mib": round(file.stat().st_size / 2**20, 1),
                "put_to_webhook_s": round(seen["put_to_webhook"] - answered, 3),
                "webhook_to_claim_s": round(seen["claim"] - seen["put_to_webhook"], 3),
                "put_to_playable_s": round(seen["playable"] - answered, 2),
                "put_to_ready_s": round(seen["ready"] - answered, 2),
                "daemon_rss_mib": round(memory.peak["daemon"]),
                "child_rss_mib": round(memory.peak["child"]),
                "ffmpeg_ladder_wall_s": round(wall, 2),
                "ready_to_ffmpeg_ratio": round((seen["ready"] - answered) / wall, 2),
            })
            print(json.dumps(rows[-1]), file=sys.stderr)
        return rows
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait(60)


def main(program, *arguments):
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        rows = measure(program, pathlib.Path(work))
    commit = run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    about = {"commit": commit, "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}", "command": "make bench"}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "path.json").write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    table = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    table += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    head = [
        "# The path of a clip", "",
        f"Commit {about['commit']}, {about['machine']}. Command: `{about['command']}`.", "",
        "Times from the moment the uploader has its 200. A webhook before that moment is a negative number. *Ready* is all four stages;",
        "the ratio compares it with one `ffmpeg` command that only makes the same ladder from the local file, in the same run.", "",
    ]
    (RESULTS / "path.md").write_text("\n".join(head + table) + "\n")


main(*sys.argv[1:])
