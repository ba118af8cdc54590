// Notices about errors: what went wrong and what the user can do.

import { askAgain } from "./api.js";
import { el } from "./dom.js";

const WORDS = {
  offline: ["The server does not answer", "Check whether it is still running. Your input is kept."],
  key: ["The server requires an API key", "It was started with --api-key and refuses requests without the key."],
  busy: ["The server is busy", "Your request is kept and will be sent again."],
  starting: ["The server is not ready", "Your request is kept and will be sent again."],
  slow: ["This took too long", "The request exceeded the server's timeout. Please try again later."],
  refused: ["The server refused the request", ""],
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
  // A retry that fails with the same error is not announced again.
  if (shown?.dataset.kind === error.kind) {
    shown.querySelector("p").replaceWith(body);
    return;
  }
  place.replaceChildren(
    el("div", { class: "notice", role: "alert", "data-kind": error.kind }, el("strong", {}, title), body, act),
  );
}
