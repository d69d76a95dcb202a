#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Tests of kernel/scripts/screenshot.py: pictures of the hypervisor's own encoder become exactly the PNG
files that they should, and a damaged log is refused by name.

screenshot.py EXAMPLE: EXAMPLE is the program of kernel/examples/screenshots.rs.
"""

import os
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "scripts", "screenshot.py")
EXAMPLE = ""
WIDTH, HEIGHT = 323, 67


def pixel(x, y):
    """The test picture, by its own words: see kernel/examples/screenshots.rs."""
    kind = (x // 16 + y // 16) % 4
    if kind == 0:
        return 0
    if kind == 1:
        return 0x00FF8000
    if kind == 2:
        return (x ^ y) * 0x01010101 & 0xFFFFFFFF
    return (x * 7 + y * 13) * 0x9E3779B9 & 0xFFFFFFFF


def wide(x, y, pictures=3):
    value = pixel(x, y)
    if pictures >= 2 and HEIGHT // 2 <= y < HEIGHT // 2 + 3:
        value ^= 0xFF00FF
    if pictures >= 3 and y == HEIGHT - 1:
        value = 0x123456
    return (value >> 16 & 255, value >> 8 & 255, value & 255)


def half(x, y):
    value = pixel(x, y) & 0xFFFF
    return ((value >> 11) * 255 // 31, (value >> 5 & 63) * 255 // 63, (value & 31) * 255 // 31)


def picture(of):
    return [[of(x, y) for x in range(WIDTH)] for y in range(HEIGHT)]


def read_png(data, width_wanted=WIDTH, height_wanted=HEIGHT):
    """Rows of colours, and the colour type; takes only what the script may write."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, at + 8 + length)[0], kind
        assert kind not in chunks
        chunks[kind] = body
        at += 12 + length
    assert list(chunks)[0] == b"IHDR" and list(chunks)[-1] == b"IEND"
    width, height, bits, colours, *methods = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (width, height, bits, methods) == (width_wanted, height_wanted, 8, [0, 0, 0])
    size = {2: 3, 3: 1}[colours]
    raw = zlib.decompress(chunks[b"IDAT"])
    assert len(raw) == height * (1 + width * size)
    rows = []
    for y in range(height):
        row = raw[y * (1 + width * size) :][: 1 + width * size]
        assert row[0] == 0, "a filter"
        pixels = [tuple(row[1 + x * size : 1 + x * size + size]) for x in range(width)]
        if colours == 3:
            pixels = [tuple(chunks[b"PLTE"][3 * index : 3 * index + 3]) for (index,) in pixels]
        rows.append(pixels)
    return rows


class Screenshots(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.log = subprocess.run([EXAMPLE, str(WIDTH), str(HEIGHT)], check=True, capture_output=True).stdout

    def run_script(self, log, *arguments):
        return subprocess.run([sys.executable, SCRIPT, *arguments], input=log, capture_output=True)

    def decoded(self, name, log=None):
        done = self.run_script(self.log if log is None else log, name, "-o", "-")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return read_png(done.stdout)

    def same(self, got, want):
        """Two pictures; unittest would look for the smallest difference of the lists for minutes."""
        for y, rows in enumerate(zip(got, want)):
            for x, (pixel_got, pixel_want) in enumerate(zip(*rows)):
                self.assertEqual(pixel_got, pixel_want, (x, y))
        self.assertEqual(len(got), len(want))

    def refused(self, pattern, log, name="wide", status=1):
        done = self.run_script(log, name, "-o", "-")
        self.assertEqual((done.returncode, done.stdout), (status, b""), done.stderr)
        self.assertRegex(done.stderr.decode(), pattern)
        self.assertEqual(done.stderr.count(b"\n"), 1)

    def lines(self):
        return self.log.splitlines(keepends=True)

    def find(self, start, after=0):
        return next(i for i, line in enumerate(self.lines()) if i >= after and line.startswith(start))

    def without(self, index):
        lines = self.lines()
        return b"".join(lines[:index] + lines[index + 1 :])

    def up_to(self, end):
        return b"".join(self.lines()[: self.find(end) + 1])

    def test_32_bits_with_two_changes(self):
        self.same(self.decoded("wide"), picture(wide))

    def test_earlier_pictures(self):
        for pictures in (1, 2):
            log = self.up_to(b"@screenshot-end wide %d " % pictures)
            self.same(self.decoded("wide", log), picture(lambda x, y: wide(x, y, pictures)))

    def test_16_bits_big_endian(self):
        self.same(self.decoded("half"), picture(half))

    def test_8_bits_in_fixed_colours(self):
        rows = self.decoded("byte")
        for value, colour in [(0, (0, 0, 0)), (1, (0, 0, 170)), (6, (170, 85, 0)), (15, (255, 255, 255)),
                              (16, (0, 0, 0)), (21, (0, 0, 255)), (231, (255, 255, 255)), (232, (8, 8, 8)),
                              (255, (238, 238, 238))]:  # fmt: skip
            places = [(x, y) for y in range(HEIGHT) for x in range(WIDTH) if pixel(x, y) & 255 == value]
            self.assertTrue(places, value)
            for x, y in places:
                self.assertEqual(rows[y][x], colour, value)

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "console.log")
            with open(log, "wb") as file:
                file.write(self.log)
            done = subprocess.run([sys.executable, SCRIPT, "wide", log], cwd=folder, capture_output=True)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
            with open(os.path.join(folder, "wide.png"), "rb") as file:
                self.same(read_png(file.read()), picture(wide))

    def test_list(self):
        done = self.run_script(self.log, "--list")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(
            done.stdout.decode().splitlines(),
            ["wide 1: 323x67x32, full, 67 rows", "wide 2: 323x67x32, changed, 7 rows", "half 1: 323x67x16, full, 67 rows",
             "byte 1: 323x67x8, full, 67 rows", "wide 3: 323x67x32, changed, 4 rows"],
        )  # fmt: skip

    def test_damage_anywhere_in_a_line_is_found(self):
        at = self.find(b"@s ")
        lines = self.lines()
        for byte in range(0, len(lines[at]) - 2, 7):
            line = bytearray(lines[at])
            line[byte] ^= 1
            log = b"".join(lines[:at] + [bytes(line)] + lines[at + 1 :])
            self.refused(r"^screenshot.py: line \d+: screenshot 3 of wide needs 2|some are missing|a line is missing", log)

    def test_where_a_picture_is_damaged_is_told(self):
        at = self.find(b"@s ", self.find(b"@screenshot 1 half"))
        lines = self.lines()
        lines[at] = lines[at].replace(b"A", b"B", 1)
        self.refused(rf"line {at + 1}: screenshot 1 of half: the checksum is wrong", b"".join(lines), "half")

    def test_missing_lines(self):
        first = self.find(b"@s ", self.find(b"@screenshot 1 byte"))
        end = self.find(b"@screenshot-end byte")
        for index in [first, first + 1, (first + end) // 2, end - 1]:
            self.refused("screenshot 1 of byte.*missing", self.without(index), "byte")
        self.refused("screenshot 1 of byte has no beginning", self.without(self.find(b"@screenshot 1 byte")), "byte")
        self.refused("screenshot 1 of byte has no end", self.without(end), "byte")

    def test_a_missing_picture(self):
        lines = self.lines()
        start, end = self.find(b"@screenshot 1 wide 2 "), self.find(b"@screenshot-end wide 2 ")
        log = b"".join(lines[:start] + lines[end + 1 :])
        self.refused(r"screenshot 3 of wide needs 2.*--full", log)
        # A whole one after the damage makes good.
        self.same(self.decoded("wide", log + self.log), picture(wide))

    def test_cut_off_anywhere(self):
        log = self.up_to(b"@screenshot-end wide 1 ")
        for end in range(0, len(log) - 2, len(log) // 20):
            self.refused("no screenshot of wide in the log|screenshot 1 of wide", log[:end])
        self.refused("screenshot 1 of wide has no end", log[: log.index(b"@screenshot-end")])

    def test_other_names(self):
        self.refused("no screenshot of debian in the log, only of byte, half, wide", self.log, "debian")
        self.refused("no screenshot of debian in the log$", b"", "debian")
        self.refused("no screenshot of debian in the log$", os.urandom(300000).replace(b"@", b"a"), "debian")

    def test_hostile_lines(self):
        def line(body):
            return body + b" %08x\r\n" % zlib.crc32(body)

        def shot(*pixels, rows=64):
            head = b"@screenshot 1 x 1 64x64x8 64 little full %d" % rows
            return b"".join(map(line, (head, *pixels, b"@screenshot-end x 1 %d" % len(pixels))))

        whole = shot(b"@s 0+64 0 /QEA")  # 0xfd 0x01 0x00: a run of 64
        self.assertEqual(self.run_script(whole, "x", "-o", "-").returncode, 0)
        for text, log in [
            ("version 2", line(b"@screenshot 2 x 1 64x64x8 64 little full 64")),
            ("99999x99999x8", line(b"@screenshot 1 x 1 99999x99999x8 64 little full 64")),
            ("64x64x24", line(b"@screenshot 1 x 1 64x64x24 64 little full 64")),
            ("3 of 64 rows", line(b"@screenshot 1 x 1 64x64x8 64 little full 3")),
            ("not a line", line(b"@screenshot 1 ../x 1 64x64x8 64 little full 64")),
            ("some are missing", shot(b"@s 0+63 0 /QEA")),
            ("rows 1[+]64 of 64", shot(b"@s 1+64 0 /QEA")),
            ("rows 0[+]0 of 64", shot(b"@s 0+0 0 /QEA")),
            ("begins at pixel 1", shot(b"@s 0+64 1 /QEA")),
            ("comes too late", shot(b"@s 0+64 0 /QEA", b"@s 0+64 0 /QEA")),
            ("more pixels than", shot(b"@s 0+64 0 /38A")),
            ("cut off", shot(b"@s 0+64 0 /QE=")),
            ("cut off", shot(b"@s 0+64 0 /Q==")),
            ("cut off", shot(b"@s 0+64 0 IAAA")),
            ("never told", shot(b"@s 0+64 0 Aw==")),
            ("not base64", shot(b"@s 0+64 0 AwA")),
            ("is not finished", shot(b"@s 0+64 0 AQA=", b"@s 0+63 1 AQA=")),
            ("cut off, or joined", line(b"@s " + b"9" * 300)),
        ]:
            self.refused(text, log, "x")

    def test_wrong_use(self):
        for arguments, text in [
            ([], "the name of a partition is missing"),
            (["A b"], "not the name of a partition"),
            (["a", "/nonexistent/log"], "/nonexistent/log: No such file"),
            (["a", "b", "c"], "unrecognized arguments"),
            (["--frobnicate"], "unrecognized arguments|the name of a partition"),
        ]:
            done = self.run_script(b"", *arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertRegex(done.stderr.decode(), text)
        done = self.run_script(self.log, "wide", "-o", "/nonexistent/file.png")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"/nonexistent/file.png: No such file", done.stderr)
        done = self.run_script(b"", "--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"--output", done.stdout)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: screenshot.py EXAMPLE [unittest's arguments]")
    EXAMPLE = os.path.abspath(sys.argv.pop(1))
    unittest.main()
