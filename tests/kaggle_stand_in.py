"""A small HTTP server in place of Kaggle: it answers the client's requests, and keeps what it was sent.

The real client is sent here by two variables: KAGGLE_API_ENVIRONMENT=LOCALHOST makes it speak plain HTTP to
"localhost", and http_proxy brings that to this server's port. A dead https_proxy keeps everything else from leaving.
"""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

OWNER = "some-kaggler"
TOKEN = "KGAT_0123456789"
"""The access token of that owner."""


@dataclass
class StandIn:
    """What Kaggle holds, what it was sent, and how it misbehaves. A test sets and reads these fields.

    Attributes:
        port: where it listens.
        requests: (method, body) of every request, in order; the method is e.g. "SaveKernel".
        refuse: method -> (HTTP status, message): such requests are refused.
        answers: method -> fields that replace the usual ones of its answer.
        lose: names of files whose upload fails.
        drop: names of files that are uploaded and then not listed.
        blobs: token -> (name, bytes) of every upload.
        datasets: dataset -> names of its files.
        dataset_states: the dataset's status, one after the other; the last one stays.
        kernel_states: the same for the kernel.
        outputs: name -> what the kernel left; an int is an HTTP status with an error for a body.
        archive: what the competition's data is.
        submissions: the list of submissions, one after the other; the last one stays.
    """

    port: int = 0
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    lose: set[str] = field(default_factory=set)
    drop: set[str] = field(default_factory=set)
    blobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    datasets: dict[str, list[str]] = field(default_factory=dict)
    dataset_states: list[str] = field(default_factory=lambda: ["READY"])
    kernel_states: list[str] = field(default_factory=lambda: ["RUNNING", "COMPLETE"])
    outputs: dict[str, bytes | int] = field(default_factory=dict)
    archive: bytes = b""
    submissions: list[list[dict[str, Any]]] = field(default_factory=lambda: [[]])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, method: str) -> list[dict[str, Any]]:
        """The bodies of one method's requests."""
        return [body for name, body in self.requests if name == method]

    def uploaded(self) -> dict[str, bytes]:
        """Every file that came in whole."""
        return dict(self.blobs.values())

    def environment(self, home: Path) -> dict[str, str]:
        """Variables for a process whose client shall reach this server and nothing else."""
        kept = {
            name: value for name, value in os.environ.items() if not name.upper().startswith(("KAGGLE_", "NO_PROXY"))
        }
        dead = "http://127.0.0.1:9"
        for folder in (home / ".kaggle", home / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        return kept | {
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "TMPDIR": str(home / "tmp"),
            "KAGGLE_USERNAME": OWNER,
            "KAGGLE_KEY": "not-a-key",
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": self.url,
            "HTTP_PROXY": self.url,
            "https_proxy": dead,
            "HTTPS_PROXY": dead,
            "ALL_PROXY": dead,
        }

    def answer(self, method: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the JSON for a request."""
        self.requests.append((method, body))
        if method in self.refuse:
            status, message = self.refuse[method]
            return status, {"code": status, "message": message}
        known = getattr(self, f"on_{method}", None)
        if known is None:
            return 404, {"code": 404, "message": f"the stand-in does not know {method}"}
        found = known(body)
        if found is None:
            return 404, {"code": 404, "message": "not found"}
        return 200, found | self.answers.get(method, {})

    # one method per request, named as Kaggle names it

    def on_IntrospectToken(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"active": body["token"] == TOKEN, "username": OWNER}

    def on_SaveKernel(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"url": f"https://www.kaggle.com/code/{body['slug']}", "versionNumber": len(self.bodies("SaveKernel"))}

    def on_GetKernelSessionStatus(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"status": _next(self.kernel_states)}

    def on_ListKernelSessionOutput(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [{"url": f"{self.url}/out/{name}", "fileName": name} for name in self.outputs]
        return {"files": files, "log": "[]"}

    def on_GetDatasetStatus(self, body: dict[str, Any]) -> dict[str, Any] | None:  # noqa: N802
        if f"{body['ownerSlug']}/{body['datasetSlug']}" not in self.datasets:
            return None
        return {"status": _next(self.dataset_states)}

    def on_StartBlobUpload(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._start(body["name"])

    def on_CreateDataset(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._keep(f"{body['ownerSlug']}/{body['slug']}", body["files"])

    def on_CreateDatasetVersion(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._keep(f"{body['ownerSlug']}/{body['datasetSlug']}", body["body"]["files"])

    def on_ListDatasetFiles(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        names = self.datasets[f"{body['ownerSlug']}/{body['datasetSlug']}"]
        start = int(body.get("pageToken") or 0)  # two names a page, so that the pages are followed
        following = {"nextPageToken": str(start + 2)} if start + 2 < len(names) else {}
        return {"datasetFiles": [{"name": name} for name in names[start : start + 2]], **following}

    def on_StartSubmissionUpload(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._start(body["fileName"])

    def on_CreateSubmission(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"message": f"Successfully submitted to AnimalCLEF{body['competitionName'][-2:]}", "ref": 77}

    def on_ListSubmissions(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"submissions": _next(self.submissions)}

    def _start(self, name: str) -> dict[str, Any]:
        token = str(len(self.blobs))
        self.blobs[token] = (name, b"")
        return {"token": token, "createUrl": f"{self.url}/blob/{token}"}

    def _keep(self, dataset: str, files: list[dict[str, Any]]) -> dict[str, Any]:
        names = [self.blobs[file["token"]][0] for file in files]
        self.datasets[dataset] = [name for name in names if name not in self.drop]
        return {"status": "Ok", "url": f"https://www.kaggle.com/datasets/{dataset}"}


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def kaggle_stand_in() -> Iterator[StandIn]:
    """A server on a free port, for the block."""
    kaggle = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            method = urlsplit(self.path).path.rsplit("/", 1)[-1]
            body = json.loads(self._body() or b"{}")
            if method == "DownloadDataFiles" and method not in kaggle.refuse:
                kaggle.requests.append((method, body))
                return self._send(302, b"", {"Location": f"{kaggle.url}/zip/{body['competitionName']}.zip"})
            status, content = kaggle.answer(method, body)
            headers = {"Content-Type": "application/json"} | ({"Retry-After": "0"} if status == 429 else {})
            return self._send(status, json.dumps(content).encode(), headers)

        def do_PUT(self) -> None:
            token = urlsplit(self.path).path.rsplit("/", 1)[-1]
            name, _ = kaggle.blobs[token]
            body = self._body()
            if name in kaggle.lose:
                return self._send(400, b"lost")
            kaggle.blobs[token] = (name, body)
            return self._send(200, b"")

        def do_GET(self) -> None:
            kind, _, name = urlsplit(self.path).path.lstrip("/").partition("/")
            found = kaggle.archive if kind == "zip" else kaggle.outputs.get(name, 404)
            if isinstance(found, int):
                return self._send(found, b"<html>an error instead of the file</html>")
            return self._send(200, found, {"Last-Modified": formatdate(usegmt=True)})

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        kaggle.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield kaggle
        server.shutdown()
        thread.join()
