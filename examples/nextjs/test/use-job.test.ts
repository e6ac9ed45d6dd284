/** The hook in React itself; of a browser there are `fetch` and a document that can be hidden. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import { createElement } from "react";
import { act, create, type ReactTestRenderer } from "react-test-renderer";

import { useJob } from "../lib/use-job";

class Page extends EventTarget {
  hidden = false;

  hide(hidden: boolean): void {
    this.hidden = hidden;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

function browser(t: TestContext, answer: (url: string) => unknown): { page: Page; asked: string[] } {
  const page = new Page();
  const asked: string[] = [];
  const fetching = async (input: unknown): Promise<Response> => {
    asked.push(String(input).split("/").pop() ?? "");
    return new Response(JSON.stringify(answer(String(input))));
  };
  t.mock.method(globalThis, "fetch", fetching as typeof fetch);
  t.mock.method(console, "error", () => undefined); // the renderer says that it is deprecated
  Object.assign(globalThis, { document: page, IS_REACT_ACT_ENVIRONMENT: true });
  return { page, asked };
}

function Shown({ jobId }: { jobId: string | null }) {
  const { job } = useJob(jobId);
  return createElement("p", null, job ? `${job.jobId} ${job.status}` : "nothing yet");
}

async function rendered(jobId: string | null): Promise<ReactTestRenderer> {
  let tree: ReactTestRenderer | undefined;
  await act(async () => {
    tree = create(createElement(Shown, { jobId }));
  });
  assert.ok(tree);
  return tree;
}

function text(tree: ReactTestRenderer): unknown {
  return tree.root.findByType("p").children[0];
}

test("a component shows the job until it is unmounted, and pauses while hidden", async (t) => {
  const { page, asked } = browser(t, () => ({ jobId: "a", status: "completed" }));
  page.hidden = true;
  const tree = await rendered("a");
  assert.equal(text(tree), "nothing yet");
  assert.deepEqual(asked, []);
  await act(async () => page.hide(false));
  assert.equal(text(tree), "a completed");
  assert.deepEqual(asked, ["a"]);
  await act(async () => tree.unmount());
});

test("another id is another job, and null asks for none", async (t) => {
  const { asked } = browser(t, (url) => ({ jobId: url.slice(-1), status: "running" }));
  const tree = await rendered(null);
  assert.deepEqual(asked, []);
  await act(async () => tree.update(createElement(Shown, { jobId: "a" })));
  assert.equal(text(tree), "a running");
  await act(async () => tree.update(createElement(Shown, { jobId: "b" })));
  assert.equal(text(tree), "b running");
  assert.deepEqual(asked, ["a", "b"]);
  await act(async () => tree.update(createElement(Shown, { jobId: null })));
  assert.equal(text(tree), "nothing yet");
  await act(async () => tree.unmount()); // else its timer would hold this process for 5 s
});
