// Creates elements without HTML strings, so that a text is never interpreted as HTML.

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function fillSelect(select, options, chosen) {
  select.replaceChildren(
    ...options.map(([value, label]) => {
      const option = el("option", { value }, label);
      option.selected = String(value) === String(chosen);
      return option;
    }),
  );
}

export const count = (number, one, many) =>
  `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// Formats a number with a real minus sign, and without one if it rounds to zero.
export function signed(value, digits) {
  const text = value.toFixed(digits);
  return /[1-9]/.test(text) ? text.replace("-", "−") : text.replace("-", "");
}

export function milliseconds(value) {
  if (!Number.isFinite(value)) return "–";
  return `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} ms`;
}

export function chip(label, onclick) {
  return el("button", { type: "button", class: "chip", onclick }, label);
}
