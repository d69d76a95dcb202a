#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Tests of kernel/scripts/hptdump.py: the text that the hypervisor's tests hold their own output
against becomes the committed stream, and a damaged log is refused by name.
"""

import os
import subprocess
import sys
import tempfile
import unittest
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "..", "scripts", "hptdump.py")
DATA = os.path.join(HERE, "..", "src", "control", "operator", "testdata")


def read(name):
    with open(os.path.join(DATA, name), "rb") as file:
        return file.read()


TEXT, STREAM = read("dump.txt"), read("dump.bin")
LINES = TEXT.splitlines(keepends=True)


def line(text):
    return f"{text} {zlib.crc32(text.encode()):08x}\n".encode()


class HptDump(unittest.TestCase):
    def run_script(self, log, *options, expect=0):
        with tempfile.TemporaryDirectory() as folder:
            source, output = os.path.join(folder, "log"), os.path.join(folder, "stream")
            with open(source, "wb") as file:
                file.write(log)
            command = [sys.executable, SCRIPT, *options, source, output]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(result.returncode, expect, result.stderr)
            self.assertNotIn("Traceback", result.stderr)
            if expect:
                self.assertFalse(os.path.exists(output))
                return result.stderr.strip()
            with open(output, "rb") as file:
                return file.read()

    def refused(self, log, *options):
        return self.run_script(log, *options, expect=1)

    def test_the_committed_text_is_the_committed_stream(self):
        self.assertEqual(self.run_script(TEXT), STREAM)
        self.assertEqual(self.run_script(TEXT, "--name", "fake-2"), STREAM)

    def test_what_else_is_on_a_console_does_not_matter(self):
        noise = [b"[    0.000000] Linux version 6.12\r\n", b"penstock> hpt dump fake-2\r\n", b"\xff\xfe\x00\r\n", b"@home\r\n"]
        log = b"".join(a + b for a, b in zip(noise * len(LINES), [b"x" + l.replace(b"\n", b"\r\n") for l in LINES]))
        self.assertEqual(self.run_script(log), STREAM)

    def test_the_last_whole_dump_counts(self):
        old = b"".join([LINES[0], line("@hptdump-end fake-2 0 0 00000000")])
        self.assertEqual(self.run_script(old + TEXT), STREAM)
        self.assertEqual(self.run_script(TEXT + old), b"")
        other = TEXT.replace(b"fake-2", b"fake-3")
        other = b"".join(line(l.decode().rpartition(" ")[0]) for l in other.splitlines())
        self.assertEqual(self.run_script(TEXT + other, "--name", "fake-2"), STREAM)

    def test_every_damaged_byte_is_noticed(self):
        for at in range(0, len(TEXT), 23):
            if TEXT[at] in b"\n":
                continue
            damaged = TEXT[:at] + bytes([TEXT[at] ^ 1]) + TEXT[at + 1 :]
            self.refused(damaged)

    def test_a_line_that_is_missing_or_comes_twice_is_noticed(self):
        for number in range(len(LINES)):
            self.refused(b"".join(LINES[:number] + LINES[number + 1 :]))
        for number in range(1, len(LINES) - 1):
            self.refused(b"".join(LINES[: number + 1] + LINES[number:]))
        self.assertIn("bytes 48 to 96 are missing", self.refused(b"".join(LINES[:2] + LINES[3:])))
        self.assertIn("no end", self.refused(b"".join(LINES[:-1])))

    def test_a_log_without_dump_says_so(self):
        self.assertEqual(self.refused(b""), "hptdump: no dump")
        self.assertEqual(self.refused(TEXT, "--name", "debian"), "hptdump: no dump of debian")
        self.assertIn("version 2", self.refused(line("@hptdump 2 debian 1 big")))
        self.assertIn("none of a dump", self.refused(LINES[0] + line("@h x")))
        self.assertIn("without its first line", self.refused(TEXT + LINES[1]))
        wrong = LINES[:-1] + [line("@hptdump-end fake-2 264 6 00000000")]
        self.assertIn("the whole", self.refused(b"".join(wrong)))
        self.assertIn("base64", self.refused(LINES[0] + line("@h 0 AAAAA")))


if __name__ == "__main__":
    unittest.main()
