#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Whether a PNG file shows what the built-in guest draws in its framebuffer of 640x480x32.

bars.py FILE.png eight-bars|changed-rows: see kernel/guests/builtin/src/guest/screen.rs.
"""

import sys

sys.dont_write_bytecode = True
from screenshot import read_png  # noqa: E402

WIDTH, HEIGHT = 640, 480
BARS = [(255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (255, 0, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0)]
ORANGE = (255, 128, 0)


def main():
    path, what = sys.argv[1:]
    with open(path, "rb") as file:
        rows = read_png(file.read(), WIDTH, HEIGHT)
    changed = {"eight-bars": range(0), "changed-rows": range(240, 248)}[what]
    for y, row in enumerate(rows):
        for x, pixel in enumerate(row):
            want = ORANGE if y in changed else BARS[x * 8 // WIDTH]
            if pixel != want:
                sys.exit(f"bars.py: {path}: pixel {x}, {y} is {pixel} and not {want}")


if __name__ == "__main__":
    main()
