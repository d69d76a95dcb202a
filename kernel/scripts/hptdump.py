#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Makes a file of the page table's stream in a log of Penstock's console.

The monitor's command `hpt dump NAME` prints the stream of a partition's page table as lines of text.
This script finds the last whole dump of a partition in the log, checks it, and writes the stream to
a file, which `hptstream` reads.

The lines are described in kernel/src/control/operator/dump.rs. Whoever writes to the console can
write such lines, the guests among them: what is written is a stream that somebody printed, and
`hptstream verify` says whether it is a good one.
"""

import argparse
import base64
import binascii
import re
import sys
import zlib

VERSION = 1
LINE_BYTES = 48
# The largest table has 2^32 entries of 16 bytes; a stream has a header of 8 for each at most.
MAX_STREAM_BYTES = 24 << 32

NUMBER = r"([0-9]{1,19})"
NAME = r"([a-z0-9-]{1,31})"
HEADER = re.compile(rf"@hptdump {NUMBER} {NAME} {NUMBER} (big|little)")
DATA = re.compile(rf"@h {NUMBER} ([A-Za-z0-9+/]{{4,64}}={{0,2}})")
END = re.compile(rf"@hptdump-end {NAME} {NUMBER} {NUMBER} ([0-9a-f]{{8}})")
# Echoed keys may stand before a line.
LINE = re.compile(rb"@(?:hptdump|hptdump-end|h) .*")


class Damaged(Exception):
    """A dump cannot be read; the text says why."""


class Dump:
    """A dump, as far as it was read."""

    def __init__(self, name, entries, order):
        self.name = name
        self.entries = entries
        self.order = order
        self.stream = bytearray()
        self.lines = 0

    def add(self, offset, text):
        """One line of data."""
        if offset != len(self.stream):
            raise Damaged(f"bytes {len(self.stream)} to {offset} are missing or come twice")
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise Damaged(f"not base64: {error}") from error
        if not 1 <= len(data) <= LINE_BYTES:
            raise Damaged(f"{len(data)} bytes in a line")
        if len(self.stream) + len(data) > MAX_STREAM_BYTES:
            raise Damaged("longer than any stream")
        self.stream += data
        self.lines += 1

    def finish(self, length, lines, checksum):
        """The last line."""
        if length != len(self.stream) or lines != self.lines:
            raise Damaged(
                f"{len(self.stream)} bytes in {self.lines} lines, where the end says {length} in {lines}"
            )
        if zlib.crc32(self.stream) != checksum:
            raise Damaged("the checksum of the whole is wrong")


def checked(line):
    """The text of a line without its checksum."""
    text, _, checksum = line.rstrip(b"\r\n").rpartition(b" ")
    if not re.fullmatch(rb"[0-9a-f]{8}", checksum) or zlib.crc32(text) != int(checksum, 16):
        raise Damaged("the checksum of a line is wrong")
    return text.decode("ascii", errors="replace")


def read(log, wanted):
    """The last whole dump of `wanted`, or of any partition; raises Damaged where the last is not whole."""
    dump, found, problem = None, None, None
    for number, line in enumerate(log, 1):
        match = LINE.search(line)
        if not match:
            continue
        try:
            text = checked(match.group())
            if header := HEADER.fullmatch(text):
                version, name, entries, order = header.groups()
                if dump and dump.name in (wanted, name):
                    problem = f"line {number}: the dump before this line has no end"
                if int(version) != VERSION:
                    raise Damaged(f"version {version} of the format is unknown")
                dump = Dump(name, int(entries), order)
            elif not dump:
                raise Damaged("a dump without its first line")
            elif data := DATA.fullmatch(text):
                dump.add(int(data[1]), data[2])
            elif end := END.fullmatch(text):
                if end[1] != dump.name:
                    raise Damaged(f"the end of a dump of {end[1]}")
                dump.finish(int(end[2]), int(end[3]), int(end[4], 16))
                if wanted in (None, dump.name):
                    found, problem = dump, None
                dump = None
            else:
                raise Damaged("a line that is none of a dump")
        except Damaged as error:
            # Once something is wrong, what follows is wrong for that reason.
            if wanted in (None, dump.name if dump else wanted):
                problem = problem or f"line {number}: {error}"
            dump = None
    if dump and wanted in (None, dump.name):
        problem = problem or "the last dump has no end"
    if problem:
        raise Damaged(problem)
    if not found:
        raise Damaged("no dump" + (f" of {wanted}" if wanted else ""))
    return found


def main():
    """Reads the log, writes the file; 0, or 1 where there is no whole dump."""
    parser = argparse.ArgumentParser(
        description="Makes a file of the page table's stream that `hpt dump NAME` printed."
    )
    parser.add_argument("--name", help="of which partition; by default of any")
    parser.add_argument("log", help="the console's log, or - for standard input")
    parser.add_argument("output", help="the file to write")
    arguments = parser.parse_args()
    try:
        if arguments.log == "-":
            dump = read(sys.stdin.buffer, arguments.name)
        else:
            with open(arguments.log, "rb") as log:
                dump = read(log, arguments.name)
        with open(arguments.output, "wb") as output:
            output.write(dump.stream)
    except (Damaged, OSError) as error:
        print(f"hptdump: {error}", file=sys.stderr)
        return 1
    order = "be" if dump.order == "big" else "le"
    print(
        f"hptdump: {dump.name}: {len(dump.stream)} bytes, format {order}, table of {dump.entries} entries",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
