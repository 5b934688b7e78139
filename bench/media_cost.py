#!/usr/bin/env python3
"""What a task costs the media child: the numbers behind pipeline/src/media/cost.rs.

Processor time of one child per pixel that is decoded, per pixel that is encoded, and per second of sound, and its peak of
memory; on noise in motion, which is harder than anything a camera makes, and on the usual test picture.

    cargo build --workspace && python3 bench/media_cost.py target/debug/clipstream
"""

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

NOISE = "testsrc2=s={size}:r=30:d={seconds},noise=alls=60:allf=t"
EASY = "testsrc2=s={size}:r=30:d={seconds}"
RUNGS = {480: (854, 480), 720: (1280, 720), 1080: (1920, 1080)}


def make(path, picture, size, seconds):
    source = picture.format(size=size, seconds=seconds)
    tone = ["-f", "lavfi", "-i", f"sine=r=48000:d={seconds}"]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source, *tone, *codecs, path]
    subprocess.run(command, check=True)


def limits():
    return {
        "max_size_bytes": 1 << 40,
        "max_duration_ms": 86_400_000,
        "max_width": 8192,
        "max_height": 4320,
        "max_frame_rate": 60,
        "max_streams": 16,
        "max_decoded_pixels": 1 << 60,
        "max_output_bytes": 1 << 40,
        "max_stall_ms": 60_000,
        "max_run_ms": 86_400_000,
    }


def serve(ours, file):
    """Ranges of the input, until the child closes its end. Held in no memory: a child inherits our peak."""
    while True:
        asked = b""
        while len(asked) < 12:
            more = ours.recv(12 - len(asked))
            if not more:
                return
            asked += more
        offset, length = struct.unpack("<QI", asked)
        ours.sendall(b"\x01" + os.pread(file, length, offset))


def run(program, path, task):
    """CPU seconds, MiB at the peak, and the last message of one child."""
    file = os.open(path, os.O_RDONLY)
    ours, theirs = socket.socketpair()
    command = [program, "media-child", "--sandbox", "required"]
    child = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, env={})
    theirs.close()
    header = json.dumps({"limits": limits(), "task": task}).encode()
    ours.sendall(struct.pack("<II", len(header), 0) + header + struct.pack("<Q", os.fstat(file).st_size))
    threading.Thread(target=serve, args=(ours, file), daemon=True).start()
    last = None
    while lengths := child.stdout.read(8):
        header_length, payload_length = struct.unpack("<II", lengths)
        last = json.loads(child.stdout.read(header_length))
        child.stdout.read(payload_length)
    _, _, usage = os.wait4(child.pid, 0)
    os.close(file)
    if "done" not in last:
        raise SystemExit(f"{path}: {last}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    program = sys.argv[1]
    print("| clip | task | CPU s | ps per pixel decoded + encoded | peak MiB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "clip.mp4")
        for name, picture in [("noise", NOISE), ("test picture", EASY)]:
            for lines, seconds in [(480, 10), (1080, 6)]:
                width, height = RUNGS[lines]
                make(path, picture, f"{width}x{height}", seconds)
                decoded = width * height * 30 * seconds
                encoded = sum(w * h for rung, (w, h) in RUNGS.items() if rung <= lines) * 30 * seconds
                sampled = {"sample_frames": {"per_second": 2.0, "width": 64, "height": 64}}
                for task, pixels in [("transcode", decoded + encoded), (sampled, decoded)]:
                    cpu, peak = run(program, path, task)
                    each = cpu * 1e12 / pixels
                    what = task if isinstance(task, str) else "sample_frames"
                    print(f"| {name} {lines} lines, {seconds} s | {what} | {cpu:.1f} | {each:.0f} | {peak:.0f} |")
        sound = os.path.join(directory, "sound.m4a")
        tone = ["-f", "lavfi", "-i", "sine=r=48000:d=600", "-af", "tremolo", "-c:a", "aac", sound]
        subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *tone], check=True)
        for task in ["transcode", "extract_audio"]:
            cpu, peak = run(program, sound, task)
            print(f"| sound, 600 s | {task} | {cpu:.1f} | {cpu * 1e6 / 600:.0f} µs per second | {peak:.0f} |")


if __name__ == "__main__":
    main()
