"""What people type as a network: references, their files, architectures, networks of libraries."""

from pathlib import Path

import pytest

from nas.references.external import LibraryNetwork
from nas.references.resolve import resolve, resolve_arch
from nas.references.table import reference
from nas.system.errors import InputError


def test_references_files_and_library_networks_are_found(tmp_path: Path) -> None:
    arch = reference("mobilenet_v2", width=0.5)
    (tmp_path / "arch.json").write_text(arch.to_json())
    (tmp_path / "mine.yaml").write_text("name: mine\nbase: mobilenet_v2\nwidth: 0.5\n")
    for name in ("mobilenet_v2@width=0.5", str(tmp_path / "arch.json"), str(tmp_path / "mine.yaml")):
        assert resolve(name) == resolve_arch(name) == arch
    assert isinstance(resolve("torchvision:squeezenet1_1"), LibraryNetwork)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mobilenet_v9", "'mobilenet_v9'; did you mean mobilenet_v2"),
        ("absent.json", "absent.json"),
        ("wide.json", "wide.json"),
        ("latin.json", "UTF-8"),
        ("model.onnx", "arch.json"),
        ("run", "KEY.json"),
        ("torchvision:vgg16", "torchvision:vgg16"),
    ],
)
def test_anything_else_is_refused_in_one_line(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wide.json").write_bytes(b" " * (2 << 20))
    Path("latin.json").write_bytes(b"\xff")
    Path("run").mkdir()
    Path("run/run.json").touch()
    with pytest.raises(InputError) as caught:
        resolve_arch(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
