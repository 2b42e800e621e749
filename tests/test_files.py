"""Files: whole or not at all, whatever goes wrong."""

import errno
import os
import threading

import pytest

from ntkbias.errors import InputError
from ntkbias.files import StorageError, write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folder_are_made_and_on_the_disk(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino) or fsync(file))
    path = tmp_path / "folder" / "a.txt"
    write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.txt"]
    assert synced == [path.stat().st_ino, path.parent.stat().st_ino]


def full_disk(file):
    file.write(b"ne")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write(path, lambda file: file.write(b"old"))
    message = "Expected to write .*a.txt; got: No space left on device. Make room on that disk, and make the same call"
    with pytest.raises(StorageError, match=message) as caught:
        write(path, full_disk)
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_other_failures_pass_and_leave_nothing(tmp_path, failure):
    def fill(file):
        file.write(b"ne")
        raise failure

    with pytest.raises(failure):
        write(tmp_path / "a.txt", fill)
    assert names(tmp_path) == []


def test_a_folder_in_which_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/a.txt; got: .*. Choose a folder that can be written, and make the"):
        write(tmp_path / "file" / "a.txt", lambda file: None)


def test_a_file_system_that_cannot_sync_a_folder_is_no_failure(tmp_path, monkeypatch):
    fsync, numbers = os.fsync, [None, errno.EINVAL, None, errno.EIO]

    def failing(file):
        number = numbers.pop(0)
        if number is not None:
            raise OSError(number, os.strerror(number))
        fsync(file)

    monkeypatch.setattr(os, "fsync", failing)
    write(tmp_path / "a.txt", lambda file: file.write(b"new"))
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    with pytest.raises(StorageError, match="got: Input/output error"):  # a folder on a disk that fails
        write(tmp_path / "a.txt", lambda file: file.write(b"newer"))


def test_threads_that_write_one_file_leave_one_of_theirs(tmp_path):
    contents = [bytes([letter]) * 100_000 for letter in b"abcd"]
    threads = [threading.Thread(target=write, args=(tmp_path / "a", lambda f, c=c: f.write(c))) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() in contents
    assert names(tmp_path) == ["a"]
