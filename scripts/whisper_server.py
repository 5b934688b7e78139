"""A small speech engine for the demo and the tests: Whisper behind the OpenAI transcription API.

    whisper_server.py MODEL_DIR [--host 127.0.0.1] [--port 0]

Prints its URL when it is ready. One request at a time, no authentication, loopback by default: not for production.
"""

import argparse
import email.parser
import email.policy
import http.server
import io
import json
import math

from faster_whisper import WhisperModel

MAX_BODY = 25 * 1024 * 1024


def form(headers, body):
    """The fields of a multipart form: name to bytes."""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    parts = message.iter_parts() if message.is_multipart() else []
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}


def transcribe(model, fields):
    """What is said in fields["file"], as verbose_json."""
    language = fields.get("language", b"").decode() or None
    segments, info = model.transcribe(io.BytesIO(fields["file"]), language=language, beam_size=5)
    names = ("start", "end", "text", "avg_logprob", "compression_ratio", "no_speech_prob")
    segments = [{"id": s.id, **{name: getattr(s, name) for name in names}} for s in segments]
    return {
        "task": "transcribe",
        "language": info.language,
        "duration": info.duration,
        "text": "".join(s["text"] for s in segments).strip(),
        "segments": [s for s in segments if math.isfinite(s["avg_logprob"])],
    }


class Handler(http.server.BaseHTTPRequestHandler):
    model = None

    def do_GET(self):
        if self.path != "/v1/models":
            return self.reply(404, {"error": {"message": "this server lists /v1/models only"}})
        return self.reply(200, {"object": "list", "data": [{"id": "whisper-1", "object": "model"}]})

    def do_POST(self):
        if self.path != "/v1/audio/transcriptions":
            return self.reply(404, {"error": {"message": "this server knows /v1/audio/transcriptions only"}})
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= MAX_BODY:
            return self.reply(413, {"error": {"message": f"a body has 1 to {MAX_BODY} bytes"}})
        fields = form(self.headers, self.rfile.read(length))
        if "file" not in fields:
            return self.reply(400, {"error": {"message": "the form has no field named file"}})
        try:
            answer = transcribe(self.model, fields)
        except Exception as error:  # a broken file must not end the server
            return self.reply(400, {"error": {"message": f"{type(error).__name__}: {error}"}})
        if fields.get("response_format") != b"verbose_json":
            answer = {"text": answer["text"]}
        return self.reply(200, answer)

    def reply(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    options = argparse.ArgumentParser(description="Whisper behind the OpenAI transcription API.")
    options.add_argument("model_dir")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=0)
    options = options.parse_args()
    Handler.model = WhisperModel(options.model_dir, device="cpu", compute_type="int8", local_files_only=True)
    server = http.server.HTTPServer((options.host, options.port), Handler)
    print(f"http://{options.host}:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
