#!/usr/bin/env python3
"""Lets gcov see into coroutines: rewrites the notes (.gcno) that the compiler wrote below a folder.

GCC moves the body of a coroutine into a function of its own, NAME.actor, and marks it artificial;
gcov leaves out functions with that mark, and with them most of what this tree does with sockets and
xenstore. This takes the mark from them. The format is GCC 12's (gcc/gcov-io.h).

    coverage_notes.py FOLDER
"""
import pathlib
import struct
import sys

MAGIC = b"oncg"
VERSION = b"*22B"  # GCC 12.2, B for ten and 2, read backwards
TAG_FUNCTION = 0x01000000


def word(data, at):
    return struct.unpack_from("<I", data, at)[0]


def unmark_coroutines(data):
    """Changes the notes in place and returns how many marks were taken."""
    taken = 0
    at = 16  # behind magic, version, stamp and checksum
    at += 4 + word(data, at)  # the compiler's folder
    at += 4  # whether blocks that never ran are noted
    while at + 8 <= len(data) and word(data, at) != 0:
        body = at + 8
        if word(data, at) == TAG_FUNCTION:
            name = body + 16  # behind identifier, two checksums and the name's length
            mark = name + word(data, body + 12)
            if data[name:mark].rstrip(b"\0").endswith(b".actor") and word(data, mark) == 1:
                struct.pack_into("<I", data, mark, 0)
                taken += 1
        at = body + word(data, at + 4)
    return taken


def main():
    files = taken = 0
    for path in pathlib.Path(sys.argv[1]).rglob("*.gcno"):
        data = bytearray(path.read_bytes())
        if data[:8] != MAGIC + VERSION:
            sys.exit(f"{path}: not written by GCC 12, whose format alone is known here")
        marks = unmark_coroutines(data)
        if marks > 0:
            path.write_bytes(data)
        files += 1
        taken += marks
    print(f"{files} files, {taken} coroutines")


main()
