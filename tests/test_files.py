"""Files are written completely or not at all, whatever goes wrong."""

import errno
import fcntl
import io
import os
import stat
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from ntkbias.errors import InputError
from ntkbias.files import StorageError, Unreadable, read_arrays, read_bytes, read_json, write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folder_are_made_and_on_the_disk(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino) or fsync(file))
    path = tmp_path / "folder" / "a.txt"
    write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["a.txt"]
    assert synced == [place.stat().st_ino for place in (tmp_path, path, path.parent)]


def full_disk(file):
    file.write(b"ne")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write(path, lambda file: file.write(b"old"))
    message = "Expected to write .*a.txt; got: No space left on device. Make room on that disk, and repeat the call"
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
    with pytest.raises(StorageError, match="file/a.txt; got: .*. Choose a folder that can be written, and repeat"):
        write(tmp_path / "file" / "a.txt", lambda file: None)


def test_a_file_system_that_cannot_sync_a_folder_is_no_failure(tmp_path, monkeypatch):
    fsync, numbers = os.fsync, [None, errno.EINVAL, None, errno.EIO]  # file and folder, twice

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


def test_no_symbolic_link_is_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    for number in range(100):  # possible names of the next temporary files
        (tmp_path / f".a.{os.getpid()}.{number}.part").symlink_to(tmp_path / "victim")
    write(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "victim").read_text() == "precious"
    assert stat.S_ISREG((tmp_path / "a").lstat().st_mode)
    assert (tmp_path / "a").read_bytes() == b"new"


def test_leftovers_of_killed_processes_are_removed_and_files_of_living_ones_are_not(tmp_path):
    program = f"""
import os, pathlib, signal
from ntkbias.files import write
def fill(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write(pathlib.Path({str(tmp_path / "a")!r}), fill)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=300)
    (left,) = tmp_path.iterdir()
    assert left.read_bytes() == b"half"
    (tmp_path / ".a.theirs.part").write_text("not ours")
    with open(tmp_path / ".a.1.2.part", "wb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        write(tmp_path / "a", lambda file: file.write(b"new"))
        assert names(tmp_path) == [".a.1.2.part", ".a.theirs.part", "a"]
    write(tmp_path / "a", lambda file: file.write(b"new"))
    assert names(tmp_path) == [".a.theirs.part", "a"]


# Reading: each array complete, or one sentence about the problem.


def archive(path, compression=zipfile.ZIP_STORED, **contents):
    with zipfile.ZipFile(path, "w", compression) as made:
        for name, content in contents.items():
            made.writestr(f"{name}.npy", content)


def npy(array, claimed=None, allow_pickle=False):
    """The bytes of an array. Its header may claim another shape."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    content = file.getvalue()
    if claimed is not None:
        written = repr(array.shape).encode()
        content = content.replace(
            written + b", }" + b" " * (len(repr(claimed)) - len(written)), repr(claimed).encode() + b", }", 1
        )
    return content


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i8", "|b1", "<c8", "<U3", "|u1", "<f2"])
def test_arrays_are_read_as_numpy_reads_them(tmp_path, kind, order):
    for shape in ((), (3,), (2, 3), (0, 4), (2, 1, 3)):
        array = np.asarray(np.arange(int(np.prod(shape))).reshape(shape).astype(kind), order=order)
        write(tmp_path / "a.npz", lambda file, array=array: np.savez_compressed(file, x=array, other=np.zeros(9)))
        found = read_arrays(tmp_path / "a.npz", "arrays", ["x", "none"], most=1000)
        assert list(found) == ["x"]
        assert found["x"].dtype == np.dtype(kind).newbyteorder("=")
        np.testing.assert_array_equal(found["x"], array)
        assert found["x"].flags.writeable


def bomb(path):
    archive(path, zipfile.ZIP_DEFLATED, x=npy(np.zeros(10**6)))


def flipped(path, at):
    np.savez(path, x=np.arange(100))
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


def encrypted(path):
    np.savez(path, x=np.arange(100))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)


def unknown_compression(path):
    np.savez(path, x=np.arange(100))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = 97
    path.write_bytes(content)


def doubled(path):
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("x.npy", npy(np.ones(3)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            made.writestr("x.npy", npy(np.zeros(3)))


DAMAGES = {
    "nothing": (lambda path: None, "there is no such file"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "text": (lambda path: path.write_text("a,b"), "it is a text file that begins with 'a,b'"),
    "one array": (lambda path: path.write_bytes(npy(np.ones(3))), "it is one array, as numpy.save writes it"),
    "folder": (lambda path: path.mkdir(), "it is a folder"),
    "pipe": (os.mkfifo, "it is a pipe"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
    "loop": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "bomb": (bomb, "one of its arrays would unpack to 8,000,000 bytes; at most .* are expected"),
    "claims": (
        lambda path: archive(path, x=npy(np.ones(3), (10**15,))),
        "one of its arrays would unpack to 8,000,000,000,000,000 bytes",
    ),
    "short": (lambda path: archive(path, x=npy(np.ones(300), (299,))), "it has 2,400 bytes for an array of 2,392"),
    "negative": (lambda path: archive(path, x=npy(np.ones(3), (-3,))), r"it has an array of shape \(-3,\)"),
    "objects": (
        lambda path: archive(path, x=npy(np.array([None]), allow_pickle=True)),
        "x.npy is an array of Python objects",
    ),
    "structures": (lambda path: np.savez(path, x=np.zeros(2, "i4,f4")), "it has an array of shape"),
    "no array": (lambda path: archive(path, x=b"no array"), "the magic string is not correct"),
    "version": (lambda path: archive(path, x=b"\x93NUMPY\x07\x00"), "it has an array in version"),
    "flipped": (lambda path: flipped(path, 300), "Bad CRC-32"),
    "directory": (lambda path: flipped(path, -6), "Bad magic number for file header"),
    "encrypted": (encrypted, "it is encrypted"),
    "compression": (unknown_compression, "That compression method is not supported"),
    "two of a name": (doubled, "it has two arrays with the name x"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_archives_are_named(tmp_path, name):
    damage, reason = DAMAGES[name]
    damage(tmp_path / "a.npz")
    with pytest.raises(
        Unreadable, match=rf"^Expected .*a.npz to be arrays; (it cannot be read: )?{reason}.*\.$"
    ) as caught:
        read_arrays(tmp_path / "a.npz", "arrays")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.missing == (name == "nothing")


def test_a_file_with_another_digest_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(Unreadable, match="it was damaged or replaced after it was written"):
        read_arrays(tmp_path / "a.npz", "arrays", digest="0" * 64)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"{", "it is not JSON .Expecting"),
        (b"\xff\xfe\xff", "it is not JSON"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a":' * 100_000, "it is nested too deeply"),
        (b"1" * 100_000, "it is not JSON .Exceeds the limit"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(Unreadable, match=f"^Expected .*a.json to be a description; it cannot be read: {reason}"):
        read_json(tmp_path / "a.json", "a description")


def test_a_large_text_is_not_read(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(Unreadable, match="it has 1,099,511,627,776 bytes; such a file may have at most 268,435,456"):
        read_bytes(tmp_path / "a.json", "a description")
