"""The script of this app: a report of a month, as JSON in the job's result."""

import json
import os
import sys

month = int(sys.argv[1])
print(f"adding up month {month}")
with open(os.environ["ROBOTNI_RESULT"], "w") as file:
    json.dump({"month": month, "total": sum(range(month * 1000))}, file)
