// What went wrong, in words, and what to do about it.

import { askAgain } from "./api.js";
import { el } from "./dom.js";

const WORDS = {
  offline: ["The server does not answer", "Is it still running? Its terminal says so. What you typed is kept."],
  key: ["The server asks for an API key", "It was started with --api-key. Nothing is shown without the key."],
  busy: ["The server is busy", "What you asked is kept, and sent again."],
  starting: ["The server is not ready", "What you asked is kept, and sent again."],
  slow: ["This took too long", "The server gave up on it. A moment later it may be quicker."],
  refused: ["The server refused this", ""],
  broken: ["Something went wrong on the server", "Its log has the details."],
};

function sentence(message) {
  if (!message) return "";
  return message[0].toUpperCase() + message.slice(1) + (/[.!?]$/.test(message) ? "" : ".");
}

export function clearNotice(place) {
  place.replaceChildren();
}

export function showNotice(place, error, { retryIn = null, retry }) {
  const [title, advice] = WORDS[error.kind] ?? WORDS.broken;
  const again = retryIn === null ? "" : ` Trying again in ${Math.ceil(retryIn)} s.`;
  const body = el("p", {}, [sentence(error.message), advice].filter(Boolean).join(" ") + again);
  const act = el(
    "button",
    {
      type: "button",
      onclick: () => {
        askAgain();
        retry();
      },
    },
    error.kind === "key" ? "Enter the key" : "Try again",
  );
  const shown = place.firstElementChild;
  // The same trouble again (a retry that failed) is not announced again.
  if (shown?.dataset.kind === error.kind) {
    shown.querySelector("p").replaceWith(body);
    return;
  }
  place.replaceChildren(
    el("div", { class: "notice", role: "alert", "data-kind": error.kind }, el("strong", {}, title), body, act),
  );
}
