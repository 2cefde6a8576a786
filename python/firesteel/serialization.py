"""Saving and loading of models and training states as safetensors files.

A file holds the tensors under dotted names (``model.0.weight`` for ``{"model": {"0.weight": ...}}``), so
that a plain state dict keeps PyTorch's names and any safetensors reader opens it. What is not a tensor, and
the order and nesting of everything, stands as JSON in the file's metadata. Loading runs no code from files.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import secrets
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from firesteel import _core
from firesteel._core import Tensor

_STRUCTURE = "firesteel.structure"
# Python refuses to read longer ints back (4,300 digits), and to nest calls much deeper.
_LONGEST_INT = 14_000
_DEEPEST = 200
# The name that the format reserves for its metadata.
_RESERVED = "__metadata__"
# How torch.save's files begin, today's (zip) and those before PyTorch 1.6 (a pickled magic number).
_PICKLED = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19")


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes]) -> None:
    """Saves tensors, numbers and text in dicts, lists and tuples.

    A path is written whole or not at all: the data go to a temporary file beside it, which takes its place
    and its mode once it is safely on disk. Links are followed; pipes and devices are written to directly.

    Args:
        obj: usually a state dict or ``{"model": ..., "optimizer": ..., "epoch": 3}``. Dict keys are
            strings or ints; values are tensors, None, bools, ints, floats, strings, NumPy scalars (saved as
            Python's numbers), or further dicts, lists and tuples. Tensors are saved without their history;
            those that require a gradient, a `Parameter` among them, come back as tensors that do.
        f: a path, or a file object opened for writing bytes.

    Raises:
        TypeError: if the object holds anything else; the message names where.
        ValueError: if it is nested too deeply, as an object that contains itself is.
        OSError: if the file cannot be written; a regular file that was there before is kept.

    Example:
        >>> import io, firesteel
        >>> file = io.BytesIO()
        >>> save({"weight": firesteel.ones(2), "epoch": 3}, file)
        >>> _ = file.seek(0)
        >>> load(file)
        {'weight': tensor([1., 1.]), 'epoch': 3}
    """
    tensors: dict[str, Tensor] = {}
    structure = _encode(obj, (), tensors)
    metadata = {"format": "pt", _STRUCTURE: json.dumps(structure, separators=(",", ":"))}
    data = _core._safetensors_serialize(tensors, metadata)
    if isinstance(f, str | os.PathLike):
        _write_path(Path(os.path.realpath(f)), data)
    else:
        _write_all(f, data)


def load(
    f: str | os.PathLike[str] | IO[bytes], map_location: Any = None, *, weights_only: bool | None = None
) -> Any:
    """Loads what :func:`save` wrote, or the tensors of any other safetensors file as a flat dict.

    Args:
        f: a path, or a file object opened for reading bytes.
        map_location: accepted for compatibility; all tensors are on the CPU.
        weights_only: accepted for compatibility; files hold data only, never code.

    Raises:
        FileNotFoundError: if there is no such file.
        RuntimeError: if the file is damaged or of another kind; the message names it.

    Example:
        >>> checkpoint = load("runs/digits/model.safetensors")  # doctest: +SKIP
        >>> model.load_state_dict(checkpoint["model"])  # doctest: +SKIP
    """
    if isinstance(f, str | os.PathLike):
        name, data = os.fspath(f), Path(f).read_bytes()
    else:
        name, data = str(getattr(f, "name", type(f).__name__)), f.read()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"load: {name} gives {type(data).__name__}, not bytes; open it with mode 'rb'")
        data = bytes(data)
    if data.startswith(_PICKLED):
        raise RuntimeError(
            f"load: {name} is a pickled PyTorch file, and unpickling runs whatever code it holds; "
            "open it with PyTorch and save its state dict with safetensors"
        )
    try:
        tensors, metadata = _core._safetensors_deserialize(data)
        if _STRUCTURE not in metadata:
            return tensors
        return _decode(json.loads(metadata[_STRUCTURE]), tensors)
    except MemoryError:
        raise
    except Exception as error:
        raise RuntimeError(
            f"load: {name} ({len(data)} bytes) is not a safetensors file or is damaged: {error}"
        ) from error


def _encode(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    """Turns a value into JSON, moving its tensors into ``tensors``.

    Plain JSON values and lists stand for themselves; everything else is an object with one key that says
    what it is. Dicts become lists of pairs, which keeps their order and their integer keys.
    """
    if len(path) > _DEEPEST:
        raise ValueError(
            f"save: {_place(path[:4])}... is nested more than {_DEEPEST} levels deep; does it contain itself?"
        )
    value = _plain(value)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > _LONGEST_INT:
        raise TypeError(
            f"save: {_place(path)} is an int of {value.bit_length()} bits; "
            f"at most {_LONGEST_INT} can be saved"
        )
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Tensor):
        name = _free_name(_encodable(".".join(path)) or "tensor", tensors)
        tensors[name] = value.detach().contiguous()
        return {"tensor requiring grad" if value.requires_grad else "tensor": name}
    if isinstance(value, Mapping):
        return {
            "dict": [[_key(key, path), _encode(v, (*path, str(key)), tensors)] for key, v in value.items()]
        }
    if isinstance(value, list | tuple):
        items = [_encode(item, (*path, str(i)), tensors) for i, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    raise TypeError(
        f"save: {_place(path)} is a {type(value).__name__}; only tensors, numbers, strings, None and "
        "dicts, lists and tuples of those can be saved"
    )


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's number or text; everything else as it is."""
    numpy = sys.modules.get("numpy")  # without NumPy there are no scalars of it
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def _encodable(name: str) -> str:
    """A tensor's name in the file, without what UTF-8 cannot hold; the structure keeps the real keys."""
    return name.encode(errors="replace").decode()


def _key(key: Any, path: tuple[str, ...]) -> str | int:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"save: {_place(path)} has the key {key!r}; keys must be strings or ints")
    return key


def _place(path: tuple[str, ...]) -> str:
    return f"{'.'.join(path)!r}" if path else "the object"


def _free_name(name: str, tensors: dict[str, Tensor]) -> str:
    """Numbers a name that is taken, as when ``{"a": {"b": x}, "a.b": y}`` asks for ``a.b`` twice."""
    candidate, number = name, 1
    while candidate in tensors or candidate == _RESERVED:
        number += 1
        candidate = f"{name}#{number}"
    return candidate


def _decode(structure: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(structure, list):
        return [_decode(item, tensors) for item in structure]
    if not isinstance(structure, dict):
        return structure
    ((kind, content),) = structure.items()
    if kind == "tensor":
        if content not in tensors:
            raise ValueError(f"its structure names the tensor {content!r}, which is missing")
        return tensors[content]
    if kind == "tensor requiring grad":
        return _decode({"tensor": content}, tensors).requires_grad_()
    if kind == "dict":
        return {key: _decode(value, tensors) for key, value in content}
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    if kind == "float":
        return float(content)
    raise ValueError(f"its structure has the unknown entry {kind!r}")


def _write_all(file: IO[bytes], data: bytes) -> None:
    """Writes everything; a file without a buffer may take a part at a time."""
    rest = memoryview(data)
    while rest:
        written = file.write(rest)
        if not isinstance(written, int):
            if written is None and isinstance(file, io.RawIOBase):
                raise BlockingIOError("save: the file takes nothing now; open it in blocking mode")
            return  # a writer that does not count takes all
        if not 0 < written <= len(rest):
            raise OSError(f"save: the file took {written} of {len(rest)} bytes")
        rest = rest[written:]


def _write_path(path: Path, data: bytes) -> None:
    try:
        old = path.stat()
    except FileNotFoundError:
        _write_atomically(path, data, None)
        return
    if stat.S_ISREG(old.st_mode):
        _write_atomically(path, data, stat.S_IMODE(old.st_mode))
        return
    with path.open("wb") as file:  # a pipe or a device is not replaced; a directory is an error
        file.write(data)


def _write_atomically(path: Path, data: bytes, mode: int | None) -> None:
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, FileNotFoundError):  # it names the temporary file
            text = "save: there is no such folder; create it first"
            raise FileNotFoundError(error.errno, text, str(path)) from None
        raise
    with contextlib.suppress(OSError):  # the file is written; not every directory can be synchronised
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    """Makes a rename survive a power cut; systems that cannot open directories do without."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
