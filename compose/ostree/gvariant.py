"""GVariant serialisation (GLib's GVariant specification), as far as OSTree needs it.

Little-endian, as on every host that OSTree runs on; numbers that OSTree stores big-endian are swapped with be32() or be64()
before they are encoded, and after they are decoded. Types are given as type strings. Their values in Python are:

    b  bool     y, n, q, i, u, x, t  int     d  float     s  str     v  Variant
    ay  bytes   other arrays  sequence (decoded: list)    (...), {...}  tuple
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_FIXED = {"b": 1, "y": 1, "n": 2, "q": 2, "i": 4, "u": 4, "x": 8, "t": 8, "d": 8}
# more types than one repository uses; a malicious one can use any number
_TYPES = 256
_DEEPEST = 128
"""Levels of nested containers, as GLib's G_VARIANT_MAX_RECURSION_DEPTH. Without a limit decode() would accept more than
encode() can write again."""
_LONGEST = 1024
"""Characters of a variant's type. GLib has no limit, but to take a type apart costs time and memory by its length squared."""
_Decoder = Callable[[memoryview, int], Any]
"""Decodes a value that has at most so many levels of nested containers."""
_FORMAT = {"y": "<B", "n": "<h", "q": "<H", "i": "<i", "u": "<I", "x": "<q", "t": "<Q", "d": "<d"}


@dataclass(frozen=True, slots=True)
class Variant:
    """The content of a v: a value and its type string."""

    type: str
    value: Any


def be32(number: int) -> int:
    """Swap the bytes of a u."""
    return int.from_bytes(number.to_bytes(4, "big"), "little")


def be64(number: int) -> int:
    """Swap the bytes of a t."""
    return int.from_bytes(number.to_bytes(8, "big"), "little")


def be64_signed(number: int) -> int:
    """Swap the bytes of an x."""
    return int.from_bytes(number.to_bytes(8, "big", signed=True), "little", signed=True)


def be_double(number: float) -> float:
    """Swap the bytes of a d."""
    return float(struct.unpack("<d", struct.pack(">d", number))[0])


def frame(body: bytes, ends: Sequence[int]) -> bytes:
    """Append framing offsets to the members of a container. Their width depends on the size of the result. ends: the offsets,
    in the order in which they are stored."""
    if not ends:
        return body
    size, count = len(body), len(ends)
    if count == 1 and size < 255:
        return body + ends[0].to_bytes()
    for width, code in ((1, "B"), (2, "H"), (4, "I")):
        if size + width * count < 1 << (8 * width):
            return body + struct.pack(f"<{count}{code}", *ends)
    return body + struct.pack(f"<{count}Q", *ends)


def encode(signature: str, value: Any) -> bytes:
    """Serialise a value. signature: one complete type. Raises ValueError for a type that is not supported, and for a value that
    it cannot hold."""
    try:
        data, rest = _encode(signature, value)
    except (struct.error, IndexError) as error:
        raise ValueError(f"not a value of type {signature!r}: {error}") from error
    except RecursionError:
        raise _too_deep() from None
    if rest:
        raise ValueError(f"{signature!r} is more than one type")
    return data


def _encode(signature: str, value: Any) -> tuple[bytes, str]:
    """Serialise a value of the first type of a signature, and return the rest of the signature too."""
    code, rest = signature[0], signature[1:]
    if code == "b":
        return (b"\1" if value else b"\0"), rest
    if code in _FORMAT:
        return struct.pack(_FORMAT[code], value), rest
    if code == "s":
        text: bytes = value.encode()
        if b"\0" in text:
            raise ValueError("a string must not hold NUL")
        return text + b"\0", rest
    if code == "v":
        return encode(value.type, value.value) + b"\0" + value.type.encode(), rest
    if code == "a":
        element, rest = split_type(rest)
        return (bytes(value) if element == "y" else _encode_array(element, value)), rest
    if code in "({":
        whole, rest = split_type(signature)
        return _encode_tuple(members(whole), value), rest
    raise ValueError(f"unknown type {signature!r}")


def _encode_array(element: str, values: Sequence[Any]) -> bytes:
    out = bytearray()
    ends: list[int] = []
    align = alignment(element)
    for value in values:
        out += bytes(-len(out) % align) + encode(element, value)
        ends.append(len(out))
    return bytes(out) if fixed_size(element) else frame(bytes(out), ends)


def _encode_tuple(types: Sequence[str], values: Sequence[Any]) -> bytes:
    if len(types) != len(values):
        raise ValueError(f"{len(values)} values for ({''.join(types)})")
    out = bytearray()
    ends: list[int] = []
    for index, (each, value) in enumerate(zip(types, values, strict=True)):
        out += bytes(-len(out) % alignment(each)) + encode(each, value)
        if not fixed_size(each) and index < len(types) - 1:
            ends.append(len(out))
    if all(fixed_size(each) for each in types):
        out += bytes(-len(out) % max((alignment(each) for each in types), default=1))
        return bytes(out) or b"\0"
    # the end of the first variable-size member is the last offset
    return frame(bytes(out), ends[::-1])


def split_type(signature: str) -> tuple[str, str]:
    """Split a type string into its first complete type and the rest. Raises ValueError, and IndexError if it is incomplete."""
    if signature[0] == "a":
        first, rest = split_type(signature[1:])
        return "a" + first, rest
    if signature[0] not in "({":
        return signature[0], signature[1:]
    depth = 0
    for index, code in enumerate(signature):
        depth += (code in "({") - (code in ")}")
        if not depth:
            return signature[: index + 1], signature[index + 1 :]
    raise ValueError(f"unbalanced type {signature!r}")


@lru_cache(_TYPES)
def members(signature: str) -> tuple[str, ...]:
    """Types of the members of a tuple or dictionary entry."""
    found: list[str] = []
    rest = signature[1:-1]
    while rest:
        first, rest = split_type(rest)
        found.append(first)
    return tuple(found)


@lru_cache(_TYPES)
def alignment(signature: str) -> int:
    """Alignment of a type in bytes."""
    code = signature[0]
    if code == "v":
        return 8
    if code == "a":
        return alignment(signature[1:])
    if code in "({":
        return max((alignment(each) for each in members(signature)), default=1)
    return _FIXED.get(code, 1)


@lru_cache(_TYPES)
def fixed_size(signature: str) -> int:
    """Size of a fixed-size type in bytes, 0 for one of variable size."""
    code = signature[0]
    if code in "({":
        total = 0
        for each in members(signature):
            if not (size := fixed_size(each)):
                return 0
            total += -total % alignment(each) + size
        return total + -total % alignment(signature) or 1
    return _FIXED.get(code, 0)


def decode(signature: str, data: bytes) -> Any:
    """Read a value, which encode() can write again. Raises ValueError for damaged data; alignment bytes and the width of
    offsets are not checked."""
    with _damage(signature):
        return _decoder(signature)(memoryview(data), _DEEPEST)


def decode_entries(data: bytes, keys: Container[str]) -> list[tuple[str, Variant]]:
    """The entries of an a{sv} with these keys, in the order of the data. Other values are not decoded. Raises ValueError for
    damage, except within those."""
    found: list[tuple[str, Variant]] = []
    with _damage("a{sv}"):
        for entry in _elements(memoryview(data), alignment("{sv}")) if data else ():
            last = len(entry) - _offset_width(len(entry))
            end = int.from_bytes(_slice(entry, last, len(entry)), "little")
            key = _decode_text(_slice(entry, 0, end), 0)
            if key in keys:
                found.append((key, _decode_variant(_slice(entry, end + -end % alignment("v"), last), _DEEPEST - 2)))
    return found


@contextmanager
def _damage(signature: str) -> Iterator[None]:
    try:
        yield
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"damaged value of type {signature}: {error}") from error
    except RecursionError:
        # a type string can be any length
        raise _too_deep() from None


def _too_deep() -> ValueError:
    return ValueError("a value is nested too deeply")


@lru_cache(_TYPES)
def _decoder(signature: str) -> _Decoder:
    """Return a function that decodes values of a type. What depends only on the type is computed once."""
    code = signature[0]
    if split_type(signature)[1]:
        raise ValueError(f"{signature!r} is more than one type")
    if code == "b":
        return lambda data, _: data[0] != 0
    if code in _FORMAT:
        unpack = struct.Struct(_FORMAT[code]).unpack
        return lambda data, _: unpack(data)[0]
    if code == "s":
        return _decode_text
    if code == "v":
        return _decode_variant
    if code == "a":
        return (lambda data, _: bytes(data)) if signature[1:] == "y" else _array_decoder(signature[1:])
    if code in "({":
        return _tuple_decoder(members(signature))
    raise ValueError(f"unknown type {signature!r}")


def _decode_text(data: memoryview, _: int) -> str:
    text = str(data, "utf-8")
    if text.find("\0") != len(text) - 1 or not text:
        raise ValueError("a string must end with its only NUL")
    return text[:-1]


def _decode_variant(data: memoryview, levels: int) -> Variant:
    if not levels:
        raise _too_deep()
    # not all of it: variants can be in variants, and each would copy what is in it
    tail = bytes(data[-_LONGEST - 1 :])
    content, nul, kind = tail.rpartition(b"\0")
    if not nul:
        raise ValueError(f"a variant has no type, or one of more than {_LONGEST} characters")
    signature = kind.decode()
    return Variant(signature, _decoder(signature)(data[: len(data) - len(tail) + len(content)], levels - 1))


def _offset_width(size: int) -> int:
    return 1 if size < 1 << 8 else 2 if size < 1 << 16 else 4 if size < 1 << 32 else 8


def _slice(data: memoryview, begin: int, end: int) -> memoryview:
    if not 0 <= begin <= end <= len(data):
        raise ValueError("a framing offset is out of range")
    return data[begin:end]


def _array_decoder(element: str) -> _Decoder:
    size, align = fixed_size(element), alignment(element)

    def decode_array(data: memoryview, levels: int) -> list[Any]:
        if not levels:
            raise _too_deep()
        if not len(data):
            return []
        decode = _decoder(element)
        if size:
            if len(data) % size:
                raise ValueError("the last element of an array is truncated")
            return [decode(data[at : at + size], levels - 1) for at in range(0, len(data), size)]
        return [decode(each, levels - 1) for each in _elements(data, align)]

    return decode_array


def _elements(data: memoryview, align: int) -> Iterator[memoryview]:
    """Split an array, which is not empty and whose elements are of variable size."""
    width = _offset_width(len(data))
    last = int.from_bytes(data[len(data) - width :], "little")
    if last > len(data) or (len(data) - last) % width:
        raise ValueError("a framing offset is out of range")
    begin = 0
    for at in range(last, len(data), width):
        end = int.from_bytes(data[at : at + width], "little")
        begin += -begin % align
        yield _slice(data, begin, end)
        begin = end


def _tuple_decoder(types: Sequence[str]) -> _Decoder:
    plan = [(alignment(each), fixed_size(each), _decoder(each)) for each in types]
    last = len(types) - 1

    def decode_tuple(data: memoryview, levels: int) -> tuple[Any, ...]:
        if not levels:
            raise _too_deep()
        at = len(data)
        width = _offset_width(at)
        begin = 0
        values: list[Any] = []
        for index, (align, size, decode) in enumerate(plan):
            begin += -begin % align
            if size:
                end = begin + size
            elif index == last:
                end = at
            else:
                at -= width
                end = int.from_bytes(_slice(data, at, at + width), "little")
            values.append(decode(_slice(data, begin, end), levels - 1))
            begin = end
        return tuple(values)

    return decode_tuple
