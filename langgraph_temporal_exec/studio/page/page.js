// The debugging page: a client of the API server's own HTTP API, and nothing else.
// What threads contain is shown as text only: nothing here writes HTML.

const PAGE = 50;
const CHUNK = 500; // threads of one request: the server gives 1000 at most
const POLL_MS = 2000;
const api = new URL("../", location.href);
const $ = (id) => document.getElementById(id);

const view = {
  listed: [], // the threads that are shown
  listing: 0, // counts lists; an older one stops
  thread: null, // the record of the chosen one
  path: [], // of the timeline: the sub-agents that were opened, each within the one before
  history: [], // newest first
  chosen: "", // checkpoint id
  about: { tasks: {}, namespaces: [] }, // what Temporal tells of it
  loading: 0, // counts loads; a slow answer to an older one is dropped
};

// -- the API ------------------------------------------------------------------------------------

async function send(method, path, body, headers = {}) {
  const reply = await fetch(new URL(path, api), {
    method,
    headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await reply.text();
  if (!reply.ok) throw new Error(`${method} /${path}: ${reply.status} ${detail(text)}`);
  return { told: text ? JSON.parse(text) : null, headers: reply.headers };
}

const ask = async (method, path, body) => (await send(method, path, body)).told;

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
  await telling(action);
}

// The same for what nobody asked for: it leaves standing what was told before.
async function telling(action) {
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

// What the server knows already is shown at once, and again as it reads on.
async function list(count = PAGE) {
  const mine = ++view.listing;
  for (let wait = 0; ; wait = 1) {
    const { found, unread } = await search(count + 1, wait);
    if (mine !== view.listing) return;
    show(found.slice(0, count));
    $("more").hidden = found.length <= count;
    $("reading").hidden = !unread;
    $("reading").textContent = unread > 1 ? `Reading ${unread} more threads…` : "Reading threads…";
    $("none").hidden = Boolean(unread || found.length);
    if (!unread) return;
  }
}

async function search(count, wait) {
  const status = $("filter").value;
  const found = [];
  let unread = 0;
  while (found.length < count) {
    const limit = Math.min(CHUNK, count - found.length);
    const request = {
      limit,
      offset: found.length,
      sort_by: "updated_at",
      sort_order: "desc",
      select: ["thread_id", "status", "updated_at", "metadata"],
      ...(status ? { status } : {}),
    };
    const patience = { prefer: `wait=${found.length ? 0 : wait}` };
    const { told, headers } = await send("POST", "threads/search", request, patience);
    // The first answer tells whether the list is whole.
    if (!found.length) unread = Number(headers.get("temporal-threads-unread") || 0);
    found.push(...told);
    if (told.length < limit) break;
  }
  return { found, unread };
}

function show(threads) {
  if (JSON.stringify(threads) === JSON.stringify(view.listed)) return;
  const focused = document.activeElement?.dataset?.thread;
  // The line of a thread of which nothing changed stays: somebody may be about to press it.
  const before = new Map(
    view.listed.map((thread, at) => [JSON.stringify(thread), $("threads").children[at]]),
  );
  view.listed = threads;
  $("threads").replaceChildren(
    ...threads.map((thread) => before.get(JSON.stringify(thread)) || listed(thread)),
  );
  if (focused) $("threads").querySelector(`[data-thread="${CSS.escape(focused)}"]`)?.focus();
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
  view.path = [];
  view.chosen = "";
  view.history = [];
  $("failed").hidden = true;
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
  const about = await temporal(thread, past);
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
  failure(thread, state);
  questions(state);
  view.about = about;
  timeline(past, limit);
}

const namespace = () => view.path.at(-1)?.namespace ?? "";
// Of a graph that a node is, the server has the states; of one that a tool calls, it has not.
const called = () => view.path.some((one) => one.called);

async function historyOf(thread, limit, before) {
  if (called()) {
    const asked = { checkpoint_ns: namespace(), limit };
    if (before) asked.before = before.checkpoint_id;
    return ask("GET", `${pathOf(thread)}/temporal/states?${new URLSearchParams(asked)}`);
  }
  return ask("POST", `${pathOf(thread)}/history`, {
    limit,
    checkpoint: { checkpoint_ns: namespace() },
    ...(before ? { before } : {}),
  });
}

// When the tasks of these states ran, and which namespaces the thread has.
async function temporal(thread, past) {
  const asked = { checkpoint_ns: namespace() };
  if (past.length) asked.since = past.at(-1).created_at;
  return ask("GET", `${pathOf(thread)}/temporal?${new URLSearchParams(asked)}`);
}

// What the last run failed with is told where the questions are, if it is still to be answered.
function failure(thread, state) {
  const errors = state.tasks.filter((task) => task.error && !task.interrupts?.length);
  const told = errors.length || thread.status !== "error" ? "" : thread.error;
  $("failed").hidden = !told;
  $("failed").textContent = told ? `The last run failed: ${readable(told)}` : "";
}

function questions(state) {
  const asked = state.interrupts || [];
  const errors = new Map(
    state.tasks.flatMap((task) => (task.interrupts || []).map((i) => [i.id, task.error])),
  );
  // What is being typed must not be lost when a busy thread is looked at again.
  const forms = [...$("asks").children];
  const shown = forms.map((form) => form.dataset.interrupt).join();
  if (!asked.length || shown !== asked.map((i) => i.id).join()) {
    $("asks").replaceChildren(
      ...asked.map((interrupt, at) => {
        const title = asked.length > 1 ? `Question ${at + 1} of ${asked.length}` : "Question";
        return question(interrupt, title, `Answer ${at + 1}`, state.checkpoint);
      }),
    );
  }
  for (const form of $("asks").children) {
    const error = errors.get(form.dataset.interrupt);
    if (error) refused(form, `The answer was not taken: ${readable(error)}`, true);
  }
}

function question(interrupt, title, label, checkpoint) {
  const answer = el("textarea", { rows: 2, spellcheck: "false", "aria-label": label });
  const problem = el("p", { class: "error problem", role: "alert", hidden: "" });
  const kept = el(
    "p",
    { class: "soft kept", hidden: "" },
    "If the node had taken the answer before it failed, LangGraph keeps it, and Resume tries again " +
      "with that one. To answer anew, ask again: all that ran from this checkpoint runs again.",
  );
  const again = button("Ask again", () => run({ input: null, checkpoint }), { hidden: "" });
  const submit = async (event) => {
    event.preventDefault();
    refused(form, "", false);
    try {
      await run({ command: { resume: { [interrupt.id]: parsed(answer.value) } } });
    } catch (error) {
      refused(form, String(error.message || error), false);
    }
  };
  const form = el(
    "form",
    { "data-interrupt": interrupt.id, on: { submit } },
    el("h3", { text: title }),
    el("pre", { text: pretty(interrupt.value) }),
    el("label", { text: "Answer (JSON, or else text)" }, answer),
    problem,
    kept,
    el("div", { class: "bar" }, el("button", { type: "submit", text: "Resume" }), again),
  );
  return form;
}

// Tells beside a question why its answer was not taken.
function refused(form, why, kept) {
  form.querySelector(".problem").textContent = why;
  form.querySelector(".problem").hidden = !why;
  form.querySelector(".kept").hidden = !kept;
  form.querySelector("button[type=button]").hidden = !kept;
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
  up.hidden = !view.path.length;
  up.replaceChildren(
    el("span", { text: `Sub-agent ${namespace()}` }),
    view.path.length > 1 ? button("Back", () => go(view.path.slice(0, -1))) : "",
    button("Back to the thread", () => go([])),
  );
  // There is no graph here that could write to the state of one that a tool calls.
  $("fork").hidden = called();
  const ids = new Map(past.map((state) => [state.checkpoint_id, state]));
  // Of several that were made from one, the first.
  const after = new Map(past.map((state) => [state.parent_checkpoint_id, state]));
  $("timeline").replaceChildren(
    ...view.history.map((state, at) => row(state, past[at + 1], after.get(state.checkpoint_id))),
  );
  select(ids.has(view.chosen) ? view.chosen : view.history[0]?.checkpoint_id);
}

function row(state, older, next) {
  const { step, source } = state.metadata || {};
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
    el("td", { text: took(spent(state, next)) }),
    el("td", {}, ...state.tasks.map(task)),
  );
}

// How long a task ran; if it was executed more than once, the last time.
function ran(one) {
  const time = view.about.tasks[one.id];
  if (!time) return null;
  const end = time.ended_at ? new Date(time.ended_at) : new Date();
  return end - new Date(time.started_at);
}

// How long the tasks of a checkpoint ran, which is what its longest did. Where Temporal does not
// tell (any more), it is the time to the next checkpoint, unless somebody was asked meanwhile.
function spent(state, next) {
  const known = state.tasks.map(ran).filter((ms) => ms !== null);
  if (known.length) return Math.max(...known);
  const asked = state.tasks.some((one) => one.interrupts?.length || one.error);
  if (asked || !state.tasks.length || next?.metadata?.source !== "loop") return null;
  return new Date(next.created_at) - new Date(state.created_at);
}

// The namespaces of the graphs that ran in a task: a second one of the same task is numbered.
function nested(one) {
  const inside = one.checkpoint?.checkpoint_ns;
  const own = inside ?? `${namespace() ? `${namespace()}|` : ""}${one.name}:${one.id}`;
  const found = view.about.namespaces.filter(
    (name) => name === own || (name.startsWith(`${own}|`) && /^\d+$/.test(name.slice(own.length + 1))),
  );
  if (inside && !found.includes(inside)) found.unshift(inside);
  return found.map((name) => ({ namespace: name, called: name !== inside }));
}

function task(one) {
  const time = view.about.tasks[one.id];
  const inside = nested(one);
  const asks = (one.interrupts || []).map((i) => i.value);
  return el(
    "div",
    { class: "task" },
    el("strong", { text: one.name }),
    time
      ? el("span", { class: "took", text: `${time.ended_at ? "" : "running for "}${took(ran(one))}` })
      : null,
    one.error ? el("span", { class: "error", text: `error: ${pretty(one.error)}` }) : null,
    ...asks.map((value) => el("span", { class: "interrupted", text: `asks: ${readable(value)}` })),
    one.result && !asks.length && !one.error
      ? el("span", { class: "soft", text: `wrote ${Object.keys(one.result).join(", ") || "nothing"}` })
      : null,
    ...inside.map((sub, at) =>
      button(
        inside.length > 1 ? `Open sub-agent ${at + 1}` : "Open sub-agent",
        () => go([...view.path, sub]),
        { "data-namespace": sub.namespace },
      ),
    ),
  );
}

async function go(path) {
  view.path = path;
  view.chosen = "";
  view.history = [];
  await load(view.thread.thread_id);
}

async function older() {
  const last = view.history.at(-1);
  const more = await historyOf(view.thread, PAGE + 1, last.checkpoint);
  view.about = await temporal(view.thread, more);
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
  $("failed").hidden = true;
  await load(thread.thread_id);
}

setInterval(async () => {
  if (document.hidden || view.thread?.status !== "busy") return;
  await telling(async () => {
    await load(view.thread.thread_id);
    if (view.thread.status !== "busy") await list();
  });
}, POLL_MS);

$("refresh").addEventListener("click", () => act(() => list()));
$("filter").addEventListener("change", () => act(() => list()));
$("more").addEventListener("click", () => act(() => list(view.listed.length + PAGE)));
$("older").addEventListener("click", () => act(older));
$("fork").addEventListener("submit", (event) => {
  event.preventDefault();
  act(() => fork(event.submitter?.value ?? "edit"));
});

const addressed = async () => {
  if (location.hash.length > 1) await choose(decodeURIComponent(location.hash.slice(1)));
};
window.addEventListener("hashchange", () => act(addressed));
act(() => list());
telling(addressed);
