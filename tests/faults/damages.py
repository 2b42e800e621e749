"""Damages to a file. Each is a function of the file's path; `other` is the same file from another save.

A reader of a damaged file must return the right value, or say in one sentence what is wrong. It must never return
another value, raise another error, or hang.
"""

import gzip
import io
import json
import os
import random
import re
import socket
import warnings
import zipfile

import numpy as np


def remade(path, change):
    path.write_bytes(change(path.read_bytes()))


def flipped(share):
    """Flip one bit at this share of the file's length."""

    def damage(path, other):
        content = bytearray(path.read_bytes())
        index = min(int(share * len(content)), len(content) - 1)
        content[index] ^= 1 << (index % 8)
        path.write_bytes(content)

    return damage


def instead(make):
    """Put something else under the name."""

    def damage(path, other):
        path.unlink()
        make(path)

    return damage


def bound(path):
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def sparse(path, other):
    os.truncate(path, 2**40)


def content(data):
    return lambda path, other: path.write_bytes(data)


def values(change):
    """Change each value in a JSON file. Other files stay."""

    def within(value):
        if isinstance(value, dict):
            return change({key: within(item) for key, item in value.items()})
        return change([within(item) for item in value] if isinstance(value, list) else value)

    def damage(path, other):
        if path.suffix == ".json":
            path.write_text(json.dumps(within(json.loads(path.read_text()))))

    return damage


def number(change):
    return values(lambda v: change(v) if isinstance(v, int | float) and not isinstance(v, bool) else v)


def text(change):
    return values(lambda v: change(v) if isinstance(v, str) else v)


def without(index):
    def change(value):
        if isinstance(value, dict) and value:
            key = list(value)[index]
            return {name: item for name, item in value.items() if name != key}
        return value

    return values(change)


def arrays(change, compression=zipfile.ZIP_STORED):
    """Rewrite an archive with changed arrays and correct checksums. Other files stay."""

    def damage(path, other):
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            with zipfile.ZipFile(path, "w", compression) as archive:
                for name, found in change(members):
                    archive.writestr(name, found)
        if path.suffix == ".npy":
            path.write_bytes(next(iter(change({"x.npy": path.read_bytes()})), ("", b""))[1])

    return damage


def each(change):
    def changed(data):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return npy(change(np.load(io.BytesIO(data), allow_pickle=False)))

    return arrays(lambda members: [(name, changed(data)) for name, data in members.items()])


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def claiming(shape):
    """Write headers with another shape."""

    def change(members):
        for name, data in members.items():
            length = 10 + int.from_bytes(data[8:10], "little")
            header = re.sub(rb"\([\d, ]*\)", repr(shape).encode(), data[10:length].rstrip())
            yield name, data[:10] + header.ljust(length - 11)[: length - 11] + b"\n" + data[length:]

    return change


def flags(local, central, value):
    """Change a field in the headers of an archive's first entry."""

    def damage(path, other):
        data = bytearray(path.read_bytes())
        if path.suffix == ".npz":
            data[data.index(b"PK\x03\x04") + local] = value
            data[data.index(b"PK\x01\x02") + central] = value
        path.write_bytes(data)

    return damage


def twice(members):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the warning that the name exists already
        for name, data in members.items():
            yield name, data
            yield name, data[:-1] + bytes([data[-1] ^ 1])


DAMAGES = {
    "removed": lambda path, other: path.unlink(),
    "emptied": content(b""),
    "cut to a few bytes": lambda path, other: os.truncate(path, 10),
    "cut in the middle": lambda path, other: os.truncate(path, path.stat().st_size // 2),
    "cut by one byte": lambda path, other: os.truncate(path, path.stat().st_size - 1),
    "cut by thirty bytes": lambda path, other: os.truncate(path, max(0, path.stat().st_size - 30)),
    **{
        f"bit flipped at {share:.0%}": flipped(share)
        for share in (0, 0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1)
    },
    "a sector lost": lambda path, other: remade(path, lambda c: c[: len(c) // 3] + bytes(64) + c[len(c) // 3 + 64 :]),
    "zeros": lambda path, other: remade(path, lambda c: bytes(len(c))),
    "noise": lambda path, other: remade(path, lambda c: random.Random(0).randbytes(len(c))),
    "a byte more": lambda path, other: remade(path, lambda c: c + b"\0"),
    "a byte before": lambda path, other: remade(path, lambda c: b"\n" + c),
    "twice": lambda path, other: remade(path, lambda c: c + c),
    "compressed": lambda path, other: remade(path, gzip.compress),
    "lines ended otherwise": lambda path, other: remade(path, lambda c: c.replace(b"\n", b"\r\n")),
    "bytes swapped": lambda path, other: remade(path, lambda c: c[1::2] + c[::2]),
    "in another encoding": lambda path, other: remade(path, lambda c: c.decode("latin-1").encode("utf-16")),
    "a web page": content(b"<!doctype html><title>404</title>"),
    "without an end": sparse,
    "of another save": lambda path, other: path.write_bytes(other.read_bytes()),
    "a folder": instead(lambda path: path.mkdir()),
    "a pipe": instead(os.mkfifo),
    "a socket": instead(bound),
    "a device": instead(lambda path: path.symlink_to("/dev/zero")),
    "a link to itself": instead(lambda path: path.symlink_to(path.name)),
    "a link to nothing": instead(lambda path: path.symlink_to("nothing")),
    "deep lists": content(b"[" * 10**5),
    "deep objects": content(b'{"a":' * 10**5),
    "null": content(b"null"),
    "a list": content(b"[]"),
    "an object": content(b"{}"),
    "a number": content(b"3"),
    "numbers negative": number(lambda v: -1 - v),
    "numbers one more": number(lambda v: v + 1),
    "numbers large": number(lambda v: 10**30),
    "numbers fractions": number(lambda v: v + 0.5),
    "numbers texts": number(str),
    "numbers none": number(lambda v: None),
    "texts empty": text(lambda v: ""),
    "texts numbers": text(lambda v: 7),
    "texts paths": text(lambda v: "../../" + v),
    "lists empty": values(lambda v: [] if isinstance(v, list) else v),
    "lists turned": values(lambda v: v[::-1] if isinstance(v, list) else v),
    "first entries lost": without(0),
    "last entries lost": without(-1),
    "arrays zero": each(np.zeros_like),
    "arrays longer": each(lambda a: np.concatenate([a.ravel(), a.ravel()])),
    "arrays of no length": each(lambda a: a.ravel()[:0]),
    "arrays objects": each(lambda a: np.array([{"a": 1}], object)),
    "arrays texts": each(lambda a: a.astype(str)),
    "arrays lost": arrays(lambda members: list(members.items())[1:]),
    "arrays twice": arrays(twice),
    "a bomb": arrays(lambda m: [(name, npy(np.zeros(10**6))) for name in m], zipfile.ZIP_DEFLATED),
    "headers large": arrays(claiming((10**14,))),
    "headers negative": arrays(claiming((-4, -4))),
    "headers short": arrays(claiming((1,))),
    "encrypted": flags(6, 8, 1),
    "compressed by no one knows what": flags(8, 10, 97),
}
