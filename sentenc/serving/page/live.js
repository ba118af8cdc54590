// Requests while the user types: waits for a pause, cancels outdated requests, and retries while the server
// is busy or starting.

import { ApiError } from "./api.js";

const TRANSIENT = new Set(["busy", "starting", "offline"]);
const RETRY_SECONDS = 2; // if the server sends no Retry-After
const MAX_TRIES = 30;

export class Live {
  // `work(signal)` fetches the answer, and `done(answer)` shows it. `failed(error, retryIn)` shows an error;
  // `retryIn` is in seconds, or null. `busy(isBusy)` is called when a request is noticeably slow, and at its end.
  constructor({ work, done, failed, busy = () => {}, delay = 110 }) {
    Object.assign(this, { work, done, failed, busy, delay });
    this.timer = null;
    this.slow = null;
    this.controller = null;
    this.tries = 0;
  }

  request({ now = false } = {}) {
    this.cancel();
    this.tries = 0;
    this.timer = setTimeout(() => this.#run(), now ? 0 : this.delay);
  }

  cancel() {
    clearTimeout(this.timer);
    this.controller?.abort();
    this.controller = null;
    this.#quiet();
  }

  async #run() {
    const controller = new AbortController();
    this.controller = controller;
    this.slow = setTimeout(() => this.busy(true), 150);
    let answer;
    try {
      answer = await this.work(controller.signal);
    } catch (error) {
      if (this.controller !== controller) return; // outdated
      this.#quiet();
      this.#fail(error instanceof ApiError ? error : unexpected(error));
      return;
    }
    if (this.controller !== controller) return;
    this.#quiet();
    this.tries = 0;
    try {
      this.done(answer);
    } catch (error) {
      this.failed(unexpected(error), null);
    }
  }

  #fail(error) {
    this.tries += 1;
    if (!TRANSIENT.has(error.kind) || this.tries > MAX_TRIES) {
      this.failed(error, null);
      return;
    }
    const seconds = error.retryAfter ?? RETRY_SECONDS;
    this.failed(error, seconds);
    this.timer = setTimeout(() => this.#run(), seconds * 1000);
  }

  #quiet() {
    clearTimeout(this.slow);
    this.busy(false);
  }
}

function unexpected(error) {
  console.error(error);
  return new ApiError("broken", "This page cannot read the server's answer.");
}
