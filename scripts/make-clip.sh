#!/usr/bin/env bash
# Makes a clip with picture, sound and speech: scripts/make-clip.sh OUT.mp4 SEED SECONDS WIDTHxHEIGHT "words to say"
# The picture moves and differs with SEED; the words are spoken by flite after one and a half seconds, over a quiet tone.
set -euo pipefail
out=$1 seed=$2 seconds=$3 size=$4 words=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flite -voice slt -t "$words" -o "$work/speech.wav"
case $((seed % 3)) in
  0) picture="testsrc2=size=$size:rate=30,hue=h=$((seed * 37 % 360))" ;;
  1) picture="mandelbrot=size=$size:rate=30:start_scale=2.$seed" ;;
  *) picture="life=size=${size%x*}x${size#*x}:rate=30:ratio=0.2:seed=$seed:mold=20:life_color=#3cb371:death_color=#202040" ;;
esac
ffmpeg -v error -nostdin -y -f lavfi -i "$picture" -f lavfi -i "sine=frequency=$((180 + seed * 40)):sample_rate=48000" \
  -i "$work/speech.wav" -filter_complex '[1:a]volume=0.02[tone];[2:a]aresample=48000,adelay=1500[speech];[tone][speech]amix=inputs=2:normalize=0[sound]' \
  -map 0:v -map '[sound]' -t "$seconds" -c:v libx264 -preset ultrafast -crf 25 -pix_fmt yuv420p -c:a aac -b:a 128k -movflags +faststart "$work/clip.mp4"
mv "$work/clip.mp4" "$out"
