"""What a file of weights is, by its content, and what it holds. Nothing in a file is executed."""

from __future__ import annotations

import _compat_pickle
import collections
import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from nas.references.download import MAX_BYTES
from nas.system.errors import InputError
from nas.system.text import one_line

MAX_INDEX_BYTES = 1 << 24

_USUAL_ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
REMEDY = "give a file of torch.save(model.state_dict(), FILE), or a .safetensors file"

_MAGIC: tuple[tuple[bytes, int, str], ...] = (  # bytes, where they are, and what the file is
    (b"version https://git-lfs", 0, "a git-lfs pointer, not the file itself; run: git lfs pull"),
    (b"\x89HDF\r\n\x1a\n", 0, f"an HDF5 file (Keras .h5), not PyTorch weights; {REMEDY}"),
    (b"\x93NUMPY", 0, f"a numpy array, not PyTorch weights; {REMEDY}"),
    (b"\x1f\x8b", 0, "a gzip archive; unpack it, and give the file in it"),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7-Zip archive; unpack it, and give the file in it"),
    (b"\x28\xb5\x2f\xfd", 0, "a zstd archive; unpack it, and give the file in it"),
    (b"\xfd7zXZ", 0, "an xz archive; unpack it, and give the file in it"),
    (b"Rar!", 0, "a RAR archive; unpack it, and give the file in it"),
    (b"ustar", 257, "a tar archive; unpack it, and give the file in it"),
    (b"TFL3", 4, f"a TensorFlow Lite model, not PyTorch weights; {REMEDY}"),
    (b"ET12", 4, f"an ExecuTorch program, not PyTorch weights; {REMEDY}"),
    (b"GGUF", 0, f"a GGUF file, not PyTorch weights; {REMEDY}"),
    (b"\x08\x01\x12", 0, f"a TensorFlow SavedModel, not PyTorch weights; {REMEDY}"),
)
_ONNX = re.compile(rb"\x08[\x03-\x1f](\x12|\x1a|\x3a|\x42)")
_LEVELDB_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # the index of a TensorFlow checkpoint
_PLAIN_MODULES = ("torch.", "collections.", "builtins.", "_codecs.")
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def content_of(path: Path) -> tuple[Any, tuple[Path, ...]]:
    """What a file holds, and the files that were read."""
    try:
        _check_file(path)
        with path.open("rb") as file:
            start = file.read(512)
        if not _is_safetensors(path, start) and start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"):
            return _shards(path)
        return _tensor_file(path, start), (path,)
    except OSError as error:
        raise InputError(f"cannot read {path}: {one_line(error, 160)}") from None


def _check_file(path: Path) -> None:
    if path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        if "data.pkl" in names:
            refuse(path, "an unpacked checkpoint; zip the folder again (with -0), and give the archive")
        if ".metadata" in names:
            convert = "python -m torch.distributed.checkpoint.format_utils dcp_to_torch"
            refuse(path, f"a distributed checkpoint; convert it: {convert} {path} FILE")
        if "saved_model.pb" in names:
            refuse(path, f"a TensorFlow SavedModel, not PyTorch weights; {REMEDY}")
        likely = sorted(name for name in names if name.endswith(_USUAL_ENDINGS))
        refuse(path, f"a folder; give a file in it{', such as ' + likely[0] if likely else ''}")
    if not path.is_file():
        raise InputError(f"no weights at {str(path)!r:.200}; give a file, or torchvision or timm")
    size = path.stat().st_size
    if size == 0:
        refuse(path, "empty; download or copy it again")
    _check_size(path, size)


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise InputError(f"weights may have at most {MAX_BYTES >> 20} MiB, {path} has {size >> 20}")


def refuse(path: Path, what: str) -> NoReturn:
    raise InputError(f"cannot read weights: {path} is {what}")


def _shards(path: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """The tensors of the files that an index lists; ``model.safetensors.index.json`` of Hugging Face."""
    try:
        index: Any = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_INDEX_BYTES else None
        names = sorted(set(index["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        refuse(path, f"text (JSON), not weights; {REMEDY}")
    shards = [path.parent / str(name) for name in names]
    for shard in shards:
        if Path(shard.name) != shard.relative_to(path.parent) or not shard.is_file():
            raise InputError(f"{path} lists {shard.name!r}, which is not in its folder; download all of its shards")
    _check_size(path, sum(shard.stat().st_size for shard in shards))
    tensors: dict[str, Any] = {}
    for shard in shards:
        _check_file(shard)
        with shard.open("rb") as file:
            content = _tensor_file(shard, file.read(512))
        tensors |= content if isinstance(content, dict) else {}
    return dict(sorted(tensors.items())), (path, *shards)  # the order of shards is not that of layers


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Whether a file begins with the length of a JSON header, and that header."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8


def _tensor_file(path: Path, start: bytes) -> Any:
    if _is_safetensors(path, start):  # first, since the length that begins it may look like anything
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, ValueError, KeyError) as error:
            refuse(path, f"a damaged safetensors file ({one_line(error, 120)}); download or copy it again")
    for magic, at, what in _MAGIC:
        if start[at:].startswith(magic):
            refuse(path, what)
    if start.startswith(b"PK"):
        return _from_zip(path)
    if start.startswith(b"\x80"):
        with path.open("rb") as file:
            names, is_torch = _globals_of(file, 5)
        if not is_torch:
            refuse(path, f"a Python pickle, not a file of torch.save; {REMEDY}")
        return _from_torch(path, names)
    text = start.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        refuse(path, "a web page (HTML), not weights; the download failed or needs a login")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        if file.read() == _LEVELDB_END:
            refuse(path, f"the index of a TensorFlow checkpoint, not PyTorch weights; {REMEDY}")
    if _ONNX.match(start):
        refuse(path, f"an ONNX model, not PyTorch weights; {REMEDY}")
    if text and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in text):
        refuse(path, f"a text file, not weights; {REMEDY}")
    refuse(path, f"of an unknown format, or damaged; {REMEDY}")


def _from_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, sum(entry.file_size for entry in archive.infolist()))  # another program may compress
            names = archive.namelist()
            kinds = {name.rpartition("/")[2] for name in names}
            pickles = [name for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
            if "constants.pkl" in kinds:
                refuse(path, f"a TorchScript archive (torch.jit.save), not a state dict; {REMEDY}")
            if not pickles:
                if "model.weights.h5" in kinds:
                    refuse(path, f"a Keras model, not PyTorch weights; {REMEDY}")
                if any(name.endswith(".npy") for name in kinds):
                    refuse(path, f"an archive of numpy arrays (.npz), not PyTorch weights; {REMEDY}")
                if "archive_format" in kinds or any("model.json" in name for name in names):
                    refuse(path, f"an exported program (torch.export.save), not a state dict; {REMEDY}")
                first = next((name for name in names if not name.endswith("/")), "nothing")
                refuse(path, f"a zip archive (holds {first:.80}), not a checkpoint; unpack it, and give a file in it")
            with archive.open(pickles[0]) as file:
                found, _ = _globals_of(file, 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        refuse(path, "a damaged zip archive, perhaps cut off; download or copy it again")
    return _from_torch(path, found)


def _globals_of(file: Any, pickles: int) -> tuple[set[str], bool]:
    """Names of the classes and functions in pickles that follow each other, read without executing them; whether the
    first is the number that begins a file of torch.save before version 1.6."""
    found: set[str] = set()
    is_torch = False
    try:
        for at in range(pickles):
            for op, value, _ in pickletools.genops(file):
                is_torch = is_torch or (at == 0 and value == _TORCH_MAGIC)
                if op.name == "GLOBAL" and isinstance(value, str):
                    module, _, name = value.partition(" ")
                    module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
                    found.add(f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}")
            if not is_torch:
                break
    except (ValueError, EOFError):
        pass  # torch.load says what is wrong
    return found, is_torch


class Foreign:
    """An object of another library, beside the weights: it keeps nothing, and none of that library is imported."""

    name = "object"

    def __new__(cls, *arguments: Any, **keywords: Any) -> Foreign:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _ForeignDict:
    """A dict of another library, such as Lightning's AttributeDict: a plain one with the same items."""

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        return collections.OrderedDict()


def _from_torch(path: Path, names: set[str]) -> Any:
    """A file of torch.save. Only tensors and plain containers are made; other classes have a stand-in."""
    import torch

    allowed: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    for name in names:
        is_dict = name.lower().endswith("dict")
        allowed.append((_ForeignDict if is_dict else type("Foreign", (Foreign,), {"name": name}), name))
    is_model = any(name.startswith("torch.nn.modules.") for name in names)
    whole = f"a whole pickled model (torch.save(model, FILE)), not a state dict; {REMEDY}"
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about files that torch did not write: they are read or refused
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise types of their own, of pickle, zip and the system
        if is_model:
            refuse(path, whole)
        reason = one_line(re.sub(r"\x1b\[[0-9;]*m", "", str(error)), 2000).rpartition("WeightsUnpickler error: ")[2]
        foreign = sorted(name for name in names if not name.startswith(_PLAIN_MODULES))
        if foreign and isinstance(error, pickle.UnpicklingError):
            refuse(path, f"a checkpoint with pickled objects that are not read ({', '.join(foreign)[:160]}); {REMEDY}")
        refuse(path, f"a damaged or unusual checkpoint ({type(error).__name__}: {reason[:120]}); {REMEDY}")
    if is_model and isinstance(content, Foreign):
        refuse(path, whole.replace("model (", f"model of {content.name} (", 1))
    return content
