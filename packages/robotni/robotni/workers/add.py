# /// script
# requires-python = ">=3.8"
#
# [tool.robotni]
# type = "add"
# title = "Add"
# description = "Adds two integers of any size."
#
# [tool.robotni.params]
# type = "object"
# required = ["x", "y"]
# additionalProperties = false
# properties.x = { type = "integer", title = "x" }
# properties.y = { type = "integer", title = "y" }
# ///
"""Adds x and y and writes the sum as the result of the job."""

import argparse
import json
import os
import sys


def main() -> None:
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--x", type=int, required=True)
    parser.add_argument("--y", type=int, required=True)
    given = parser.parse_args()
    total = given.x + given.y
    with open(os.environ["ROBOTNI_RESULT"], "w") as file:
        json.dump(total, file)
    print(total)


if __name__ == "__main__":
    main()
