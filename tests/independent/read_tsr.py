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
    check(header["kind"] == 0 and header["flags"] in range(5), "payload kind or flags")
    header["lines"] = (0, SLOTS, SLOTS + 1, SLOTS + 1 + BANDS, SLOTS + 1 + BANDS + TRIMS)[header["flags"]]
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


class Bits:
    """The bits of some bytes, the highest first."""

    def __init__(self, data):
        self.value, self.left, self.used = int.from_bytes(data, "big"), 8 * len(data), 0

    def read(self, count):
        check(count <= self.left, "payload length")
        self.left -= count
        self.used += count
        return self.value >> self.left & ((1 << count) - 1)

    def ones(self, most):
        for count in range(most):
            if self.read(1) == 0:
                return count
        return most


SLOTS, PITCHES, LEVELS, BANDS, TRIMS, MOST_TRIMMED = 8, 640, 32, 4, 24, 6
COMB_PITCHES = 144
PITCH_LENGTHS = (8, 7, 6, 6, 5, 5, 4, 1, 4, 5, 6, 6, 7, 7, 8, 4, 3)
STRENGTH_LENGTHS = (1, 8, 10, 10, 5, 5, 7, 9, 4, 5, 5, 6, 5, 4, 3, 4)
FIRST_STRENGTH_LENGTHS = (0, 6, 6, 6, 6, 3, 4, 6, 3, 2, 4, 6, 4, 3, 4, 5)
STAYS = (
    (128, 128, 253, 215, 197),
    (161, 175, 248, 224, 181),
    (64, 136, 223, 167, 182),
    (42, 92, 211, 167, 114),
    (128, 128, 203, 139, 123),
)
AGAINST = (
    (128, 128, 34, 44, 56),
    (233, 245, 216, 184, 133),
    (252, 255, 242, 206, 244),
    (255, 223, 231, 252, 222),
    (128, 128, 21, 29, 48),
)
FURTHER = ((86, 33, 77), (145, 29, 84))


def begin_next(bits, step):
    """The step in which lines begin next, counted from the given one; None if they do not."""
    if bits.read(1) == 0:
        return None
    zeros = 0
    while bits.read(1) == 0:
        zeros += 1
        check(zeros < 8, "gap between lines")
    return step + (1 << zeros + 1 | bits.read(zeros + 1)) - 2


def change(bits, line):
    """What a line is a step later; None when it has ended."""
    pitch, level = line
    ones = bits.ones(5)
    if ones == 2:
        return None
    if ones == 5:
        sign, by = bits.read(1), bits.read(3) + 4
    else:
        by = (0, 1, None, 2, 3)[ones]
        sign = bits.read(1) if by else 0
    check(by <= 10, "pitch change")
    pitch += -by if sign else by
    ones = bits.ones(3)
    if ones == 3:
        by = (-3, 3, -4, None)[bits.read(2)]
        if by is None:
            far = bits.read(3)
            check(far < 7, "level change")
            by = (-7, -6, -5, 4, 5, 6, 7)[far]
    else:
        by = ((0,), (-1, -2), (1, 2))[ones][bits.read(1) if ones else 0]
    level += by
    check(0 <= pitch < PITCHES and 0 <= level < LEVELS, "line")
    return pitch, level


def read_lines(bits, steps):
    """For each step the numbers of all slots."""
    before, out = [None] * SLOTS, []
    begin = begin_next(bits, 0)
    for step in range(steps):
        now = [line and change(bits, line) for line in before]
        if begin == step:
            least, more = 0, 1
            while more:
                slot = bits.read(3)
                check(slot >= least and before[slot] is None, "slot")
                least = slot + 1
                pitch = bits.read(9)
                if pitch >= 384:
                    pitch = (pitch << 1 | bits.read(1)) - 384
                now[slot] = pitch, bits.read(5)
                more = bits.read(1)
            begin = begin_next(bits, step + 1)
        out.append([0 if line is None else 1 + 32 * line[0] + line[1] for line in now])
        before = now
    check(begin is None, "lines beyond the last step")
    return out


def symbol(bits, lengths):
    """A symbol of a canonical prefix code, given by the lengths of its codes."""
    code, first = 0, 0
    for length in range(1, max(lengths) + 1):
        code, own = code << 1 | bits.read(1), [s for s, of in enumerate(lengths) if of == length]
        if code - first < len(own):
            return own[code - first]
        first = first + len(own) << 1
    raise Broken("prefix code")


def read_combs(bits, steps):
    """For each step the number of the comb, or 0."""
    before, out, begin = None, [], begin_next(bits, 0)
    for step in range(steps):
        now = None
        if before is None and begin == step:
            begin = None
            now = bits.read(8), symbol(bits, FIRST_STRENGTH_LENGTHS)
        elif before is not None:
            what = symbol(bits, PITCH_LENGTHS)
            if what == 16:
                begin = begin_next(bits, step + 1)
            else:
                pitch = bits.read(8) if what == 15 else before[0] + what - 7
                check(what < 15 or abs(pitch - before[0]) > 7, "jump")
                both = symbol(bits, STRENGTH_LENGTHS)
                check(both != before[1], "strengths")
                now = pitch, both or before[1]
        check(now is None or 0 <= now[0] < COMB_PITCHES and now[1] > 0, "comb")
        out.append(0 if now is None else 1 + 16 * now[0] + now[1])
        before = now
    check(begin is None, "combs beyond the last step")
    return out


def read_grains(bits, steps):
    """For each step the rows of its grain."""
    choice = bits.read(2)
    if choice == 0:
        return [[0] * BANDS] * steps
    period = 2 ** (choice - 1)
    phase = bits.read(choice - 1) if choice > 1 else 0
    rows, out = [0] * BANDS, []
    for step in range(steps):
        if step == 0 or step % period == phase:
            for band in range(BANDS):
                if bits.read(1):
                    row = bits.read(8)
                    check(row != rows[band], "row")
                    rows[band] = row
        out.append(list(rows))
    return out


class Arithmetic:
    """Decisions out of bits."""

    def __init__(self, bits):
        self.bits, self.low, self.high, self.doubled = bits, 0, 65535, 0
        # The number is the first 16 bits, and more are taken from what follows, zeros behind the end.
        self.ahead, self.at = bits.value & ((1 << bits.left) - 1), bits.left
        self.number = 0
        for _ in range(16):
            self.number = 2 * self.number + self.next()

    def next(self):
        self.at -= 1
        return self.ahead >> self.at & 1 if self.at >= 0 else 0

    def read(self, cases):
        split = self.low + (self.high - self.low + 1) * cases // 256 - 1
        yes = self.number <= split
        if yes:
            self.high = split
        else:
            self.low = split + 1
        while True:
            if self.high < 32768:
                offset = 0
            elif self.low >= 32768:
                offset = 32768
            elif self.low >= 16384 and self.high < 49152:
                offset = 16384
            else:
                return yes
            self.low, self.high = 2 * (self.low - offset), 2 * (self.high - offset) + 1
            self.number = 2 * (self.number - offset) + self.next()
            self.doubled += 1

    def finish(self):
        for _ in range(self.doubled + 2):
            self.bits.read(1)


def trim_after(coder, first, trim, below):
    mirror = -1 if (trim, below) < (0, 0) else 1
    trim, below = trim * mirror, max(-2, min(2, below * mirror))
    k = 4 if first else min(trim, 3)
    if coder.read(STAYS[k][below + 2]):
        return trim * mirror
    falls = trim == MOST_TRIMMED or coder.read(AGAINST[k][below + 2])
    room = MOST_TRIMMED + trim if falls else MOST_TRIMMED - trim
    by = 1
    while by < room and coder.read(FURTHER[falls][min(by, 3) - 1]):
        by += 1
    return (trim - by if falls else trim + by) * mirror


def read_trims(bits, steps):
    """For each step the numbers of its trims."""
    trims = [[0] * TRIMS for _ in range(steps)]
    if bits.read(1):
        if bits.read(1) == 0:
            trims = [[bits.read(4) - MOST_TRIMMED for _ in now] for now in trims]
            check(all(trim <= MOST_TRIMMED for now in trims for trim in now), "trim")
        else:
            coder, before = Arithmetic(bits), [0] * TRIMS
            for step, now in enumerate(trims):
                below = 0
                for band, was in enumerate(before):
                    now[band] = trim_after(coder, step == 0, was, below)
                    below = now[band] - was
                before = now
            coder.finish()
    return [[2 * trim - 1 if trim > 0 else -2 * trim for trim in now] for now in trims]


def read_chunk(data, header, at, number, steps):
    """The codes of a chunk by channel and level, its lines by channel, and where it ends."""
    check(data[at : at + 2] == b"\xf5\xc3", "sync word")
    found, n, p = int.from_bytes(data[at + 2 : at + 5], "big"), data[at + 5], *struct.unpack_from(">H", data, at + 6)
    check((found, n) == (number, steps), "chunk number or steps")
    (crc,) = struct.unpack_from(">I", data, at + 8 + p)
    check(zlib.crc32(data[at + 2 : at + 8 + p]) == crc, "chunk checksum")
    bits, lines = Bits(data[at + 8 : at + 8 + p]), []
    if header["lines"]:
        for _ in range(header["channels"]):
            lines.append(read_lines(bits, steps))
            if header["lines"] > SLOTS:
                for numbers, comb in zip(lines[-1], read_combs(bits, steps)):
                    numbers.append(comb)
            if header["lines"] > SLOTS + 1:
                for numbers, rows in zip(lines[-1], read_grains(bits, steps)):
                    numbers += rows
            if header["lines"] > SLOTS + 1 + BANDS:
                for numbers, trims in zip(lines[-1], read_trims(bits, steps)):
                    numbers += trims
    skipped = ceil(bits.used / 8)
    payload, position = int.from_bytes(data[at + 8 + skipped : at + 8 + p], "big"), 8 * (p - skipped)
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
    check(p == skipped + ceil(used / 8), "payload length")
    return {"codes": channels, "lines": lines}, at + 12 + p


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
        chunk, after = read_chunk(data, header, at, number, steps)
        check(after - at == size, "chunk size in the index")
        at = after
        chunks.append(chunk)
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
