// The debugging page: a client of the API server's own HTTP API, and nothing else.
// What threads contain is shown as text only: nothing here writes HTML.

const PAGE = 50;
const POLL_MS = 2000;
const api = new URL("../", location.href);
const $ = (id) => document.getElementById(id);

const view = {
  offset: 0, // of the list of threads
  thread: null, // the record of the chosen one
  namespace: "", // of the timeline: "" or a sub-agent's
  history: [], // newest first
  chosen: "", // checkpoint id
  loading: 0, // counts loads; a slow answer to an older one is dropped
};

// -- the API ------------------------------------------------------------------------------------

async function ask(method, path, body) {
  const reply = await fetch(new URL(path, api), {
    method,
    headers: body === undefined ? {} : { "content-type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${method} /${path}: ${reply.status} ${detail(text)}`);
  return text ? JSON.parse(text) : null;
}

function detail(text) {
  try {
    const parsed = JSON.parse(text);
    return typeof parsed.detail === "string" ? parsed.detail : text;
  } catch {
    return text;
  }
}

const pathOf = (thread) => `threads/${encodeURIComponent(thread.thread_id)}`;

// Runs an action; what goes wrong is told on the page.
async function act(action) {
  $("problem").hidden = true;
  try {
    await action();
  } catch (error) {
    $("problem").textContent = String(error.message || error);
    $("problem").hidden = false;
  }
}

// -- building -----------------------------------------------------------------------------------

function el(tag, options = {}, ...children) {
  const { text, on, ...attributes } = options;
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  for (const [event, handler] of Object.entries(on || {})) node.addEventListener(event, handler);
  node.append(...children.filter((child) => child));
  return node;
}

const button = (text, click, more = {}) =>
  el("button", { type: "button", text, on: { click: () => act(click) }, ...more });
const badge = (status) => el("span", { class: `status ${status}`, text: status });
const nameOf = (thread) => thread.metadata.temporal_thread_id || thread.thread_id;
const when = (iso) => (iso ? new Date(iso).toLocaleString() : "");

function pretty(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// A message as who said what; anything else as JSON.
function readable(value) {
  if (value && typeof value === "object" && typeof value.type === "string" && "content" in value) {
    const calls = (value.tool_calls || []).map((c) => `\n-> ${c.name}(${JSON.stringify(c.args)})`);
    return `${value.type}: ${pretty(value.content)}${calls.join("")}`;
  }
  return pretty(value);
}

function took(ms) {
  if (ms === null) return "";
  return ms < 1000 ? `${Math.max(0, Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

// -- the list of threads ------------------------------------------------------------------------

async function list(offset = 0) {
  const status = $("filter").value;
  const found = await ask("POST", "threads/search", {
    limit: PAGE + 1,
    offset,
    sort_by: "updated_at",
    sort_order: "desc",
    select: ["thread_id", "status", "updated_at", "metadata"],
    ...(status ? { status } : {}),
  });
  view.offset = offset + PAGE;
  $("more").hidden = found.length <= PAGE;
  if (!offset) $("threads").replaceChildren();
  $("threads").append(...found.slice(0, PAGE).map(listed));
}

function listed(thread) {
  const graph = thread.metadata.graph_id || thread.metadata.temporal_graph || "no graph";
  const line = button("", () => choose(thread.thread_id), {
    "data-thread": thread.thread_id,
    "aria-current": view.thread?.thread_id === thread.thread_id,
  });
  line.append(
    el("strong", { text: nameOf(thread) }),
    " ",
    badge(thread.status),
    el("div", { class: "soft", text: `${graph} · ${when(thread.updated_at)}` }),
  );
  return el("li", {}, line);
}

async function choose(threadId) {
  view.namespace = "";
  view.chosen = "";
  view.history = [];
  history.replaceState(null, "", `#${encodeURIComponent(threadId)}`);
  await load(threadId);
}

// -- a thread -----------------------------------------------------------------------------------

async function load(threadId) {
  const mine = ++view.loading;
  const thread = await ask("GET", `threads/${encodeURIComponent(threadId)}`);
  const limit = Math.max(PAGE, view.history.length);
  const [state, past] = await Promise.all([
    ask("GET", `${pathOf(thread)}/state`),
    historyOf(thread, limit + 1),
  ]);
  if (mine !== view.loading) return;
  view.thread = thread;
  for (const line of $("threads").querySelectorAll("button")) {
    line.setAttribute("aria-current", line.dataset.thread === thread.thread_id);
  }
  $("hint").hidden = true;
  $("thread").hidden = false;
  $("name").textContent = nameOf(thread);
  const graph = thread.metadata.graph_id || thread.metadata.temporal_graph || "";
  $("about").replaceChildren(
    badge(thread.status),
    el("span", { class: "soft", text: ` ${graph} · ${thread.thread_id} · ${when(thread.updated_at)} ` }),
    button("Reload", () => load(thread.thread_id)),
  );
  questions(state);
  timeline(past, limit);
}

async function historyOf(thread, limit, before) {
  return ask("POST", `${pathOf(thread)}/history`, {
    limit,
    checkpoint: { checkpoint_ns: view.namespace },
    ...(before ? { before } : {}),
  });
}

function questions(state) {
  const asked = state.interrupts || [];
  // What is being typed must not be lost when a busy thread is looked at again.
  const shown = [...$("asks").children].map((form) => form.dataset.interrupt).join();
  if (asked.length && shown === asked.map((i) => i.id).join()) return;
  $("asks").replaceChildren(
    ...asked.map((interrupt, at) => {
      const answer = el("textarea", { rows: 2, spellcheck: "false", "aria-label": `Answer ${at + 1}` });
      const submit = (event) => {
        event.preventDefault();
        act(() => run({ command: { resume: { [interrupt.id]: parsed(answer.value) } } }));
      };
      return el(
        "form",
        { "data-interrupt": interrupt.id, on: { submit } },
        el("h3", { text: asked.length > 1 ? `Question ${at + 1} of ${asked.length}` : "Question" }),
        el("pre", { text: pretty(interrupt.value) }),
        el("label", { text: "Answer (JSON, or else text)" }, answer),
        el("button", { type: "submit", text: "Resume" }),
      );
    }),
  );
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function timeline(past, limit) {
  $("older").hidden = past.length <= limit;
  // Who looks at the newest checkpoint goes on doing so.
  if (view.chosen === view.history[0]?.checkpoint_id) view.chosen = "";
  view.history = past.slice(0, limit);
  const up = $("namespace");
  up.hidden = !view.namespace;
  up.replaceChildren(
    el("span", { text: `Sub-agent ${view.namespace}` }),
    button("Back to the thread", () => enter("")),
  );
  const ids = new Map(past.map((state) => [state.checkpoint_id, state]));
  $("timeline").replaceChildren(
    ...view.history.map((state, at) => row(state, past[at + 1], ids.get(state.parent_checkpoint_id))),
  );
  select(ids.has(view.chosen) ? view.chosen : view.history[0]?.checkpoint_id);
}

function row(state, older, parent) {
  const { step, source } = state.metadata || {};
  const spent = parent ? new Date(state.created_at) - new Date(parent.created_at) : null;
  const fork = older && state.parent_checkpoint_id !== older.checkpoint_id;
  const open = button(String(step ?? ""), () => select(state.checkpoint_id), {
    "aria-label": `Checkpoint of step ${step}`,
  });
  return el(
    "tr",
    { "data-checkpoint": state.checkpoint_id },
    el("td", {}, open),
    el("td", { text: `${source ?? ""}${fork ? " (fork)" : ""}` }),
    el("td", { text: state.created_at ? new Date(state.created_at).toLocaleTimeString() : "" }),
    el("td", { text: took(spent) }),
    el("td", {}, ...state.tasks.map(task)),
  );
}

function task(one) {
  const inside = one.checkpoint?.checkpoint_ns;
  const asks = (one.interrupts || []).map((i) => i.value);
  return el(
    "div",
    { class: "task" },
    el("strong", { text: one.name }),
    one.error ? el("span", { class: "error", text: `error: ${pretty(one.error)}` }) : null,
    ...asks.map((value) => el("span", { class: "interrupted", text: `asks: ${readable(value)}` })),
    one.result && !asks.length && !one.error
      ? el("span", { class: "soft", text: `wrote ${Object.keys(one.result).join(", ") || "nothing"}` })
      : null,
    inside ? button("Open sub-agent", () => enter(inside), { "data-namespace": inside }) : null,
  );
}

async function enter(namespace) {
  view.namespace = namespace;
  view.chosen = "";
  view.history = [];
  await load(view.thread.thread_id);
}

async function older() {
  const last = view.history.at(-1);
  const more = await historyOf(view.thread, PAGE + 1, last.checkpoint);
  timeline([...view.history, ...more], view.history.length + PAGE);
}

// -- a checkpoint -------------------------------------------------------------------------------

function select(checkpointId) {
  const state = view.history.find((one) => one.checkpoint_id === checkpointId);
  $("checkpoint").hidden = !state;
  if (!state) return;
  view.chosen = checkpointId;
  for (const line of $("timeline").children) {
    line.setAttribute("aria-selected", line.dataset.checkpoint === checkpointId);
  }
  const parent = view.history.find((one) => one.checkpoint_id === state.parent_checkpoint_id);
  $("title").textContent = `Checkpoint of step ${state.metadata?.step} (${checkpointId})`;
  $("values").textContent = JSON.stringify(state.values, null, 2);
  const changes = differences(parent?.values ?? {}, state.values ?? {});
  $("changes").replaceChildren(
    ...(changes.length ? changes : [el("dd", { class: "soft", text: "nothing changed" })]),
  );
}

// By channel: what a list got and lost, what a value was and is.
function differences(before, after) {
  const shown = [];
  for (const channel of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [before[channel], after[channel]];
    if (JSON.stringify(old) === JSON.stringify(now)) continue;
    const [gone, come] =
      Array.isArray(now) && (Array.isArray(old) || old === undefined)
        ? listDifference(old ?? [], now)
        : [old === undefined ? [] : [old], now === undefined ? [] : [now]];
    shown.push(
      el("dt", { text: channel }),
      ...gone.map((value) => el("dd", { class: "removed", text: `- ${readable(value)}` })),
      ...come.map((value) => el("dd", { class: "added", text: `+ ${readable(value)}` })),
    );
  }
  return shown;
}

function listDifference(before, after) {
  const [old, now] = [before, after].map((list) => list.map((value) => JSON.stringify(value)));
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start += 1;
  let end = 0;
  const least = Math.min(old.length, now.length) - start;
  while (end < least && old.at(-1 - end) === now.at(-1 - end)) end += 1;
  return [before.slice(start, before.length - end), after.slice(start, after.length - end)];
}

async function fork(how) {
  const state = view.history.find((one) => one.checkpoint_id === view.chosen);
  let checkpoint = state.checkpoint;
  if (how !== "again") {
    let values;
    try {
      values = JSON.parse($("update").value);
    } catch (error) {
      throw new Error(`The update is no JSON: ${error.message}`);
    }
    const as = $("as").value.trim();
    const forked = await ask("POST", `${pathOf(view.thread)}/state`, {
      values,
      checkpoint,
      ...(as ? { as_node: as } : {}),
    });
    checkpoint = forked.checkpoint;
    view.chosen = checkpoint.checkpoint_id;
  }
  if (how === "edit") await load(view.thread.thread_id);
  else await run({ input: null, checkpoint });
}

// -- runs ---------------------------------------------------------------------------------------

async function run(request) {
  const thread = view.thread;
  const graph = thread.metadata.graph_id;
  if (!graph) throw new Error(`This server has no graph ${thread.metadata.temporal_graph || ""}.`);
  await ask("POST", `${pathOf(thread)}/runs`, {
    assistant_id: graph,
    multitask_strategy: "reject",
    ...request,
  });
  view.chosen = "";
  $("asks").replaceChildren();
  await load(thread.thread_id);
}

setInterval(async () => {
  if (document.hidden || view.thread?.status !== "busy") return;
  await act(async () => {
    await load(view.thread.thread_id);
    if (view.thread.status !== "busy") await list();
  });
}, POLL_MS);

$("refresh").addEventListener("click", () => act(() => list()));
$("filter").addEventListener("change", () => act(() => list()));
$("more").addEventListener("click", () => act(() => list(view.offset)));
$("older").addEventListener("click", () => act(older));
$("fork").addEventListener("submit", (event) => {
  event.preventDefault();
  act(() => fork(event.submitter?.value ?? "edit"));
});

const addressed = async () => {
  if (location.hash.length > 1) await choose(decodeURIComponent(location.hash.slice(1)));
};
window.addEventListener("hashchange", () => act(addressed));
act(async () => {
  await list();
  await addressed();
});
