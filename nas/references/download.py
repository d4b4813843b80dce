"""Files from the web: downloaded once into the cache, and compared with every checksum that is published for them."""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nas.system.errors import NasError
from nas.system.files import cache_folder, write_atomic
from nas.system.text import one_line

MAX_BYTES = 1 << 31
TIMEOUT_S = 30.0

_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # resnet18-f37072fd.pth: torchvision's first digits of the SHA-256
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Download:
    """A file in the cache.

    Args:
        path: path of the file.
        sha256: SHA-256 of its content, 64 hexadecimal digits.
    """

    path: Path
    sha256: str


def download(url: str) -> Download:
    """The file at `url`, from the cache if it is there.

    Three checksums are compared where they exist: digits of the SHA-256 in the name of the file, as torchvision writes
    them; the SHA-256 that Hugging Face states when it redirects to the file; and, for a file in the cache, the SHA-256
    it had when it was downloaded. A file in the cache that has changed is downloaded again.

    Raises:
        NasError: there is no network, or the file is too large, incomplete, or fails a checksum. Nothing is kept then.
    """
    try:
        return _cached(url) or _downloaded(url)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NasError(
            f"weights could not be downloaded from {url} ({type(error).__name__}: {one_line(error, 160)}); "
            "check the network, or give a file"
        ) from None


def _cached(url: str) -> Download | None:
    path, record = _places(url)
    if not path.is_file():
        return None
    digest = sha256_of(path)
    recorded = record.read_text(encoding="utf-8").split()[:1] if record.is_file() else []
    intact = _agrees_with_name(path.name, digest) and recorded in ([], [digest])
    return Download(path, digest) if intact else None


def _downloaded(url: str) -> Download:
    data, stated = _fetch(url)
    digest = hashlib.sha256(data).hexdigest()
    path, record = _places(url)
    if not _agrees_with_name(path.name, digest) or stated not in (None, digest):
        raise NasError(f"weights at {url} fail their checksum: SHA-256 is {digest}; try again, or give a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
    write_atomic(record, f"{digest}  {path.name}\n")
    return Download(path, digest)


def _places(url: str) -> tuple[Path, Path]:
    """Where the file is kept, and where its SHA-256 is."""
    folder = cache_folder("weights") / hashlib.sha256(url.encode()).hexdigest()[:12]
    name = url.rpartition("/")[2]
    return folder / name, folder / f"{name}.sha256"


def sha256_of(*paths: Path) -> str:
    """The SHA-256 of a file, or of several one after the other, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _agrees_with_name(name: str, digest: str) -> bool:
    match = _IN_NAME.search(name)
    return match is None or digest.startswith(match[1])


def _fetch(url: str) -> tuple[bytes, str | None]:
    """The whole file, and its SHA-256 if Hugging Face states it."""
    redirects = _Redirects()
    request = urllib.request.Request(url, headers={"User-Agent": "nas"})
    with urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT_S) as response:
        data: bytes = response.read(MAX_BYTES + 1)
        announced = response.headers.get("Content-Length")
    if len(data) > MAX_BYTES or (announced is not None and int(announced) != len(data)):
        raise NasError(f"weights at {url} are incomplete, or larger than {MAX_BYTES >> 20} MiB; try again")
    return data, redirects.sha256


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects. Hugging Face's redirect to a large file has that file's SHA-256 as its ``X-Linked-ETag``; what
    the storage behind it calls ``ETag`` is another hash."""

    sha256: str | None = None

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        stated = headers.get("X-Linked-ETag", "").strip('"').lower()
        if _SHA256.fullmatch(stated):
            self.sha256 = stated
        return super().redirect_request(req, fp, code, msg, headers, newurl)
