"""Reads a .tsr file and prints what it holds as JSON.

It shares nothing with the Rust reader: all that it knows is in docs/format.md, so that a test can tell whether that
page is enough to write another decoder. It takes whole and repaired files only: anything wrong is an error. Standard
library only.
"""

import json
import struct
import sys
import zlib
from math import ceil


class Broken(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Broken(what)


def ceil_div(a, b):
    return -(-a // b)


def read_header(data):
    check(data[:8] == b"\x89TSR\r\n\x1a\n", "signature")
    version, length = struct.unpack_from(">HH", data, 8)
    check(16 <= length <= 1024 and len(data) >= length, "header length")
    (crc,) = struct.unpack_from(">I", data, length - 4)
    check(zlib.crc32(data[: length - 4]) == crc, "header checksum")
    check(version == 1, "version")
    names = (
        "source_rate channels samples codec_rate hop pre_skip kind flags steps_per_chunk warm_up_steps levels"
    ).split()
    header = dict(zip(names, struct.unpack_from(">IHQIIIBBBHB", data, 28)))
    check(header["kind"] == 0 and header["flags"] == 0, "payload kind or flags")
    header["model_id"] = data[12:28].hex()
    n = header["levels"]
    check(length == 64 + 4 * n, "header length")
    pairs = [struct.unpack_from(">HH", data, 60 + 4 * i) for i in range(n)]
    header["strides"] = [stride for stride, _ in pairs]
    header["codebook_sizes"] = [size + 1 for _, size in pairs]
    if header["samples"] == 2**64 - 1:
        header["samples"] = None
    header["length"], header["crc"] = length, data[length - 4 : length]
    return header


def bits_of(size):
    return (size - 1).bit_length()


def steps_of(header, samples):
    if samples == 0:
        return 0
    codec_samples = ceil_div(samples * header["codec_rate"], header["source_rate"])
    return ceil_div(codec_samples + header["pre_skip"], header["hop"] * header["strides"][0])


def varint(data, at):
    value = 0
    for i in range(5):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            check(value < 2**32, "varint")
            return value, at
    raise Broken("varint")


def read_end(data, header):
    """The samples and the sizes of the chunks, 0 for those that are lost."""
    check(data[-4:] == b"TSRE", "end mark")
    t = len(data) - 24
    samples, chunks, length, crc = struct.unpack_from(">QIII", data, t)
    start = len(data) - length
    check(24 + 2 <= length <= 2**20 and start >= header["length"], "index length")
    check(zlib.crc32(header["crc"] + data[start : t + 16]) == crc, "index checksum")
    check(data[start : start + 2] == b"\xf5\x3a", "index sync word")
    sizes, at = [], start + 2
    while at < t:
        entry, at = varint(data, at)
        count = 1
        if entry & 1:
            count, at = varint(data, at)
        check(1 <= count <= chunks - len(sizes), "index entry")
        sizes += [entry >> 1] * count
    check(at == t and len(sizes) == chunks, "index entries")
    check(header["samples"] in (None, samples), "sample count")
    check(ceil_div(steps_of(header, samples), header["steps_per_chunk"]) == chunks, "chunk count")
    return samples, sizes, start


def read_chunk(data, header, at, number, steps):
    """The codes of a chunk, by channel and level, and where it ends."""
    check(data[at : at + 2] == b"\xf5\xc3", "sync word")
    found, n, p = int.from_bytes(data[at + 2 : at + 5], "big"), data[at + 5], *struct.unpack_from(">H", data, at + 6)
    check((found, n) == (number, steps), "chunk number or steps")
    (crc,) = struct.unpack_from(">I", data, at + 8 + p)
    check(zlib.crc32(data[at + 2 : at + 8 + p]) == crc, "chunk checksum")
    payload, position = int.from_bytes(data[at + 8 : at + 8 + p], "big"), 8 * p
    used = 0
    channels = []
    for _ in range(header["channels"]):
        levels = []
        for stride, size in zip(header["strides"], header["codebook_sizes"]):
            bits, codes = bits_of(size), []
            for _ in range(steps * header["strides"][0] // stride):
                position -= bits
                used += bits
                code = payload >> position & ((1 << bits) - 1) if position >= 0 else size
                check(code < size, "code")
                codes.append(code)
            levels.append(codes)
        channels.append(levels)
    check(p == ceil(used / 8), "payload length")
    return channels, at + 12 + p


def read(data):
    header = read_header(data)
    samples, sizes, end = read_end(data, header)
    left, at, chunks = steps_of(header, samples), header["length"], []
    for number, size in enumerate(sizes):
        steps = min(left, header["steps_per_chunk"])
        left -= steps
        if size == 0:
            chunks.append(None)
            continue
        codes, after = read_chunk(data, header, at, number, steps)
        check(after - at == size, "chunk size in the index")
        at = after
        chunks.append(codes)
    check(at == end, "bytes between the last chunk and the index")
    del header["length"], header["crc"], header["kind"], header["flags"], header["levels"]
    header["samples"] = samples
    return {"header": header, "chunks": chunks}


def main():
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    try:
        json.dump(read(data), sys.stdout)
    except (Broken, IndexError, struct.error) as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
