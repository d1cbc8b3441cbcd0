// Puts live parts of a page in place when the server says that something has changed, and moves
// through lists by keyboard. Every page works without it.
"use strict";

const body = document.body;
let source = null;
let isStale = false;
let loading = false;
let again = false;  // whether something changed while the page was loading

// A part is left alone while somebody writes in it, or has ticked or selected something there.
function isBusy(part) {
  const active = document.activeElement;
  if (active && part.contains(active) && active.matches("input, textarea, select")) return true;
  for (const field of part.querySelectorAll("input, textarea, select")) {
    if (field.type === "checkbox" && field.checked !== field.defaultChecked) return true;
    if (field.matches("textarea, input[type=text]") && field.value !== field.defaultValue) return true;
  }
  const chosen = getSelection();
  return !chosen.isCollapsed && part.contains(chosen.anchorNode);
}

async function refresh() {
  if (!document.querySelector("[data-live]")) return;  // such as a page that says what was refused
  if (loading || document.hidden) { isStale = true; again = loading; return; }
  loading = true;
  isStale = false;
  try {
    const answer = await fetch(location.href, { headers: { "x-desk-part": "1" }, redirect: "manual" });
    if (answer.status === 403 || answer.type === "opaqueredirect") { location.reload(); return; }
    if (!answer.ok) { isStale = true; return; }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of page.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (!old || old.innerHTML === fresh.innerHTML) continue;
      if (isBusy(old)) { isStale = true; continue; }
      replace(old, fresh);
    }
    document.title = page.title;
    notify(Number(page.body.dataset.open || 0));
  } catch (error) {
    isStale = true;
  } finally {
    loading = false;
    if (again) { again = false; refresh(); }
  }
}

// What a button, link or summary is: its words in the nearest element that has an id.
const nameOf = (one) => `${one.closest("[id]").id} ${one.href || ""} ${one.id || one.textContent}`;

// Keeps the place of the keyboard, and what is opened: the element of the same name has it again.
function replace(old, fresh) {
  const active = document.activeElement;
  const focused = active && old.contains(active) ? nameOf(active) : "";
  const opened = new Set([...old.querySelectorAll("details[open] > summary")].map(nameOf));
  const part = document.importNode(fresh, true);
  old.replaceWith(part);
  for (const one of part.querySelectorAll("summary")) if (opened.has(nameOf(one))) one.parentElement.open = true;
  if (!focused) return;
  const same = [...part.querySelectorAll("a, button, summary, select, input, [tabindex]")].find((one) => nameOf(one) === focused);
  same?.focus({ preventScroll: true });
}

function listen() {
  if (source || document.hidden || !body.dataset.events) return;
  source = new EventSource(body.dataset.events);
  source.addEventListener("hello", refresh);  // what came since the page was made is not told
  source.addEventListener("changed", refresh);
  source.onerror = () => {
    if (source && source.readyState === EventSource.CLOSED) {
      source = null;
      setTimeout(listen, 3000);
      refresh();  // which leads to the login where the session has ended
    }
  };
}

function hush() {
  if (document.hidden) {
    source?.close();
    source = null;
  } else {
    isStale = true;
    listen();
  }
}

// System notifications, only after somebody has asked for them.
let known = Number(body.dataset.open || 0);
function notify(open) {
  if (open > known && localStorage.getItem("mq9-notify") === "on" && Notification.permission === "granted") {
    new Notification("mq9", { body: open === 1 ? "1 open question" : `${open} open questions`, tag: "mq9-open" });
  }
  known = open;
}

async function askToNotify(button) {
  const isOn = localStorage.getItem("mq9-notify") === "on";
  const allowed = !isOn && (await Notification.requestPermission()) === "granted";
  localStorage.setItem("mq9-notify", allowed ? "on" : "off");
  show(button);
}

function show(button) {
  if (!("Notification" in window)) return;
  button.hidden = false;
  const isOn = localStorage.getItem("mq9-notify") === "on" && Notification.permission === "granted";
  button.setAttribute("aria-pressed", String(isOn));
}

// Keys: j and k move between items, the letters of their buttons press these, ? shows all.
const items = () => [...document.querySelectorAll("[data-item]")];
function move(step) {
  const all = items();
  if (!all.length) return;
  const current = all.findIndex((one) => one.contains(document.activeElement));
  const next = current < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(Math.max(current + step, 0), all.length - 1);
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

function press(key) {
  const item = document.activeElement?.closest("[data-item]");
  const target = (item || document).querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!target) return false;
  if (target.matches("details")) {
    target.open = true;
    target.querySelector("textarea, input:not([type=hidden])")?.focus();
  } else if (target.matches("input, textarea") && target.type !== "checkbox") {
    target.focus();
  } else {
    target.click();
  }
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isWriting = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && isWriting) {
    event.target.closest("[data-item]")?.focus();
    return;
  }
  if (isWriting) return;
  if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
  else if (event.key === "?") document.getElementById("keys")?.toggleAttribute("open");
  else if (event.key === "Enter" && event.target.matches("[data-item]")) event.target.querySelector("a")?.click();
  else if (!press(event.key)) return;
  event.preventDefault();
});

// The next question has the focus after one was answered, so that many go by keyboard.
function restore() {
  const at = sessionStorage.getItem("mq9-at");
  sessionStorage.removeItem("mq9-at");
  const all = items();
  if (at !== null && all.length) all[Math.min(Number(at), all.length - 1)].focus();
}

document.addEventListener("submit", (event) => {
  const item = event.target.closest("[data-item]");
  const index = items().indexOf(item);
  if (index >= 0) sessionStorage.setItem("mq9-at", String(index));
  if (event.target.dataset.sent) { event.preventDefault(); return; }  // twice by a double click
  event.target.dataset.sent = "1";
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("#notify");
  if (button) askToNotify(button);
  const all = event.target.closest("[data-all]");
  if (all) for (const box of document.querySelectorAll(`input[name="${CSS.escape(all.dataset.all)}"]`)) box.checked = all.checked;
});

document.addEventListener("focusout", () => { if (isStale) setTimeout(refresh, 200); });
document.addEventListener("visibilitychange", hush);
addEventListener("pageshow", (event) => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  if (event.persisted) refresh();
});
const button = document.getElementById("notify");
if (button) show(button);
restore();
listen();
