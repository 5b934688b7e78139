"""Prints what the demo's uploads became, and fails when something that was promised did not happen."""

import json
import os
import pathlib
import sys
import urllib.request


def get(url, key=None):
    request = urllib.request.Request(url)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read()


def expect(condition, what):
    if not condition:
        sys.exit(f"The demo failed: {what}")


def stage(video, name):
    return next(stage for stage in video["stages"] if stage["stage"] == name)


def main(directory, *clips):
    api, key = os.environ["CLIPSTREAM_URL"], os.environ["CLIPSTREAM_API_KEY"]
    own_clip = os.environ.get("OWN_CLIP")
    videos = {clip: json.loads((pathlib.Path(directory) / f"{clip}.json").read_text()) for clip in clips}

    for clip, video in videos.items():
        hls = video["playback"]["hls_url"]
        expect(get(hls).startswith(b"#EXTM3U"), f"{hls} is no playlist")
        print(f"\n{clip}  {video['state']}  {video['video_id']}")
        print(f"  play      {hls}")
        print(f"            mpv {hls}    or in VLC: Media, Open Network Stream")
        if video["state"] == "duplicate":
            continue
        speech = stage(video, "speech_to_text")
        expect(speech["state"] == "done", f"speech-to-text is {speech['state']}: {speech.get('error')}")
        transcript = json.loads(get(video["transcript_url"]))
        intervals = ", ".join(f"{s['start']:.1f}-{s['end']:.1f} s" for s in transcript["segments"]) or "none"
        print(f"  speech    {intervals}  (status {transcript['status']})")
        if transcript["text"]:
            print(f"  text      {transcript['text']}")
        elif transcript["status"] == "no_engine":
            print("            for the text set SPEECH_ENGINE=http and SPEECH_URL, or: make demo SPEECH=whisper")
        if not own_clip:
            expect(transcript["segments"], "no speech was found in a clip that has some")
            expect(transcript["text"] or not os.environ.get("WORDS_EXPECTED"), "Whisper wrote no words")
        expect(stage(video, "embeddings")["state"] == "done", "embeddings did not end")
        nearest = json.loads(get(f"{api}/v1/videos/{video['video_id']}/similar?limit=3", key))["items"]
        expect(own_clip or nearest, "no other clip was found to look alike")
        expect(get(video["thumbnails"]["poster"])[:2] == b"\xff\xd8" or own_clip, "the poster is no JPEG")
        for neighbour in nearest:
            print(f"  similar   {neighbour['similarity']:.3f}  {neighbour.get('title') or neighbour['video_id']}")

    first, copy = videos[clips[0]], videos[clips[-1]]
    expect(copy["state"] == "duplicate", f"the copy is {copy['state']}, not duplicate")
    original = copy["duplicate_of"]
    if not own_clip:
        expect(original == first["video_id"], "the copy was not traced to its original")
    print(f"\n{clips[-1]} is a duplicate of {original}: nothing was transcoded twice")
    print("\nFor an operator:")
    print(f"  psql '{os.environ['DATABASE_URL']}' -x -c 'select * from pipeline_status'")
    print(f"  psql '{os.environ['DATABASE_URL']}' -c 'select * from stuck_jobs'")


main(*sys.argv[1:])
