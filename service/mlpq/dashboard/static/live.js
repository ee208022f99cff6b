// While the page shows something unfinished it is fetched again and again, and what has changed is put in place.
"use strict";

const LEAST = 2000; // milliseconds between two looks
const SHARE = 4; // and at least so many times what a look took, so that watching stays cheap where a page is dear

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
  const kept = old.nodeName === "DETAILS" ? ["open"] : []; // what a person has opened stays open
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
  morphChildren(old, fresh);
}

// Children with an id are told apart by it, the others by their place between those.
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

function say(text) {
  const trouble = document.getElementById("trouble");
  if (trouble.textContent !== text) trouble.textContent = text;
  trouble.hidden = !text;
}

async function look() {
  const main = document.getElementById("main");
  const headers = main.dataset.tag ? { "If-None-Match": main.dataset.tag } : {};
  let response, text;
  try {
    response = await fetch(location.href, { headers, cache: "no-store" });
    text = await response.text();
  } catch {
    say("The dashboard does not answer; still trying.");
    return;
  }
  if (response.status === 304) return say("");
  const page = new DOMParser().parseFromString(text, "text/html");
  const fresh = page.getElementById("main");
  if (!fresh || response.status === 503) return say(page.getElementById("problem")?.textContent ?? "No answer; still trying.");
  say("");
  document.title = page.title;
  morph(main, fresh);
  await Promise.allSettled([...main.querySelectorAll("img")].map((image) => image.decode()));
}

let timer = null;
let looking = false;

async function again() {
  timer = null;
  if (looking || document.hidden || !("live" in document.getElementById("main").dataset)) return;
  looking = true;
  const began = performance.now();
  await look().finally(() => (looking = false));
  plan(Math.max(LEAST, SHARE * (performance.now() - began)));
}

function plan(delay) {
  if (timer === null && !document.hidden) timer = setTimeout(again, delay);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  timer = null;
  plan(0);
});
plan(LEAST);
