#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Makes a PNG file of the screenshots in a log of Penstock's console.

The monitor's command `screenshot NAME` writes a picture of a partition's framebuffer as lines of
text: the first time all of it, then the rows that changed. This script reads the log, applies all
pictures of the partition in order, and writes what they come to. What a picture of changes builds
on has to be in the log too; `screenshot NAME --full` shows all rows again.

The lines are described in kernel/src/screen/mod.rs. Whoever writes to the console can write such
lines, the guests among them, so nothing in them is trusted beyond its limits.
"""

import argparse
import base64
import binascii
import re
import struct
import sys
import zlib

MIN_SIDE, MAX_SIDE = 64, 4096
MAX_LINE_BYTES = 224

NAME = r"[a-z0-9-]{1,31}"
HEADER = re.compile(
    rf"@screenshot ([0-9]{{1,10}}) ({NAME}) ([0-9]{{1,10}}) "
    r"([0-9]{1,5})x([0-9]{1,5})x([0-9]{1,2}) ([0-9]{1,6}) (little|big) (full|changed) ([0-9]{1,5})"
)
PIXELS = re.compile(r"@s ([0-9]{1,5})\+([0-9]{1,5}) ([0-9]{1,5}) ([A-Za-z0-9+/]+={0,2})")
END = re.compile(rf"@screenshot-end ({NAME}) ([0-9]{{1,10}}) ([0-9]{{1,10}})")
LINE = re.compile(rb"(?:^|\s)(@(?:screenshot|screenshot-end|s) .*)")

# A display of 8 bits has no palette of its own. The first colours are those of Linux's text console.
CONSOLE_COLOURS = [
    (0, 0, 0), (0, 0, 170), (0, 170, 0), (0, 170, 170), (170, 0, 0), (170, 0, 170), (170, 85, 0), (170, 170, 170),
    (85, 85, 85), (85, 85, 255), (85, 255, 85), (85, 255, 255), (255, 85, 85), (255, 85, 255), (255, 255, 85),
    (255, 255, 255),
]  # fmt: skip


def palette():
    """256 colours: the console's 16, a cube of 216, and 24 greys."""
    steps = (0, 95, 135, 175, 215, 255)
    cube = [(red, green, blue) for red in steps for green in steps for blue in steps]
    return CONSOLE_COLOURS + cube + [(8 + 10 * grey,) * 3 for grey in range(24)]


class Damaged(Exception):
    """A picture cannot be read; the text says why."""


class Picture:
    """A partition's framebuffer as the pictures so far show it."""

    def __init__(self, shot):
        self.number = shot.number  # of the latest picture in it
        self.format = shot.format
        self.rows = [b""] * shot.format[1]


class Shot:
    """The picture that is being read."""

    def __init__(self, number, form, kind, rows):
        self.number = number
        self.format = form  # width, height, depth, stride, byte order
        self.kind = kind
        self.rows = rows
        self.lines = 0
        self.shown = {}  # rows by number, as they come
        self.open = None  # first row, count and pixels so far, where a row goes on in the next line

    def add(self, first, count, pixel, data):
        """One line of pixels."""
        width, height, depth = self.format[:3]
        if count == 0 or first + count > height:
            raise Damaged(f"rows {first}+{count} of {height}")
        if self.open is None:
            if pixel != 0:
                raise Damaged(f"row {first} begins at pixel {pixel}: a line is missing")
            if self.shown and first <= next(reversed(self.shown)):
                raise Damaged(f"row {first} comes too late")
            self.open = (first, count, bytearray())
        if self.open[:2] != (first, count) or len(self.open[2]) != pixel * (depth // 8):
            raise Damaged(f"row {self.open[0]} is not finished: a line is missing")
        row = self.open[2]
        decode(data, depth // 8, width * (depth // 8) - len(row), row)
        self.lines += 1
        if len(row) == width * (depth // 8):
            finished = bytes(row)
            for number in range(first, first + count):
                self.shown[number] = finished
            self.open = None


def decode(data, size, room, out):
    """Appends the pixels that `data` encodes, which must be at least one and at most `room` bytes."""
    last = other = None
    at = 0
    start = len(out)
    while at < len(data):
        number = data[at] & 0x7F
        if data[at] & 0x80:
            at += 1
            if at == len(data) or data[at] & 0x80:
                raise Damaged("a number is cut off")
            number |= data[at] << 7
        at += 1
        kind, count = number & 3, (number >> 2) + 1
        if count * size > room:
            raise Damaged("more pixels than the row has")
        room -= count * size
        if kind == 0:
            pixels, at = data[at : at + count * size], at + count * size
        else:
            if kind == 1:
                last, other = data[at : at + size], last
                at += size
            elif kind == 2:
                last, other = other, last
            if last is None:
                raise Damaged("a colour that was never told")
            pixels = last * count
        if at > len(data):
            raise Damaged("pixels are cut off")
        out += pixels
    if len(out) == start:
        raise Damaged("a line without pixels")


def checked(line):
    """The text of a line without its checksum."""
    body, _, checksum = line.rpartition(b" ")
    if len(line) > MAX_LINE_BYTES or not re.fullmatch(rb"[0-9a-f]{8}", checksum):
        raise Damaged("cut off, or joined with another line")
    if zlib.crc32(body) != int(checksum, 16):
        raise Damaged("the checksum is wrong")
    return body.decode("ascii", "replace")


def read_header(match):
    """Name and shot of an @screenshot line."""
    version, name, number, width, height, depth, stride = match.group(1, 2, 3, 4, 5, 6, 7)
    if int(version) != 1:
        raise Damaged(f"version {version} of the format; this script knows version 1")
    width, height, depth, rows = int(width), int(height), int(depth), int(match.group(10))
    sides = range(MIN_SIDE, MAX_SIDE + 1)
    if width not in sides or height not in sides or depth not in (8, 16, 32):
        raise Damaged(f"a picture of {width}x{height}x{depth}")
    kind = match.group(9)
    if rows > height or (kind == "full" and rows != height):
        raise Damaged(f"{rows} of {height} rows")
    return name, Shot(int(number), (width, height, depth, int(stride), match.group(8)), kind, rows)


class Reader:
    """Goes through a log; keeps what the pictures of each partition come to."""

    def __init__(self, wanted):
        self.wanted = wanted  # a name, or None for all
        self.pictures = {}
        self.name = self.shot = None
        self.faults = {}  # partition: why its latest picture cannot be shown
        self.list = []  # name and shot of each header

    def fault(self, name, where, text):
        """The latest picture of a partition cannot be shown, and none that builds on it."""
        self.faults[name] = f"line {where}: {text}"
        self.pictures.pop(name, None)
        self.shot = None

    def line(self, where, raw):
        """One line of the log."""
        match = LINE.search(raw)
        if not match:
            return
        try:
            text = checked(match.group(1).rstrip(b"\r\n"))
            if header := HEADER.fullmatch(text):
                self.header(where, header)
            elif pixels := PIXELS.fullmatch(text):
                if self.shot:
                    try:
                        data = base64.b64decode(pixels.group(4), validate=True)
                    except binascii.Error:
                        raise Damaged("not base64") from None
                    self.shot.add(int(pixels.group(1)), int(pixels.group(2)), int(pixels.group(3)), data)
            elif end := END.fullmatch(text):
                self.end(where, *end.groups())
            else:
                raise Damaged("not a line of a screenshot")
        except Damaged as error:
            # Without a picture under way it belongs to none, or to one that is known to be damaged.
            if self.shot:
                self.fault(self.name, where, f"screenshot {self.shot.number} of {self.name}: {error}")
            else:
                self.faults.setdefault(None, f"line {where}: {error}")

    def header(self, where, match):
        self.unfinished(where)
        name, shot = read_header(match)
        self.list.append((name, shot))
        if self.wanted in (None, name):
            self.name, self.shot = name, shot

    def unfinished(self, where):
        """A picture that has no end by this line."""
        if self.shot:
            self.fault(self.name, where, f"screenshot {self.shot.number} of {self.name} has no end")

    def end(self, where, name, number, lines):
        shot, self.shot = self.shot, None
        if shot is None:
            # Of another partition, or one whose fault is known; if it is neither, the header is lost.
            if self.wanted in (None, name) and name not in self.faults:
                self.fault(name, where, f"screenshot {number} of {name} has no beginning")
            return
        what = f"screenshot {shot.number} of {self.name}"
        if (name, int(number)) != (self.name, shot.number):
            return self.fault(self.name, where, f"{what} ends as {number} of {name}")
        if shot.open or int(lines) != shot.lines or len(shot.shown) != shot.rows:
            return self.fault(self.name, where, f"{what}: {shot.lines} of {lines} lines: some are missing")
        before = self.pictures.get(name)
        if shot.kind == "full":
            before = self.pictures[name] = Picture(shot)
        elif before is None or shot.number != (before.number + 1) & 0xFFFFFFFF:
            missing = f"needs {shot.number - 1}, which the log does not have whole"
            return self.fault(name, where, f"{what} {missing} (screenshot {name} --full shows all rows)")
        elif before.format != shot.format:
            return self.fault(name, where, f"{what} has another format than the one before")
        before.number = shot.number
        for row, pixels in shot.shown.items():
            before.rows[row] = pixels
        self.faults.pop(name, None)


def rgb_rows(picture):
    """Each row in the three bytes a pixel that PNG has; the same row is converted once."""
    _, _, depth, _, order = picture.format
    table = None
    known = {}
    for row in picture.rows:
        shown = known.get(row)
        if shown is None:
            if depth == 32:
                red, green, blue = (2, 1, 0) if order == "little" else (1, 2, 3)
                shown = bytearray(len(row) // 4 * 3)
                shown[0::3], shown[1::3], shown[2::3] = row[red::4], row[green::4], row[blue::4]
            else:
                table = table or [
                    bytes(((v >> 11) * 255 // 31, (v >> 5 & 63) * 255 // 63, (v & 31) * 255 // 31))
                    for v in range(0x10000)
                ]
                values = struct.unpack(("<" if order == "little" else ">") + f"{len(row) // 2}H", row)
                shown = b"".join([table[value] for value in values])
            known[row] = shown = bytes(shown)
        yield shown


def png(picture):
    """The bytes of a PNG file (Portable Network Graphics, third edition)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width, height, depth = picture.format[:3]
    indexed = depth == 8
    head = struct.pack(">IIBBBBB", width, height, 8, 3 if indexed else 2, 0, 0, 0)
    # Filter 0 before each row: they are as they are.
    rows = picture.rows if indexed else rgb_rows(picture)
    packer = zlib.compressobj(9)
    data = b"".join([packer.compress(b"\0" + row) for row in rows]) + packer.flush()
    colours = chunk(b"PLTE", bytes(value for colour in palette() for value in colour)) if indexed else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + colours + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def fail(text, status=1):
    print(f"screenshot.py: {text}", file=sys.stderr)
    sys.exit(status)


def main():
    parser = argparse.ArgumentParser(
        description="Make a PNG file of the screenshots in a log of Penstock's console.",
        epilog="All screenshots of the partition in the log are applied in order. Ends with 0, with 1 where the log "
        "does not have the latest one whole, and with 2 for wrong use.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the partition (with --list: all by default)")
    parser.add_argument("log", metavar="LOG", nargs="?", default="-", help="the console's log (default: - for input)")
    parser.add_argument("-o", "--output", metavar="FILE", help="what to write (default: NAME.png; - for output)")
    parser.add_argument("--list", action="store_true", help="list the screenshots in the log and write nothing")
    arguments = parser.parse_args()
    if arguments.name is None and not arguments.list:
        parser.error("the name of a partition is missing")
    if arguments.name is not None and not re.fullmatch(NAME, arguments.name):
        parser.error(f"{arguments.name}: not the name of a partition (1 to 31 characters of a-z, 0-9 and -)")

    reader = Reader(None if arguments.list else arguments.name)
    try:
        stream = sys.stdin.buffer if arguments.log == "-" else open(arguments.log, "rb")
        with stream:
            where = 0
            # A log without line ends is not taken into memory as one line.
            while raw := stream.readline(1 << 16):
                where += raw.endswith(b"\n")
                reader.line(where or 1, raw)
            reader.unfinished(where or 1)
    except OSError as error:
        fail(f"{arguments.log}: {error.strerror}", 2)

    if arguments.list:
        for name, shot in reader.list:
            if arguments.name in (None, name):
                width, height, depth, _, _ = shot.format
                print(f"{name} {shot.number}: {width}x{height}x{depth}, {shot.kind}, {shot.rows} rows")
        faults = [text for name, text in reader.faults.items() if arguments.name in (None, name)]
        if faults:
            fail(faults[0])
        return
    name = arguments.name
    if name in reader.faults:
        fail(reader.faults[name])
    picture = reader.pictures.get(name)
    if picture is None:
        others = ", ".join(sorted({other for other, _ in reader.list}))
        fail(reader.faults.get(None) or f"no screenshot of {name} in the log" + (others and f", only of {others}"))
    if None in reader.faults:
        # Noise that no picture was damaged by.
        print(f"screenshot.py: {reader.faults[None]} (no part of {name}'s)", file=sys.stderr)
    output = arguments.output or f"{name}.png"
    try:
        if output == "-":
            sys.stdout.buffer.write(png(picture))
        else:
            with open(output, "wb") as file:
                file.write(png(picture))
    except OSError as error:
        fail(f"{output}: {error.strerror}", 2)


if __name__ == "__main__":
    main()
