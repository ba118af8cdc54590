// The heat map view: the similarities of sentences with each other.

import { request } from "./api.js";
import { colors, drawLegend } from "./colors.js";
import { byId, chip, count, el, fillSelect, milliseconds, signed } from "./dom.js";
import { SENTENCES } from "./examples.js";
import { Live } from "./live.js";
import { clearNotice, showNotice } from "./notice.js";

const MAX_SENTENCES = 40;
// Sizes of a cell in pixels.
const MIN_CELL_WITH_VALUE = 30; // smaller cells show their color only
const MIN_CELL_WITH_LARGE_FIGURES = 44;
const MAX_CELL = 88;
const MIN_CELL = 16;

export class HeatmapView {
  constructor(app) {
    this.app = app;
    this.box = byId("sentences");
    this.model = byId("model");
    this.group = byId("group");
    this.table = byId("matrix");
    this.answer = null;
    this.live = new Live({
      delay: 250,
      work: async (signal) => {
        const texts = this.#texts().slice(0, MAX_SENTENCES);
        const started = performance.now();
        const answer = await request("similarity", { body: { texts, model: this.#model() }, signal });
        return { texts, model: answer.model, matrix: answer.similarities, roundTrip: performance.now() - started };
      },
      done: (answer) => {
        clearNotice(byId("heatmap-notice"));
        this.answer = answer;
        this.#draw();
      },
      failed: (error, retryIn) => {
        showNotice(byId("heatmap-notice"), error, { retryIn, retry: () => this.live.request({ now: true }) });
        byId("heat").classList.add("waiting");
      },
      busy: (isBusy) => byId("heat").classList.toggle("waiting", isBusy),
    });
    byId("heatmap-examples").append(
      ...Object.entries(SENTENCES).map(([name, sentences]) =>
        chip(name, () => app.change({ texts: sentences.join("\n") }, { push: true, now: true })),
      ),
    );
    this.box.addEventListener("input", () => app.change({ texts: this.box.value }));
    this.model.addEventListener("change", () => app.change({ model: this.model.value }));
    this.group.addEventListener("change", () => app.change({ group: this.group.checked }));
    document.addEventListener("themechange", () => this.#draw());
    new ResizeObserver(() => this.#size()).observe(byId("heat-scroll"));
    this.#listen();
  }

  enter() {
    const cell = this.table.querySelector('td[tabindex="0"]');
    cell?.focus();
    return Boolean(cell);
  }

  leave() {
    this.live.cancel();
  }

  update({ now = false } = {}) {
    const { state, models } = this.app;
    if (this.box.value !== state.texts) this.box.value = state.texts;
    this.group.checked = state.group;
    fillSelect(this.model, models.map((name) => [name, name]), this.#model());
    const texts = this.#texts();
    byId("heatmap-status").textContent = tooMany(texts.length);
    byId("heatmap-empty").hidden = texts.length > 0;
    if (texts.length < 2) {
      this.live.cancel();
      this.answer = null;
      byId("heat").hidden = true;
      clearNotice(byId("heatmap-notice"));
      return;
    }
    const compared = texts.slice(0, MAX_SENTENCES);
    if (this.answer?.model === this.#model() && same(this.answer.texts, compared)) {
      this.#draw();
      return;
    }
    this.live.request({ now });
  }

  #texts() {
    return this.app.state.texts.split("\n").map((line) => line.trim()).filter(Boolean);
  }

  #model() {
    const { state, models } = this.app;
    return models.includes(state.model) ? state.model : models[0];
  }

  #draw() {
    if (!this.answer) return;
    const { texts, matrix, roundTrip } = this.answer;
    const isDark = window.sentencTheme.isDark;
    const order = this.app.state.group ? grouped(matrix) : texts.map((_, i) => i);
    this.order = order;
    const head = el("tr", {}, el("th", { scope: "col" }, el("span", { class: "visually-hidden" }, "Sentence")),
      ...order.map((column) => el("th", { scope: "col", title: texts[column] }, String(column + 1))));
    const rows = order.map((row, y) =>
      el("tr", {},
        el("th", { scope: "row", title: texts[row] }, el("span", { class: "at" }, String(row + 1)), el("span", { class: "sentence", dir: "auto" }, texts[row])),
        ...order.map((column, x) => this.#cell(matrix[row][column], y, x, row, column, isDark))),
    );
    this.table.replaceChildren(
      el("caption", { class: "visually-hidden" }, `Cosine similarity of ${texts.length} sentences; arrow keys move`),
      el("thead", {}, head), el("tbody", {}, ...rows));
    byId("heat").hidden = false;
    drawLegend(byId("legend"), isDark);
    this.#size();
    const all = this.#texts().length;
    byId("heatmap-status").textContent = all > MAX_SENTENCES ? tooMany(all) : `${count(texts.length, "sentence", "sentences")} · round trip ${milliseconds(roundTrip)}`;
    this.#read(null);
  }

  #cell(value, y, x, row, column, isDark) {
    const cell = el("td", { tabindex: y === 0 && x === 0 ? 0 : -1, "data-y": y, "data-x": x }, signed(value, 2));
    const { background, text } = colors(value, isDark);
    cell.style.backgroundColor = background;
    cell.style.color = text;
    if (row === column) cell.classList.add("self");
    return cell;
  }

  #size() {
    if (!this.answer) return;
    const number = this.answer.texts.length;
    const width = byId("heat-scroll").clientWidth;
    const names = width < 560 ? 24 : Math.min(300, width * 0.34);
    const gaps = 2 * (number + 2) + 6; // border-spacing and the padding around the table
    const size = Math.floor((width - names - gaps) / number);
    const cell = Math.min(Math.max(size, MIN_CELL), MAX_CELL);
    this.table.style.setProperty("--cell", `${cell}px`);
    this.table.style.setProperty("--names", `${names}px`);
    this.table.classList.toggle("narrow", width < 560);
    this.table.classList.toggle("tight", cell < MIN_CELL_WITH_LARGE_FIGURES);
    this.table.classList.toggle("small", cell < MIN_CELL_WITH_VALUE);
  }

  #listen() {
    this.table.addEventListener("mouseover", (event) => this.#read(event.target.closest("td")));
    this.table.addEventListener("mouseleave", () => this.#read(this.table.querySelector("td:focus")));
    this.table.addEventListener("click", (event) => event.target.closest("td")?.focus());
    this.table.addEventListener("focusin", (event) => this.#read(event.target.closest("td")));
    this.table.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td");
      if (!cell) return;
      const last = this.answer.texts.length - 1;
      const at = [Number(cell.dataset.y), Number(cell.dataset.x)];
      const [y, x] = {
        ArrowDown: [at[0] + 1, at[1]], ArrowUp: [at[0] - 1, at[1]], ArrowRight: [at[0], at[1] + 1],
        ArrowLeft: [at[0], at[1] - 1], Home: [at[0], 0], End: [at[0], last],
      }[event.key] ?? [];
      if (y === undefined) return;
      event.preventDefault();
      const next = this.table.querySelector(`td[data-y="${clamp(y, last)}"][data-x="${clamp(x, last)}"]`);
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  // Shows the value and the two sentences of a cell, and highlights its row and column.
  #read(cell) {
    for (const marked of this.table.querySelectorAll(".on")) marked.classList.remove("on");
    const place = byId("reading");
    if (!cell || !this.answer) {
      place.replaceChildren(el("span", { class: "hint" }, "Tap or point at a cell, or move with the arrow keys."));
      return;
    }
    const { texts, matrix } = this.answer;
    const [row, column] = [this.order[cell.dataset.y], this.order[cell.dataset.x]];
    this.table.querySelectorAll("tbody th")[cell.dataset.y].classList.add("on");
    this.table.querySelectorAll("thead th")[Number(cell.dataset.x) + 1].classList.add("on");
    place.replaceChildren(
      el("strong", {}, signed(matrix[row][column], 3)),
      el("span", {}, el("span", { class: "at" }, String(row + 1)), ` ${texts[row]}`),
      el("span", {}, el("span", { class: "at" }, String(column + 1)), ` ${texts[column]}`),
    );
  }
}

const clamp = (value, last) => Math.min(Math.max(value, 0), last);

const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

function tooMany(number) {
  if (number > MAX_SENTENCES) return `${number} sentences: only the first ${MAX_SENTENCES} are shown.`;
  return number === 1 ? "Add a second sentence to compare with." : "";
}

// Orders sentences so that similar ones are neighbors: starts with the sentence that is most similar to all,
// then always continues with the remaining one that is most similar to the last.
function grouped(matrix) {
  const left = new Set(matrix.keys());
  const total = (row) => matrix[row].reduce((sum, value) => sum + value, 0);
  const best = (score) => [...left].reduce((a, b) => (score(b) > score(a) ? b : a));
  const order = [];
  while (left.size) {
    const last = order.at(-1);
    const next = best(last === undefined ? total : (row) => matrix[last][row]);
    order.push(next);
    left.delete(next);
  }
  return order;
}
