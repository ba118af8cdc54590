// The page: its views, their shared state, the address and the keyboard.

import { onKeyNeeded, request, storeKey, storedKey } from "./api.js";
import { CompareView } from "./compare.js";
import { byId, count } from "./dom.js";
import { HeatmapView } from "./heatmap.js";
import { Live } from "./live.js";
import { clearNotice, showNotice } from "./notice.js";
import { focusFirst } from "./results.js";
import { COUNTS, SearchView } from "./search.js";

const TABS = ["search", "compare", "heatmap"];
const START = { tab: "search", q: "", k: 10, index: "", where: "", mode: "", queries: "", a: "", b: "", model: "", texts: "", group: false };
const MAX_HASH_CHARACTERS = 6000; // longer states are not kept in the address
const MAX_QUERY_WORDS = 100; // of a result's text that is used as a query
const SHARED = {
  search: ["q", "k", "index", "mode", "queries", "where"],
  compare: ["q", "k", "a", "b"],
  heatmap: ["texts", "model", "group"],
};

class App {
  constructor() {
    this.box = byId("query");
    this.state = { ...START, ...fromHash() };
    this.indexes = [];
    this.models = [];
    this.ready = false;
    this.views = { search: new SearchView(this), compare: new CompareView(this), heatmap: new HeatmapView(this) };
    this.inventory = new Live({
      work: (signal) => Promise.all([request("indexes", { signal }), request("v1/models", { signal })]),
      done: ([indexes, models]) => this.#opened(indexes.indexes, models.data.map(({ id }) => id)),
      failed: (error, retryIn) =>
        showNotice(byId("trouble"), error, { retryIn, retry: () => this.inventory.request({ now: true }) }),
    });
    this.#listen();
    this.#show({ focus: false });
    this.inventory.request({ now: true });
  }

  // Changes part of the state, updates the address and the view.
  change(values, { push = false, now = false } = {}) {
    Object.assign(this.state, values);
    this.#keep(push);
    this.#update(now);
  }

  // Searches for items similar to a result, and moves the focus to the first one.
  moreLike(hit, list) {
    focusFirst(list);
    window.scrollTo({ top: 0 });
    // A long text may exceed the model's limit; its beginning is enough to find similar ones.
    const q = hit.text.trim().split(/\s+/).slice(0, MAX_QUERY_WORDS).join(" ");
    this.change({ q }, { push: true, now: true });
  }

  working(isBusy, place) {
    byId("working").hidden = !isBusy;
    place.classList.toggle("waiting", isBusy);
    place.setAttribute("aria-busy", String(isBusy));
  }

  #opened(indexes, models) {
    clearNotice(byId("trouble"));
    this.indexes = indexes;
    this.models = models;
    this.ready = true;
    byId("key-button").hidden = !storedKey();
    const items = indexes.map(({ name, items: number }) => `${name}, ${count(number, "item", "items")}`);
    byId("about").textContent = `${[...items, `${count(models.length, "model", "models")}: ${models.join(", ")}`].join(" · ")}. Texts and queries are sent to this server only.`;
    this.#update(true);
  }

  #update(now) {
    const { tab, q } = this.state;
    if (this.box.value !== q) this.box.value = q;
    byId("slash").hidden = Boolean(q);
    const subject = tab === "heatmap" ? "Heat map" : q.slice(0, 60);
    document.title = subject ? `${subject} – sentenc` : "sentenc";
    if (this.ready) this.views[tab].update({ now });
  }

  #keep(push) {
    const address = `#${toHash(this.state)}`;
    if (address === location.hash || address.length > MAX_HASH_CHARACTERS) return;
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  }

  #open(tab, { focus }) {
    if (tab !== this.state.tab) {
      this.state.tab = tab;
      this.#keep(true);
    }
    this.#show({ focus });
  }

  #show({ focus }) {
    const open = this.state.tab;
    for (const tab of TABS) {
      const button = byId(`tab-${tab}`);
      button.setAttribute("aria-selected", String(tab === open));
      button.tabIndex = tab === open ? 0 : -1;
      byId(`panel-${tab}`).hidden = tab !== open;
      if (tab !== open) this.views[tab].leave();
      else if (focus) button.focus();
    }
    byId("query-form").hidden = open === "heatmap";
    this.#update(true);
  }

  #listen() {
    this.box.addEventListener("input", () => this.change({ q: this.box.value }));
    byId("query-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.change({ q: this.box.value }, { push: true, now: true });
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" && this.views[this.state.tab].enter()) event.preventDefault();
    });
    for (const tab of TABS) {
      byId(`tab-${tab}`).addEventListener("click", () => this.#open(tab, { focus: false }));
    }
    document.querySelector('[role="tablist"]').addEventListener("keydown", (event) => this.#alongTabs(event));
    document.addEventListener("keydown", (event) => this.#shortcut(event));
    // "Back" and "forward" change the state too; a link to #main does not.
    window.addEventListener("popstate", () => {
      this.state = { ...START, ...fromHash() };
      this.#show({ focus: false });
    });
    byId("skip").addEventListener("click", (event) => {
      event.preventDefault();
      byId("main").focus();
    });
    listenToTheme();
    listenForKey(() => {
      byId("key-button").hidden = false;
    });
    byId("key-button").addEventListener("click", async () => {
      const key = await askKey(false, true);
      if (!key) return;
      storeKey(key);
      this.inventory.request({ now: true });
    });
  }

  #alongTabs(event) {
    const at = TABS.indexOf(this.state.tab);
    const last = TABS.length - 1;
    const to = {
      ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#open(TABS[to], { focus: true });
  }

  #shortcut(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    event.preventDefault();
    if (this.state.tab === "heatmap") this.#open("search", { focus: false });
    this.box.focus();
    this.box.select();
  }
}

function toHash(state) {
  const values = new URLSearchParams();
  for (const name of SHARED[state.tab]) {
    if (state[name] !== START[name]) values.set(name, state[name]);
  }
  const rest = values.toString();
  return rest ? `${state.tab}?${rest}` : state.tab;
}

function fromHash() {
  const [tab, rest = ""] = location.hash.slice(1).split(/\?(.*)/s);
  const values = new URLSearchParams(rest);
  const state = TABS.includes(tab) ? { tab } : {};
  for (const name of ["q", "index", "mode", "queries", "where", "a", "b", "model", "texts"]) {
    if (values.has(name)) state[name] = values.get(name);
  }
  if (COUNTS.includes(Number(values.get("k")))) state.k = Number(values.get("k"));
  if (values.get("group") === "true") state.group = true;
  return state;
}

function listenToTheme() {
  const button = byId("theme-button");
  const name = () => {
    button.textContent = `Theme: ${window.sentencTheme.choice}`;
  };
  button.addEventListener("click", () => window.sentencTheme.next());
  document.addEventListener("themechange", name);
  name();
}

let resolveKey = null;

// Resolves to the key, or to null if the user closes the dialog.
function askKey(wasRefused, isChange = false) {
  byId("key-title").textContent = isChange ? "Change the API key" : "This server requires an API key";
  byId("key-text").textContent = wasRefused ? "The key was not accepted." : "";
  byId("key").value = "";
  byId("key-dialog").showModal();
  return new Promise((resolve) => {
    resolveKey = resolve;
  });
}

function listenForKey(onKey) {
  const dialog = byId("key-dialog");
  onKeyNeeded(askKey);
  byId("key-cancel").addEventListener("click", () => dialog.close());
  byId("key-form").addEventListener("submit", () => dialog.close("entered"));
  dialog.addEventListener("close", () => {
    const key = dialog.returnValue === "entered" ? byId("key").value.trim() : "";
    dialog.returnValue = "";
    byId("key").value = "";
    if (key) onKey();
    resolveKey?.(key || null);
    resolveKey = null;
  });
}

new App();
