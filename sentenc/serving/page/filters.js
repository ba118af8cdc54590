// Filters on payloads: typed as “country=France”, or added by a click on a label of a result.

import { byId, el } from "./dom.js";

const SEPARATOR = "\n"; // between the filters in the address
const FORM = /^\s*(\{.*\}|[^\s=!<>{][^=!<>]*(=|!=|<|>).*)\s*$/s;

export class Filters {
  // `onchange(text)` is called with all filters, one per line.
  constructor(onchange) {
    this.onchange = onchange;
    this.active = [];
    this.input = byId("filter");
    byId("filter-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.add(this.input.value);
      this.input.value = "";
    });
    this.input.addEventListener("input", () => this.input.setCustomValidity(""));
    this.input.addEventListener("change", () => {
      const isWrong = this.input.value.trim() && !FORM.test(this.input.value);
      this.input.setCustomValidity(isWrong ? "Type a filter such as country=France or year>=2000" : "");
    });
  }

  add(expression) {
    const trimmed = expression.trim();
    if (trimmed && !this.active.includes(trimmed)) this.#set([...this.active, trimmed]);
  }

  // Shows the filters of the address.
  show(text) {
    this.active = text ? text.split(SEPARATOR) : [];
    byId("filters").replaceChildren(
      ...this.active.map((expression) => this.#chip(expression)),
      this.active.length > 1 ? el("button", { type: "button", class: "link", onclick: () => this.#set([]) }, "Clear") : "",
    );
  }

  // Suggests the fields of the results.
  suggest(hits) {
    const names = new Set(hits.flatMap((hit) => Object.keys(hit.payload ?? {})));
    byId("fields").replaceChildren(...[...names].sort().map((name) => el("option", { value: `${name}=` })));
  }

  #chip(expression) {
    const remove = () => {
      this.#set(this.active.filter((other) => other !== expression));
      this.input.focus();
    };
    return el(
      "button",
      { type: "button", class: "chip filter-chip", onclick: remove, "aria-label": `Remove the filter ${expression}` },
      expression,
      el("span", { class: "remove", "aria-hidden": "true" }, "×"),
    );
  }

  #set(active) {
    this.onchange(active.join(SEPARATOR));
  }
}

// Returns the filter for a value of a payload; null if the field or the value cannot be typed.
export function filterFor(name, value) {
  if (typeof value === "object" || /[=!<>{]|^\s|\s$/.test(name) || !name) return null;
  if (typeof value !== "string") return `${name}=${value}`;
  // Other strings would be read as numbers or JSON, would lose spaces, or would span lines of the address.
  const isPlain = value.trim() === value && !value.includes(SEPARATOR) && !isJson(value);
  return `${name}=${isPlain ? value : JSON.stringify(value)}`;
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
