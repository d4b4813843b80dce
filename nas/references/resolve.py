"""Networks by name or file; `nas.engine.run.resolve` adds the folders of runs."""

from __future__ import annotations

from pathlib import Path

from nas.arch.arch import MAX_JSON_BYTES, Arch
from nas.arch.space_yaml import SUFFIXES
from nas.references.external import LibraryNetwork, is_library, library_network
from nas.references.table import reference
from nas.system.errors import InputError


def resolve(name: str, num_classes: int = 1000) -> Arch | LibraryNetwork:
    """A reference by its name or ``.yaml`` file, an ``arch.json``, or a library's network.

    Args:
        name: e.g. ``mobilenet_v2@width=0.5``, ``my_net.yaml``, ``results/RUN/arch/KEY.json``, ``torchvision:vgg16``.
        num_classes: outputs of the classifier of a library's network; an `Arch` gets its classes when it is built.

    Raises:
        InputError: there is no such network, or it cannot be read.
    """
    return library_network(name, num_classes) if is_library(name) else resolve_arch(name)


def resolve_arch(name: str) -> Arch:
    """A reference by its name or ``.yaml`` file, or an ``arch.json``.

    Raises:
        InputError: there is no such network, it cannot be read, or it is a library's network, which is no `Arch`.
    """
    if is_library(name):
        raise InputError(f"{name} is a library's network: it can be counted and measured, but not exported")
    path = Path(name).expanduser()
    if path.suffix == ".json":
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise InputError(
                    f"an architecture may have at most {MAX_JSON_BYTES} bytes, {path} has {path.stat().st_size}"
                )
            return Arch.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    if path.suffix == ".onnx":
        raise InputError(f"{path} is an exported file; give its reference or arch.json (nas measure takes .onnx files)")
    if len(path.parts) > 1 and not path.exists() and path.suffix not in SUFFIXES and "@" not in name:
        raise InputError(f"no such run folder or file: {path}")
    if (path / "run.json").is_file():
        raise InputError(f"{path} is the folder of a run; give one of its networks, {path / 'arch' / 'KEY.json'}")
    return reference(name)


def arch_in_table(text: str, folder: Path) -> Arch:
    """The network of a cell of a CSV: JSON of an `Arch`, or what `resolve_arch` reads.

    Args:
        text: the cell; a path to a ``.yaml`` or ``.json`` file is relative to `folder`.
        folder: folder of the CSV.

    Raises:
        InputError: the cell is empty, or describes no network.
    """
    text = text.strip()
    if not text:
        raise InputError("the network is missing; fill in that column")
    if text.startswith("{"):
        return Arch.from_json(text)
    name, at, multipliers = text.partition("@")
    filed = Path(name).suffix in (".json", *SUFFIXES)
    return resolve_arch(f"{folder / name}{at}{multipliers}" if filed else text)
