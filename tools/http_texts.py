"""What docs/reference/http.md says that the OpenAPI document does not: examples, fields, errors.

A field or an error that has no text here stops `make reference`.
"""

from typing import Any, Dict, Tuple

COMMON = ("401", "403", "413", "415", "422")  # any call can be refused so; said once
JOB_ID = "01936f3e8c7a7d1e9b2f4c5a6d7e8f90"
NEW_ID = "01936f40a1b27c3d8e4f5a6b7c8d9e0f"

# Options of curl in the example of a call, and the headers its answer is shown with.
OPTIONS: Dict[str, str] = {
    "listJobs": "?status=running&limit=1",
    "getJobOutput": "-H 'Range: bytes=0-'",
    "getStats": "?window=1h",
}
HEADERS: Dict[str, Tuple[str, ...]] = {
    "submitJob": (f"Location: /api/worker/jobs/{JOB_ID}", "Retry-After: 5"),
    "retryJob": (f"Location: /api/worker/jobs/{NEW_ID}", "Retry-After: 5"),
    "getJob": ('ETag: "…"', "Retry-After: 5"),
    "getJobOutput": ("Content-Range: bytes 0-5/6",),
}
STATUSES = {"getJobOutput": 206}
PARAMETERS = {
    "type": "only jobs of this worker type",
    "project": "only jobs with this label",
    "attempt": "number of the attempt; the last one by default",
}
# What the job of these answers differs in from the example of a job.
JOBS: Dict[str, Dict[str, Any]] = {
    "submitJob": {"status": "pending", "attempt": 0},
    "cancelJob": {"status": "running", "cancelRequestedAt": "2026-11-22T12:00:05.000Z"},
    "retryJob": {"jobId": NEW_ID, "status": "pending", "retryOf": JOB_ID},
}
NOTES: Dict[str, str] = {
    "submitJob": "`script` or `module`, and `venv`, say what runs. Before it stores the job, "
    "robotni checks that the script is a readable file, that the environment has a Python, that "
    "the working folder exists, and that all of them lie inside `ROBOTNI_SCRIPT_ROOTS`.",
    "listJobs": "Pages are linked: ask again with `cursor` set to `nextCursor` until that is null. "
    'The header `Link: …; rel="next"` has the whole address.',
    "getJobOutput": "`text/plain; charset=utf-8`. With `Range: bytes=N-` it begins at byte N, "
    "with `bytes=-N` N bytes before the end. While the job runs, ask again from the end of what "
    "you have. Of output over `ROBOTNI_MAX_OUTPUT` the beginning and the end are kept. A range "
    "never spans what was left out: it begins behind it, or ends before; `Content-Range` says "
    "where. Without `Range` a line says how many bytes are left out.",
    "cancelJob": "The processes of a running job get SIGTERM, and SIGKILL after "
    "`ROBOTNI_KILL_GRACE` seconds; then the job is `cancelled`. To cancel a cancelled job again is "
    "no error.",
    "retryJob": "The ended job stays as it is; the new one has its id in `retryOf`.",
    "addNumbers": "`task_id` is the id of a job: this call and those below are about the same "
    "jobs, in Huey's words.",
    "startFakeJob": "The body may be left out, and then needs no `Content-Type`.",
    "flushQueue": "Running jobs are not touched.",
    "getMetrics": "The metrics are listed under [Statistics and metrics](../howto/metrics.md).",
}

ERRORS: Dict[Tuple[int, str], str] = {
    (400, "bad_request"): "this is not valid HTTP, or readers may disagree about where it ends",
    (400, "body_incomplete"): "the body ended before its announced length",
    (401, "token_required"): "`ROBOTNI_TOKEN` is set, and the request does not carry it",
    (
        403,
        "exposed_without_token",
    ): "other machines reach the server, and `ROBOTNI_TOKEN` is unset",
    (403, "host_not_allowed"): "the `Host` header is not in `ROBOTNI_ALLOWED_HOSTS`",
    (403, "origin_not_allowed"): "a page of an origin made it that is not in "
    "`ROBOTNI_ALLOWED_ORIGINS`",
    (404, "not_found"): "there is no job with this id, no such attempt, or nothing at this path",
    (405, "method_not_allowed"): "the path knows other methods: see the header `Allow`",
    (408, "body_too_slow"): "the body did not arrive in time",
    (409, "conflict"): "the state of the job forbids this: it has ended, or has not ended yet",
    (413, "body_too_large"): "the body is larger than 1 MiB",
    (415, "not_json"): "the body has no `Content-Type: application/json`",
    (416, "nothing_there_yet"): "the output has no byte there yet; `Content-Range` has its size",
    (422, "invalid_json"): "the body is not JSON that every reader reads alike",
    (422, "invalid_request"): "a field, parameter or header is wrong or unknown: `errors` names "
    "each; or the `Idempotency-Key` came before with another body",
    (429, "queue_full"): "`ROBOTNI_MAX_PENDING` jobs wait; try again after `Retry-After` seconds",
    (431, "headers_too_large"): "there are too many headers, or too large ones",
    (500, "internal_error"): "robotni failed; the server's log has the traceback",
    (503, "database_replaced"): "`robotni.db` was replaced while it was open; restart robotni",
    (503, "machine_fault"): "the machine lacks threads, descriptors or memory; try again later",
    (507, "storage_full"): "the disk is full",
}

_TASK_ID = "the id of the job"
FIELDS: Dict[str, Dict[str, str]] = {
    "Attempt": {
        "attempt": "its number, from 1",
        "startedAt": "when its script was started",
        "finishedAt": "when it ended; null while it runs",
        "exitCode": "as in [Job](#job)",
        "signal": "as in [Job](#job)",
        "error": "how it failed; null if it did not",
    },
    "Bucket": {
        "start": "begin of the span",
        "completed": "jobs that completed in it",
        "failed": "jobs that failed in it",
        "cancelled": "jobs that were cancelled in it",
        "p50Seconds": "median of how long completed and failed jobs ran; null without any",
        "p95Seconds": "95th percentile of the same",
    },
    "BucketList": {"buckets": "spans that follow each other, the oldest first; at most 60"},
    "FakeJobRequest": {"seconds": "how long it waits; 10 by default"},
    "Flushed": {
        "pending": "pending jobs that were cancelled",
        "scheduled": "scheduled jobs that were cancelled",
    },
    "Job": {
        "jobId": "32 hexadecimal digits; ids sort by creation time",
        "type": "the worker type; `python-script` runs what `script` or `module` names",
        "project": "a label of the client's choice, to filter by",
        "status": "where the job is: see [States](states.md)",
        "timestamp": "when it was submitted",
        "output": "null until it ended; then the last 64 KiB of stdout and stderr of the last "
        "attempt, as UTF-8",
        "script": "absolute path of the script, or null",
        "module": "the module that is run as with `python -m`, or null",
        "venv": "absolute path of its virtual environment; null for robotni's own types",
        "args": "its arguments, as they were sent",
        "params": "its parameters, which follow `args` as flags",
        "cwd": "absolute path of its working folder",
        "env": "names of the variables the request set; values are never shown",
        "warm": "whether it asks for a [standby interpreter](../howto/warm.md)",
        "preload": "modules that interpreter imports ahead",
        "timeout": "seconds an attempt may take",
        "expires": "seconds it may wait for its start; null: for ever",
        "attempt": "0 before the first start; rises with each start",
        "maxAttempts": "1 + the `retries` of the request",
        "retryOf": "id of the job it was made from by a retry call, or null",
        "runAt": "when it is due, while it is scheduled; else null",
        "startedAt": "start of the last attempt; null before the first",
        "finishedAt": "when it ended; set exactly in the last three states",
        "cancelRequestedAt": "when a cancel was asked for while it was running, or null",
        "exitCode": "of the last attempt's script; null while it runs, or when a signal ended it",
        "signal": "name of the signal that ended it, such as `SIGSEGV`, or null",
        "error": "how it failed; null unless it is `failed`",
        "progress": "the last line of the file named by `$ROBOTNI_PROGRESS`, or null",
        "result": "the JSON in the file named by `$ROBOTNI_RESULT`, or null",
        "outputBytes": "bytes the last attempt printed",
        "outputTruncated": "whether `output` is not all that was printed",
        "attempts": "all attempts so far, the first one first",
    },
    "JobError": {
        "code": "for programs: see [How a job fails](states.md#how-a-job-fails)",
        "message": "for people: a sentence that says what to do",
    },
    "JobList": {
        "jobs": "newest first",
        "nextCursor": "`cursor` of the next page; null on the last",
    },
    "Problem": {
        "title": "the phrase of the status",
        "status": "the HTTP status",
        "detail": "a sentence that says what to do",
        "code": "for programs: one of [these](#errors); it never changes",
        "errors": "of a 422: each wrong field",
    },
    "ProblemError": {
        "pointer": "JSON pointer of the field, such as `/script`",
        "detail": "what is wrong with it, and what to do",
    },
    "Progress": {"percent": "0 to 100", "message": "what the script wrote behind the number"},
    "Queue": {
        "pending": "tasks that wait for a place, newest first; at most 200",
        "scheduled": "tasks that are not due yet; at most 200",
        "revoked": "tasks that were cancelled; at most 200",
        "totals": "how many there are of each",
    },
    "QueueFigures": {
        "pending": "jobs that wait for a place",
        "scheduled": "jobs that are not due yet",
        "oldestPendingSeconds": "how long the oldest pending job has waited; null without any",
    },
    "QueueItem": {
        "task_id": _TASK_ID,
        "name": "the worker type, or the script's or module's name",
        "timestamp": "when it was submitted",
        "eta": "when it is due, or null",
    },
    "Revoked": {"task_id": _TASK_ID, "revoked": "true"},
    "Slo": {"apiP95Ms": "95th percentile of this server's answers, in milliseconds; or null"},
    "Status": {
        "status": "`ok`",
        "version": "of the server",
        "uptime": "seconds since the server's start",
        "pollInterval": "seconds a client should wait between two polls",
        "workers": "places and the worker process",
        "jobs": "number of jobs in each state",
        "queue": "what waits",
        "slo": "how well it goes",
        "warm": "standby interpreters",
        "nextWake": "when the clock next needs a worker: a due job, or the daily clean-up",
    },
    "TaskId": {"task_id": _TASK_ID},
    "TaskResult": {
        "task_id": _TASK_ID,
        "status": "as in [Job](#job)",
        "result": "as in [Job](#job)",
        "error": "as in [Job](#job)",
    },
    "TypeList": {"types": "all worker types, by name"},
    "WarmFigures": {
        "interpreters": "how many there are",
        "memoryBytes": "their memory; what several share is counted once",
    },
    "WorkerType": {
        "type": "its name, as in a submit",
        "title": "its name for people",
        "description": "what it does",
        "capabilities": "what its jobs support, such as `cancel` or `progress`",
        "schema": "JSON Schema of its `params`",
    },
    "Workers": {
        "max": "`ROBOTNI_WORKERS`",
        "busy": "scripts that run now",
        "consumer": "whether a worker process is running",
    },
}  # fmt: skip
