"""Stands for the work: prints the month it was asked for, and leaves a result."""

import argparse
import json
import os
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--month", required=True)
parser.add_argument("--seconds", type=float, default=0)
options = parser.parse_args()

time.sleep(options.seconds)
print(f"report of {options.month}")
Path(os.environ["ROBOTNI_RESULT"]).write_text(json.dumps({"month": options.month}))
