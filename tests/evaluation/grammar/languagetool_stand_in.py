"""A small server with LanguageTool's protocol and a handful of its rules, in place of the real one (Java, 250 MB).

As a program it takes the arguments of the real server's command line, of which it reads `-p PORT`.
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

# pattern -> rule, kind, category, as the real server calls them
RULES = {
    r"\b(\w+) \1\b": ("ENGLISH_WORD_REPEAT_RULE", "duplication", "MISC"),
    r"\ba(?= [aeio])": ("EN_A_VS_AN", "misspelling", "MISC"),
    r"\bthey is\b": ("THEY_IS", "grammar", "GRAMMAR"),
    r"\bracquett\b": ("MORFOLOGIK_RULE_EN_US", "misspelling", "TYPOS"),
    r"\bat this moment in time\b": ("PHRASE", "style", "STYLE"),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/v2/healthcheck":
            self._answer(b"OK")
        elif self.path == "/v2/languages":
            self._answer([{"name": "English (US)", "code": "en", "longCode": "en-US"}])
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        (text,), (language,) = sent["text"], sent["language"]
        if self.path != "/v2/check" or language != "en-US":
            self.send_error(400)
        elif "overload" in text.lower():
            self._answer(b"Error: too many requests", 500)
        else:
            matches = [
                _match(text, found, *rule)
                for pattern, rule in RULES.items()
                for found in re.finditer(pattern, text, re.IGNORECASE)
            ]
            self._answer({"software": {"name": "LanguageTool"}, "matches": matches})

    def _answer(self, content: Any, status: int = 200) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


def _match(text: str, found: re.Match[str], rule: str, kind: str, category: str) -> dict[str, Any]:
    length = found.end() - found.start()
    return {
        "message": f"{rule} found",
        "shortMessage": "",
        "replacements": [{"value": "…"}],
        "offset": found.start(),
        "length": length,
        "context": {"text": text, "offset": found.start(), "length": length},
        "sentence": text,
        "rule": {"id": rule, "description": rule, "issueType": kind, "category": {"id": category, "name": category}},
    }


if __name__ == "__main__":
    if "org.languagetool.server.HTTPServer" not in sys.argv or not sys.argv[2].endswith("languagetool-server.jar"):
        sys.exit(f"unexpected arguments: {sys.argv}")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("-p") + 1])), Handler).serve_forever()
