"""Downloads are kept once, and nothing is kept or used whose checksum is wrong."""

import hashlib
from pathlib import Path

import pytest

from nas.references.download import download, sha256_of
from nas.system.errors import NasError
from nas.system.files import cache_folder
from tests.references.hub import Hub

DATA = b"weights"
SHA256 = hashlib.sha256(DATA).hexdigest()
NAMED = f"/a/net-{SHA256[:8]}.pth"


def kept() -> list[str]:
    return sorted(path.name for path in cache_folder("weights").rglob("*") if path.is_file())


def test_a_file_is_downloaded_once_and_its_checksum_is_kept_beside_it(hub: Hub) -> None:
    hub.files[NAMED] = DATA
    first, second = download(hub.url + NAMED), download(hub.url + NAMED)
    assert first == second
    assert (first.path.read_bytes(), first.sha256) == (DATA, SHA256)
    assert hub.visits == [NAMED]
    assert kept() == [first.path.name, f"{first.path.name}.sha256"]


@pytest.mark.parametrize(
    ("path", "says"), [("/a/net-00000000.pth", SHA256), ("/a/none.pth", "404"), ("/a/short.pth", "incomplete")]
)
def test_what_did_not_arrive_as_published_is_not_kept(hub: Hub, path: str, says: str) -> None:
    hub.files |= {"/a/net-00000000.pth": DATA, "/a/short.pth": DATA}
    with pytest.raises(NasError, match=says) as caught:
        download(hub.url + path)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert kept() == []


@pytest.mark.parametrize("etag", [SHA256, f'"{SHA256}"', f'"{SHA256.upper()}"', '"0123-7"', ""])
def test_a_redirect_may_state_the_right_checksum_or_none(hub: Hub, etag: str) -> None:
    """As Hugging Face's does, also over a second redirect; the storage behind it has an ``ETag`` of another kind."""
    hub.redirects = {"/moved": ("/model.safetensors", {}), "/model.safetensors": ("/blob", {"X-Linked-ETag": etag})}
    hub.files["/blob"] = DATA
    assert download(f"{hub.url}/moved").sha256 == SHA256


def test_a_redirect_that_states_another_checksum_is_an_error(hub: Hub) -> None:
    hub.redirects["/model.safetensors"] = ("/blob", {"X-Linked-ETag": f'"{"0" * 64}"'})
    hub.files["/blob"] = DATA
    with pytest.raises(NasError, match=SHA256):
        download(f"{hub.url}/model.safetensors")
    assert kept() == []


@pytest.mark.parametrize("path", [NAMED, "/model.safetensors"])
def test_a_file_that_changed_in_the_cache_is_downloaded_again(hub: Hub, path: str) -> None:
    hub.files[path] = DATA
    file = download(hub.url + path).path
    file.write_bytes(DATA[:-1])
    assert download(hub.url + path).path.read_bytes() == DATA
    assert hub.visits == [path, path]


def test_a_file_of_an_earlier_version_has_no_record_and_is_used(hub: Hub) -> None:
    hub.files["/model.safetensors"] = DATA
    file = download(f"{hub.url}/model.safetensors").path
    file.with_name(f"{file.name}.sha256").unlink()
    assert download(f"{hub.url}/model.safetensors").path == file
    assert len(hub.visits) == 1


def test_without_a_server_it_is_one_line_that_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NasError, match="give a file") as caught:
        download((tmp_path / "absent-00000000.pth").as_uri())
    assert "\n" not in str(caught.value)


def test_local_addresses_are_checked_alike(hub: Hub, tmp_path: Path) -> None:
    for name, right in ((f"net-{SHA256[:8]}.pth", True), ("net-00000000.pth", False)):
        (tmp_path / name).write_bytes(DATA)
        if right:
            assert sha256_of(download((tmp_path / name).as_uri()).path) == SHA256
        else:
            with pytest.raises(NasError, match=SHA256):
                download((tmp_path / name).as_uri())
