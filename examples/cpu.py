"""Keeps one core busy: counts the primes below a number, block by block in little memory."""

import argparse
import math

BLOCK = 1 << 18


def count_primes(limit):
    """The number of primes below `limit`, by a segmented sieve."""
    if limit <= 2:
        return 0
    base = sieve(math.isqrt(limit - 1) + 1)
    return sum(count_block(low, min(low + BLOCK, limit), base) for low in range(2, limit, BLOCK))


def sieve(limit):
    """The primes below `limit`."""
    prime = bytearray([1]) * limit
    primes = []
    for n in range(2, limit):
        if prime[n]:
            primes.append(n)
            strike(prime, range(n * n, limit, n))
    return primes


def count_block(low, high, base):
    prime = bytearray([1]) * (high - low)
    for n in base:
        strike(prime, range(max(n * n, -(-low // n) * n) - low, high - low, n))
    return sum(prime)


def strike(prime, multiples):
    prime[multiples.start : multiples.stop : multiples.step] = bytes(len(multiples))


def main():
    parser = argparse.ArgumentParser(description="count primes")
    parser.add_argument("--below", type=int, default=200_000_000, metavar="N")
    options = parser.parse_args()
    print(f"{count_primes(options.below):,} primes below {options.below:,}")


if __name__ == "__main__":
    main()
