// The compare view: the same query on two indexes, side by side.

import { byId, count, el, fillSelect } from "./dom.js";
import { Live } from "./live.js";
import { clearNotice, showNotice } from "./notice.js";
import { focusFirst, identity, moveThrough, showResults } from "./results.js";
import { COUNTS, ask, exampleChips, timing, withoutIndex } from "./search.js";

const SIDES = ["a", "b"];

export class CompareView {
  constructor(app) {
    this.app = app;
    this.lists = { a: byId("results-a"), b: byId("results-b") };
    this.selects = { a: byId("index-a"), b: byId("index-b") };
    this.count = byId("compare-count");
    this.live = new Live({
      work: async (signal) => {
        const { q, k } = app.state;
        const [a, b] = await Promise.all(SIDES.map((side) => ask(q, this.#name(side), k, signal, { mode: "vector" })));
        return { a, b };
      },
      done: (answers) => this.#show(answers),
      failed: (error, retryIn) => {
        showNotice(byId("compare-notice"), error, { retryIn, retry: () => this.live.request({ now: true }) });
        byId("compare-status").textContent = "";
        byId("columns").classList.add("waiting");
      },
      busy: (isBusy) => app.working(isBusy, byId("columns")),
    });
    fillSelect(this.count, COUNTS.map((k) => [k, `${k} each`]), app.state.k);
    this.count.addEventListener("change", () => app.change({ k: Number(this.count.value) }));
    for (const side of SIDES) {
      this.selects[side].addEventListener("change", () => app.change({ [side]: this.selects[side].value }));
      moveThrough(this.lists[side], app.box);
      this.lists[side].addEventListener("mouseover", (event) => this.#point(event));
      this.lists[side].addEventListener("focusin", (event) => this.#point(event));
      this.lists[side].addEventListener("mouseleave", () => this.#point(null));
      this.lists[side].addEventListener("keydown", (event) => this.#cross(event, side));
    }
  }

  enter() {
    return focusFirst(this.lists.a);
  }

  leave() {
    this.live.cancel();
  }

  update({ now = false } = {}) {
    const { state, indexes } = this.app;
    const able = indexes.length > 1;
    for (const side of SIDES) {
      fillSelect(this.selects[side], indexes.map((index) => [index.name, `${index.name} (${index.model})`]), this.#name(side));
    }
    this.count.value = String(state.k);
    byId("panel-compare").classList.toggle("without-index", !able);
    byId("columns").hidden = !able;
    if (!able || !state.q.trim()) {
      this.live.cancel();
      this.#clear();
      byId("compare-empty").replaceChildren(able ? this.#invitation() : indexes.length ? onlyOne() : withoutIndex("compare"));
      return;
    }
    byId("compare-empty").replaceChildren();
    this.live.request({ now });
  }

  // The index of a side: the chosen one; by default the first for A and the second for B.
  #name(side) {
    const { state, indexes } = this.app;
    const chosen = indexes.find(({ name }) => name === state[side]);
    return (chosen ?? indexes[SIDES.indexOf(side)] ?? indexes[0])?.name;
  }

  #clear() {
    clearNotice(byId("compare-notice"));
    byId("compare-status").textContent = "";
    for (const side of SIDES) {
      this.lists[side].replaceChildren();
      byId(`status-${side}`).textContent = "";
    }
  }

  #show(answers) {
    clearNotice(byId("compare-notice"));
    const ranks = {};
    for (const side of SIDES) {
      ranks[side] = new Map();
      answers[side].results.forEach((hit, rank) => {
        if (!ranks[side].has(identity(hit))) ranks[side].set(identity(hit), rank);
      });
    }
    for (const side of SIDES) {
      const other = side === "a" ? "b" : "a";
      const index = this.app.indexes.find(({ name }) => name === answers[side].index);
      showResults(this.lists[side], answers[side].results, {
        isCosine: index?.metric !== "dot",
        query: answers[side].query,
        onSimilar: (hit) => this.app.moreLike(hit, this.lists[side]),
        describe: (hit, rank) => difference(rank, ranks[other].get(identity(hit)), side, other),
      });
      byId(`status-${side}`).textContent = `${count(index?.items ?? 0, "item", "items")} · ${timing(answers[side])}`;
    }
    const both = [...ranks.a.keys()].filter((key) => ranks.b.has(key));
    const moved = both.filter((key) => ranks.a.get(key) !== ranks.b.get(key)).length;
    byId("compare-status").replaceChildren(
      el("strong", {}, `${both.length} of ${Math.max(ranks.a.size, ranks.b.size)} in both`),
      el("span", { class: "timing" }, both.length ? `${both.length - moved} at the same rank` : ""),
    );
  }

  // Highlights the item under the pointer or in focus on both sides.
  #point(event) {
    const key = event?.target.closest(".hit")?.dataset.identity;
    for (const hit of byId("columns").querySelectorAll(".hit")) {
      hit.classList.toggle("pointed", key !== undefined && hit.dataset.identity === key);
    }
  }

  // The left and right arrow keys move to the other column at the same rank.
  #cross(event, side) {
    const other = { ArrowRight: "b", ArrowLeft: "a" }[event.key];
    if (!other || other === side) return;
    const here = [...this.lists[side].querySelectorAll(".similar")].indexOf(document.activeElement);
    const there = this.lists[other].querySelectorAll(".similar");
    if (here < 0 || !there.length) return;
    there[Math.min(here, there.length - 1)].focus();
    event.preventDefault();
  }

  #invitation() {
    const chips =
      exampleChips(this.#name("a"), (q) => this.app.change({ q }, { push: true, now: true }));
    return el(
      "div",
      { class: "empty" },
      el("h2", {}, "One query, two encoders"),
      el("p", {}, "Results of both sides are marked with their rank on the other side."),
      chips ? el("p", { class: "lead" }, "For example") : null,
      chips,
    );
  }
}

function difference(rank, there, side, other) {
  const name = other.toUpperCase();
  if (there === undefined) return { kind: "alone", text: `only in ${side.toUpperCase()}` };
  const places = Math.abs(rank - there);
  if (!places) return { kind: "both", text: `= same rank in ${name}` };
  const many = places === 1 ? "1 place" : `${places} places`;
  return { kind: "both", text: there < rank ? `▲ ${many} higher in ${name}` : `▼ ${many} lower in ${name}` };
}

function onlyOne() {
  return el(
    "div",
    { class: "empty" },
    el("h2", {}, "One index is loaded; comparing needs two"),
    el("p", {}, "Start the server with two indexes, for example of the same texts by two models:"),
    el("pre", {}, el("code", {}, "sentenc serve cse-en --index my-index --index my-other-index")),
    el("p", {}, "“sentenc demo” serves two indexes to compare."),
  );
}
