"""Files that are replaced completely or not at all."""

import os

import pytest

from sentenc.io.atomic import replacing_file


def test_the_file_to_which_a_link_points_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "vectors", tmp_path / "link"
    for target_exists in (False, True):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert target.exists() is target_exists
        with replacing_file(link) as temporary:
            # On the disk of the target, so that the last step is atomic.
            assert temporary.parent == target.parent
            temporary.write_text(f"new {target_exists}")
        assert link.is_symlink()
        assert target.read_text() == f"new {target_exists}"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "link", "vectors"]


@pytest.mark.parametrize("kind", ["a folder", "a device or pipe"])
def test_a_folder_and_a_device_are_refused_before_anything_is_written(tmp_path, kind):
    path, link = tmp_path / "output", tmp_path / "link"
    if kind == "a folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    link.symlink_to(path)
    for each in (path, link):
        with pytest.raises(OSError, match=f"{kind}, expected a file") as caught, replacing_file(each):
            pytest.fail("the block runs")
        assert caught.value.filename == str(path)
    assert not path.is_file()
    assert {entry.name for entry in os.scandir(tmp_path)} == {"output", "link"}
