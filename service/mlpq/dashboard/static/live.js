// While the page shows something unfinished, fetch it repeatedly and replace what has changed.
"use strict";

const MIN_DELAY = 2000; // milliseconds between two updates
const DELAY_FACTOR = 4; // at least this many times the duration of an update, so that slow pages load the server little

function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(document.adoptNode(fresh));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = fresh.data;
    return;
  }
  const kept = old.nodeName === "DETAILS" ? ["open"] : []; // keep details open that the user has opened
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
  morphChildren(old, fresh);
}

// Children with an id are matched by it, the others by their position between those.
function morphChildren(old, fresh) {
  const later = new Set([...fresh.children].map((child) => child.id).filter(Boolean));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    later.delete(child.id);
    let same = child.id ? at : null;
    while (same && same.id !== child.id) same = same.nextSibling;
    if (same) while (at !== same) at = drop(at);
    if (!at || later.has(at.id)) {
      old.insertBefore(document.adoptNode(child), at);
    } else {
      const next = at.nextSibling;
      morph(at, child);
      at = next;
    }
  }
  while (at) at = drop(at);
}

function drop(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function report(problem) {
  const connection = document.getElementById("connection");
  if (connection.textContent !== problem) connection.textContent = problem;
  connection.hidden = !problem;
}

async function update() {
  const main = document.getElementById("main");
  const headers = main.dataset.etag ? { "If-None-Match": main.dataset.etag } : {};
  let response, text;
  try {
    response = await fetch(location.href, { headers, cache: "no-store" });
    text = await response.text();
  } catch {
    report("The dashboard does not respond; retrying.");
    return;
  }
  if (response.status === 304) return report("");
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.getElementById("main");
  if (!fresh || response.status === 503) return report(page.getElementById("problem")?.textContent ?? "Invalid response; retrying.");
  report("");
  document.title = page.title;
  morph(main, fresh);
  await Promise.allSettled([...main.querySelectorAll("img")].map((image) => image.decode()));
}

let timer = null;
let updating = false;

async function updateIfVisible() {
  timer = null;
  if (updating || document.hidden || !("live" in document.getElementById("main").dataset)) return;
  updating = true;
  const began = performance.now();
  await update().finally(() => (updating = false));
  schedule(Math.max(MIN_DELAY, DELAY_FACTOR * (performance.now() - began)));
}

function schedule(delay) {
  if (timer === null && !document.hidden) timer = setTimeout(updateIfVisible, delay);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  timer = null;
  schedule(0);
});
schedule(MIN_DELAY);
