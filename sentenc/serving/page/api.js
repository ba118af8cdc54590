// Requests to the server that this page came from, and to no other.

const ROOT = new URL("../", import.meta.url);
const KEY = "sentenc-api-key";

let memoryKey = null; // used if the browser's storage is switched off
let askForKey = null;
let asking = null;
let declined = false;

export class ApiError extends Error {
  constructor(kind, message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.kind = kind; // offline, key, busy, starting, slow, refused, broken
    this.status = status;
    this.retryAfter = retryAfter; // seconds
  }
}

export function storedKey() {
  try {
    return sessionStorage.getItem(KEY) ?? memoryKey;
  } catch {
    return memoryKey;
  }
}

export function storeKey(key) {
  memoryKey = key || null;
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    // memoryKey has it.
  }
}

// Sets a handler: `handler(wasRefused)` resolves to a key, or to null if the user enters none.
export function onKeyNeeded(handler) {
  askForKey = handler;
}

export function askAgain() {
  declined = false;
}

async function obtainKey(used) {
  if (declined || !askForKey) return null;
  // Several requests may be refused at once; the user is asked once.
  asking ??= askForKey(used !== null).finally(() => {
    asking = null;
  });
  const key = await asking;
  if (key) storeKey(key);
  else declined = true;
  return key;
}

export function address(path, parameters = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return url;
}

export async function request(path, { body, signal } = {}) {
  for (;;) {
    const key = storedKey();
    const response = await send(path, body, key, signal);
    if (response.ok) return readAnswer(response);
    if (response.status === 401) {
      // Another request may have obtained a key in the meantime.
      if (storedKey() !== key || (await obtainKey(key))) continue;
    }
    throw await failure(response);
  }
}

async function send(path, body, key, signal) {
  const headers = { Accept: "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(address(path), {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("offline", "");
  }
}

async function readAnswer(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("broken", "The answer is not JSON.", { status: response.status });
  }
}

async function failure(response) {
  let message = "";
  try {
    const answer = await response.json();
    message = String(answer?.error?.message ?? "");
  } catch {
    // Most likely a proxy's error page: the status is enough.
  }
  const seconds = Number.parseFloat(response.headers.get("Retry-After"));
  return new ApiError(kindOf(response.status), message, {
    status: response.status,
    retryAfter: Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0.5), 60) : null,
  });
}

function kindOf(status) {
  if (status === 401 || status === 403) return "key";
  if (status === 429) return "busy";
  if (status === 502 || status === 503) return "starting";
  if (status === 408 || status === 504) return "slow";
  return status >= 500 ? "broken" : "refused";
}
