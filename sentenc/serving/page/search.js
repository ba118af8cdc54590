// The search view: results of one index, updated while the user types.

import { address, request } from "./api.js";
import { byId, chip, count, el, fillSelect, milliseconds } from "./dom.js";
import { QUERIES } from "./examples.js";
import { Filters } from "./filters.js";
import { Live } from "./live.js";
import { clearNotice, showNotice } from "./notice.js";
import { focusFirst, moveThrough, showResults } from "./results.js";

export const COUNTS = [5, 10, 20, 50, 100];

const SPEEDS = { fast: "fast query", exact: "exact query" };
const MODES = { hybrid: "meaning and words", vector: "meaning", lexical: "words" };

// Searches one index; returns the answer with the time of the round trip in milliseconds.
export async function ask(query, index, k, signal, { mode = null, queries = null, where = [] } = {}) {
  const started = performance.now();
  const body = { query, k, index, mode, queries, ...(where.length ? { where } : {}) };
  const answer = await request("search", { body, signal });
  return { ...answer, query, k, where, roundTrip: performance.now() - started };
}

export const timing = (answer) =>
  `encode ${milliseconds(answer.took_ms?.encode)} · search ${milliseconds(answer.took_ms?.search)} · ` +
  `round trip ${milliseconds(answer.roundTrip)}`;

export function exampleChips(index, onquery) {
  const queries = QUERIES[index] ?? [];
  if (!queries.length) return null;
  return el("div", { class: "chips" }, ...queries.map((query) => chip(query, () => onquery(query))));
}

export class SearchView {
  constructor(app) {
    this.app = app;
    this.list = byId("results");
    this.index = byId("index");
    this.count = byId("count");
    this.mode = byId("mode");
    this.speed = byId("speed");
    this.filters = new Filters((where) => app.change({ where }, { push: true, now: true }));
    this.live = new Live({
      work: (signal) => ask(app.state.q, this.#name(), app.state.k, signal, { mode: this.#mode(), queries: this.#speed(), where: this.filters.active }),
      done: (answer) => this.#show(answer),
      failed: (error, retryIn) => {
        showNotice(byId("search-notice"), error, { retryIn, retry: () => this.live.request({ now: true }) });
        byId("search-status").textContent = "";
        this.list.classList.add("waiting"); // the results shown belong to an older query
      },
      busy: (isBusy) => app.working(isBusy, this.list),
    });
    fillSelect(this.count, COUNTS.map((k) => [k, count(k, "result", "results")]), app.state.k);
    this.index.addEventListener("change", () => app.change({ index: this.index.value }));
    this.count.addEventListener("change", () => app.change({ k: Number(this.count.value) }));
    this.mode.addEventListener("change", () => app.change({ mode: this.mode.value }));
    this.speed.addEventListener("change", () => app.change({ queries: this.speed.value }));
    moveThrough(this.list, app.box);
  }

  enter() {
    return focusFirst(this.list);
  }

  leave() {
    this.live.cancel();
  }

  update({ now = false } = {}) {
    const { state, indexes } = this.app;
    const names = indexes.map(({ name }) => name);
    byId("index-choice").hidden = names.length < 2;
    fillSelect(this.index, indexes.map((index) => [index.name, `${index.name} (${index.model})`]), this.#name());
    this.count.value = String(state.k);
    byId("mode-choice").hidden = this.#modes().length < 2;
    fillSelect(this.mode, this.#modes().map((mode) => [mode, MODES[mode]]), this.#mode());
    byId("speed-choice").hidden = this.#speeds().length < 2;
    fillSelect(this.speed, this.#speeds().map((speed) => [speed, SPEEDS[speed]]), this.#speed());
    this.filters.show(state.where);
    byId("panel-search").classList.toggle("without-index", !names.length);
    if (!names.length || !state.q.trim()) {
      this.live.cancel();
      this.#clear();
      byId("search-empty").replaceChildren(names.length ? this.#invitation() : withoutIndex());
      return;
    }
    byId("search-empty").replaceChildren();
    this.live.request({ now });
  }

  #name() {
    const { state, indexes } = this.app;
    return (indexes.find(({ name }) => name === state.index) ?? indexes[0])?.name;
  }

  // The modes that the index has, the default first.
  #modes() {
    return this.app.indexes.find(({ name }) => name === this.#name())?.modes ?? [];
  }

  #mode() {
    const modes = this.#modes();
    return modes.includes(this.app.state.mode) ? this.app.state.mode : modes[0];
  }

  // How queries can be encoded, the default first: by a fast encoder, or by that of the items.
  #speeds() {
    return this.app.indexes.find(({ name }) => name === this.#name())?.queries ?? [];
  }

  #speed() {
    const speeds = this.#speeds();
    return speeds.includes(this.app.state.queries) ? this.app.state.queries : speeds[0];
  }

  #clear() {
    clearNotice(byId("search-notice"));
    this.list.replaceChildren();
    byId("parts").hidden = true;
    byId("search-status").textContent = "";
    byId("as-request").hidden = true;
  }

  #show(answer) {
    const index = this.app.indexes.find(({ name }) => name === answer.index);
    clearNotice(byId("search-notice"));
    showResults(this.list, answer.results, {
      isCosine: answer.mode === "vector" && index?.metric !== "dot",
      query: answer.query,
      onSimilar: (hit) => this.app.moreLike(hit, this.list),
      onFilter: (filter) => this.filters.add(filter),
    });
    this.filters.suggest(answer.results);
    byId("parts").hidden = answer.mode !== "hybrid" || !answer.results.length;
    byId("search-status").replaceChildren(
      el("strong", {}, `${answer.results.length} of ${count(index?.items ?? 0, "item", "items")}`),
      el("span", { class: "timing" }, timing(answer)),
    );
    byId("search-empty").replaceChildren(answer.results.length ? "" : nothingFound(index, answer));
    byId("as-request").hidden = false;
    const mode = answer.mode === this.#modes()[0] ? {} : { mode: answer.mode };
    const queries = answer.queries === this.#speeds()[0] ? {} : { queries: answer.queries };
    const url = address("search", { q: answer.query, k: answer.k, index: answer.index, ...mode, ...queries });
    for (const filter of answer.where) url.searchParams.append("where", filter);
    byId("curl").textContent = `curl '${url.href.replaceAll("'", "%27")}'`;
  }

  #invitation() {
    const name = this.#name();
    const index = this.app.indexes.find((candidate) => candidate.name === name);
    const chips = exampleChips(name, (q) => this.app.change({ q }, { push: true, now: true }));
    return el(
      "div",
      { class: "empty" },
      el("h2", {}, index.items ? `Search ${count(index.items, "text", "texts")} by meaning` : "The index is empty"),
      el(
        "p",
        {},
        index.items
          ? "Use your own words: a result need not contain any word of the query. Shared words are underlined."
          : "Add texts with “sentenc index add” and restart the server.",
      ),
      chips ? el("p", { class: "lead" }, "For example") : null,
      chips,
    );
  }
}

function nothingFound(index, answer) {
  if (index?.items && answer.mode === "lexical" && !answer.note) return wordless();
  if (index?.items && answer.where.length) return nothingMatches(answer.note);

  return el(
    "div",
    { class: "empty" },
    el("h2", {}, index?.items ? "Nothing found" : "The index is empty"),
    el("p", {}, "Try other words: a query without any word known to the model has no results."),
  );
}

function wordless() {
  return el(
    "div",
    { class: "empty" },
    el("h2", {}, "Nothing found"),
    el("p", {}, "No text contains a word of the query. Searching by meaning needs none."),
  );
}

function nothingMatches(note) {
  const reason = note ? `${note[0].toUpperCase()}${note.slice(1)}.` : "Remove a filter, or try other words.";
  return el("div", { class: "empty" }, el("h2", {}, "Nothing found"), el("p", {}, reason));
}

export function withoutIndex(action = "search") {
  return el(
    "div",
    { class: "empty" },
    el("h2", {}, "No index is loaded"),
    el("p", {}, `To ${action}, build an index of your texts and start the server with it:`),
    el("pre", {}, el("code", {}, "sentenc index build texts.txt -o my-index\nsentenc serve cse-en --index my-index")),
    el("p", {}, "Or try the collection that ships with the package:"),
    el("pre", {}, el("code", {}, "sentenc demo")),
    el("p", {}, "The heat map needs no index."),
  );
}
