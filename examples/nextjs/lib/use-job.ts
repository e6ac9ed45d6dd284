"use client";

import { useEffect, useState } from "react";

import { watchJob, type Seen } from "./watch";

const NOTHING: Seen = { job: null, problem: null };

/** The job as it is, polled until it has ended; null asks for nothing. */
export function useJob(jobId: string | null): Seen {
  const [shown, setShown] = useState({ jobId, seen: NOTHING });
  useEffect(() => {
    if (jobId === null) return;
    const leave = new AbortController();
    const url = `/api/worker/jobs/${encodeURIComponent(jobId)}`;
    void watchJob(url, (seen) => setShown({ jobId, seen }), leave.signal);
    return () => leave.abort();
  }, [jobId]);
  return shown.jobId === jobId ? shown.seen : NOTHING; // not for a moment another one's
}
