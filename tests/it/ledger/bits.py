"""Flips every bit of every entry of a log and asks the verifier of docs/verify.py about each: bits.py VERIFY DATABASE

Two processes share the work. Prints how many were seen; ends with 1 at the first that was not.
"""

import importlib.util
import os
import sqlite3
import sys

spec = importlib.util.spec_from_file_location("verify", sys.argv[1])
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)


class Args:
    witness, against = [], []


def seen(log, row):
    try:
        log.entry(*row)
    except verify.Bad as bad:
        return bad.code == 2
    return False


def number(value, bit):
    """As SQLite keeps it: 64 bits with a sign."""
    bent = (value ^ (1 << bit)) & (2**64 - 1)
    return bent - 2**64 if bent >= 2**63 else bent


def bent_rows(row):
    sequence, body, leaf, id, at = row
    for place, value in ((1, body), (2, leaf), (3, id)):
        bent = bytearray(value)
        for byte in range(len(bent)):
            for bit in range(8):
                bent[byte] ^= 1 << bit
                yield row[:place] + (bytes(bent),) + row[place + 1 :]
                bent[byte] ^= 1 << bit
    for bit in range(64):
        yield (number(sequence, bit),) + row[1:]
        yield row[:4] + (number(at, bit),)


def flip(rows, half):
    log, count = verify.Log(Args, []), 0
    for n, row in enumerate(rows):
        if n % 2 == half:
            for bent in bent_rows(row):
                if not seen(log, bent):
                    sys.exit(f"entry {n}: a flipped bit was not seen")
                count += 1
        log.entry(*row)
    return count


database = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro", uri=True)
rows = database.execute("SELECT sequence, body, leaf, id, at FROM entry ORDER BY sequence").fetchall()
out, into = os.pipe()
if os.fork() == 0:
    os.write(into, str(flip(rows, 1)).encode())
    os._exit(0)
os.close(into)
count = flip(rows, 0)
other = os.read(out, 64)
if not other:
    sys.exit("the other half was not checked")
print(count + int(other))
