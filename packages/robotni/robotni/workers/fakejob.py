# /// script
# requires-python = ">=3.8"
#
# [tool.robotni]
# type = "fakejob"
# title = "Fake job"
# description = "Does nothing for some seconds and reports its progress, to try things out."
#
# [tool.robotni.params]
# type = "object"
# additionalProperties = false
#
# [tool.robotni.params.properties.seconds]
# type = "number"
# title = "Seconds"
# default = 10
# minimum = 0
# maximum = 86400
# ///
"""Waits, and reports its progress."""

import argparse
import json
import os
import time

STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    seconds = parser.parse_args().seconds
    print(f"waiting for {seconds:g} s")
    for step in range(STEPS):
        with open(os.environ["ROBOTNI_PROGRESS"], "a") as file:
            file.write(f"{100 * step / STEPS:g} step {step + 1} of {STEPS}\n")
        time.sleep(seconds / STEPS)
    with open(os.environ["ROBOTNI_PROGRESS"], "a") as file:
        file.write("100 done\n")
    with open(os.environ["ROBOTNI_RESULT"], "w") as file:
        json.dump({"seconds": seconds}, file)
    print("done")


if __name__ == "__main__":
    main()
