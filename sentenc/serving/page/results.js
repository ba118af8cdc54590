// A list of results, each with its score, a bar, its text and its payload.

import { el, signed } from "./dom.js";
import { filterFor } from "./filters.js";

const MAX_CHARACTERS = 600; // of a text before “Show all” is pressed
const MAX_LABELS = 6;

// Identifies an item by its text, because two indexes may give it different ids; by its id if it has no text.
export const identity = (hit) => (hit.text === null ? `id ${hit.id}` : `text ${hit.text}`);

// Shows results in a list; the focus stays at its rank.
export function showResults(list, hits, { isCosine, query, onSimilar, onFilter = null, describe = () => null }) {
  const focused = similarButtons(list).indexOf(document.activeElement);
  const words = contentWords(query);
  // Only cosines have an upper bound.
  const scale = isCosine ? 1 : Math.max(...hits.map((hit) => sum(parts(hit))), 1e-9);
  list.replaceChildren(
    ...hits.map((hit, rank) => item(hit, rank, { scale, words, onSimilar, onFilter, note: describe(hit, rank) })),
  );
  if (focused >= 0) similarButtons(list)[Math.min(focused, hits.length - 1)]?.focus();
}

const similarButtons = (list) => [...list.querySelectorAll(".similar:not([hidden])")];

function item(hit, rank, { scale, words, onSimilar, onFilter, note }) {
  const similar = el(
    "button",
    { type: "button", class: "similar", tabindex: rank === 0 ? 0 : -1, onclick: () => onSimilar(hit) },
    "More like this",
  );
  const named = hit.text ?? `item ${hit.id}`;
  similar.setAttribute("aria-label", `More like this: result ${rank + 1}, ${named.slice(0, 120)}`);
  if (hit.text === null) similar.hidden = true;
  const node = el(
    "li",
    { class: note ? `hit ${note.kind}` : "hit", "data-identity": identity(hit) },
    el(
      "div",
      { class: "score" },
      el(
        "span",
        { class: "figures" },
        el("span", { class: "number" }, signed(hit.score, 3)),
        el("span", { class: "rank", "aria-hidden": "true" }, String(rank + 1)),
      ),
      bar(hit, scale),
    ),
    el(
      "div",
      { class: "what" },
      textOf(hit, hit.words?.length ? new Set(hit.words.map((word) => word.toLowerCase())) : words),
      el("div", { class: "labels" }, ...labels(hit, onFilter), note ? el("span", { class: "other-rank" }, note.text) : null, similar),
    ),
  );
  return node;
}

// The parts of a score that a bar shows: meaning and words, or one of them. A negative part has no length.
function parts(hit) {
  const isSum = typeof hit.semantic === "number" && typeof hit.lexical === "number";
  const single = typeof hit.lexical === "number" ? { words: hit.score } : { meaning: hit.score };
  return Object.entries(isSum ? { meaning: hit.semantic, words: hit.lexical } : single).map(([name, value]) => [
    name,
    Math.max(value, 0),
  ]);
}

const sum = (named) => named.reduce((total, [, value]) => total + value, 0);

function bar(hit, scale) {
  const fills = parts(hit).map(([name, value]) => {
    const fill = el("span", { class: `fill ${name}` });
    fill.style.width = `${(100 * Math.min(value / scale, 1)).toFixed(1)}%`;
    return fill;
  });
  const title = fills.length > 1 ? `meaning ${signed(hit.semantic, 2)}, words ${signed(hit.lexical, 2)}` : null;
  return el("span", { class: "bar", role: title ? "img" : null, "aria-label": title, title, "aria-hidden": title ? null : "true" }, ...fills);
}

function textOf(hit, words) {
  if (hit.text === null) {
    return el("p", { class: "text no-text" }, `Item ${hit.id}: the index contains its vector, but not its text.`);
  }
  if (hit.text === "") return el("p", { class: "text no-text" }, "This text is empty.");
  const best = hit.passage ?? hit.text;
  const text = el("p", { class: "text", dir: "auto" }, hit.span?.[0] > 0 ? "… " : "", ...marked(best.slice(0, MAX_CHARACTERS), words));
  if (best.length > MAX_CHARACTERS || best.length < hit.text.length) {
    const more = el("button", { type: "button", class: "link" }, "Show all");
    more.addEventListener("click", () => text.replaceChildren(...wholeText(hit, words)));
    text.append("… ", more);
  }
  return text;
}

// The whole text, with its best passage highlighted. A span counts code points, and a string UTF-16 units.
function wholeText(hit, words) {
  if (!hit.span) return marked(hit.text, words);
  const characters = Array.from(hit.text);
  const [before, after] = [characters.slice(0, hit.span[0]), characters.slice(hit.span[1])];
  return [before.join(""), el("span", { class: "passage" }, ...marked(hit.passage, words)), after.join("")];
}

function labels(hit, onFilter) {
  const entries = Object.entries(hit.payload ?? {});
  const shown = entries.slice(0, MAX_LABELS).map(([name, value]) => {
    const words = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
    const content = [el("span", { class: "name" }, name), " ", words.length > 60 ? `${words.slice(0, 60)}…` : words];
    const filter = onFilter && filterFor(name, value);
    if (!filter) return el("span", { class: "label", title: `${name}: ${words}` }, ...content);
    // The results are a single tab stop: on a keyboard, filters are typed.
    const attributes = { type: "button", class: "label", tabindex: -1, title: `Filter: ${filter}` };
    return el("button", { ...attributes, onclick: () => onFilter(filter) }, ...content);
  });
  if (entries.length > MAX_LABELS) shown.push(el("span", { class: "label" }, `and ${entries.length - MAX_LABELS} more`));
  if (typeof hit.id === "string") shown.unshift(el("span", { class: "label" }, el("span", { class: "name" }, "id"), ` ${hit.id}`));
  return shown;
}

// Words that a text shares with the query are marked: a result without any was found by meaning alone.
const COMMON = new Set(
  "a an and are as at be been but by for from has have he her his in into is it its no not of on or our she that the their them there they this to was we were what when where which who why will with you your".split(" "),
);

function contentWords(query) {
  const words = query.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return new Set(words.filter((word) => !COMMON.has(word)));
}

function marked(text, words) {
  return text
    .split(/([\p{L}\p{N}]+)/u)
    .filter((part) => part !== "")
    .map((part) => (words.has(part.toLowerCase()) ? el("mark", {}, part) : part));
}

// Lets the arrow keys move along a list, and from its top back to the query box.
export function moveThrough(list, box) {
  list.addEventListener("focusin", (event) => {
    if (!event.target.matches(".similar")) return;
    for (const button of similarButtons(list)) button.tabIndex = button === event.target ? 0 : -1;
  });
  list.addEventListener("keydown", (event) => {
    const all = similarButtons(list);
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Escape" || to === -1) box.focus();
    else if (to !== undefined) all[Math.min(to, all.length - 1)].focus();
    else return;
    event.preventDefault();
  });
}

export function focusFirst(list) {
  const [first] = similarButtons(list);
  first?.focus();
  return first !== undefined;
}
