"use strict";
// Cards for the cameras, their pictures, and once a second what they do. Nothing is kept in the browser.

const grid = document.getElementById("grid");
const gone = document.getElementById("gone");
const summary = document.getElementById("summary");
const template = document.getElementById("card");
const words = { live: "live", withheld: "withheld", lost: "camera lost", starting: "starting", ended: "ended" };
const cards = new Map();
let reachable = false;

function connect(card) {
  clearTimeout(card.timer);
  card.image.hidden = false;
  card.none.hidden = true;
  card.image.src = `/api/cameras/${encodeURIComponent(card.name)}/stream.mjpg?${Date.now()}`;
}

function disconnect(card) {
  clearTimeout(card.timer);
  card.image.removeAttribute("src");
  card.image.hidden = true; // an old picture must not look like one of now
  card.none.hidden = false;
}

function add(camera) {
  const element = template.content.firstElementChild.cloneNode(true);
  const find = (selector) => element.querySelector(selector);
  const card = { name: camera.name, element, find, image: find("img"), none: find(".none"), pause: 500, timer: 0, choices: "" };
  card.image.addEventListener("load", () => { card.pause = 500; });
  card.image.addEventListener("error", () => {
    disconnect(card);
    if (reachable) card.timer = setTimeout(connect, card.pause, card);
    card.pause = Math.min(card.pause * 2, 8000);
  });
  find("select").addEventListener("change", (event) => choose(card, event.target.value));
  cards.set(camera.name, card);
  grid.append(element);
  connect(card);
  return card;
}

async function choose(card, method) {
  const refused = card.find(".refused");
  refused.hidden = true;
  const answer = await fetch(`/api/cameras/${encodeURIComponent(card.name)}/method`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Privseg": "1" },
    body: JSON.stringify({ method }),
  }).catch(() => null);
  if (!answer || !answer.ok) {
    refused.textContent = answer ? await answer.text() : "the gateway cannot be reached";
    refused.hidden = false;
  }
  card.choices = "";
}

function show(card, camera, role) {
  card.find("h2").textContent = camera.name;
  card.find(".purpose").textContent = camera.purpose;
  const state = card.find(".state");
  const text = camera.state === "live" ? "live, people protected" : `${words[camera.state]}: ${camera.detail}`;
  if (state.textContent !== text) state.textContent = text;
  state.dataset.state = camera.state;
  const badge = card.find(".badge");
  badge.textContent = `${camera.method}: ${camera.privacy_class}`;
  badge.dataset.class = camera.privacy_class;
  card.find(".hides").textContent = `does not hide: ${camera.does_not_hide}`;
  card.image.alt = `${camera.name}, people covered by ${camera.method}`;
  card.find(".fps").textContent = camera.fps.toFixed(1);
  card.find(".people").textContent = camera.people ?? "–";
  card.find(".blanked").textContent = `${camera.blanked} of ${camera.frames}`;
  const label = card.find(".choose");
  label.hidden = role !== "operator" || camera.switchable.length < 2;
  const choices = camera.switchable.join() + camera.method;
  if (choices !== card.choices) {
    card.choices = choices;
    const options = camera.switchable.map((name) => new Option(name, name, false, name === camera.method));
    card.find("select").replaceChildren(...options);
  }
}

async function poll() {
  let told = null;
  try {
    const answer = await fetch("/api/cameras", { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (answer.status === 401) { location.assign("/sign-in"); return; }
    if (answer.ok) told = await answer.json();
  } catch { /* told stays null */ }
  if (told === null) {
    reachable = false;
    gone.hidden = false;
    summary.textContent = "";
    cards.forEach(disconnect);
  } else {
    const back = !reachable;
    reachable = true;
    gone.hidden = true;
    for (const camera of told.cameras) {
      const known = cards.get(camera.name);
      const card = known ?? add(camera);
      if (known && back) connect(card);
      show(card, camera, told.role);
    }
    const names = new Set(told.cameras.map((camera) => camera.name));
    for (const [name, card] of cards) {
      if (!names.has(name)) { disconnect(card); card.element.remove(); cards.delete(name); }
    }
    const live = told.cameras.filter((camera) => camera.state === "live").length;
    summary.textContent = `${live} of ${told.cameras.length} live`;
  }
  setTimeout(poll, 1000);
}

poll();
