// One rater's way through a study. Order and sides: see schedule.py, which has the same hash and the same schedule.
"use strict";

const ANSWER_PAUSE_MS = 250; // long enough to see what was chosen, short enough not to wait

function scramble(text) {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

const hex = (number) => number.toString(16).padStart(8, "0");
const checksum = (text) => [0, 1, 2, 3].map((number) => hex(scramble(`${number}:${text}`))).join("");

function schedule(study, rater) {
  const seed = `${study.study}/${rater}`;
  const order = Object.keys(study.trials)
    .map((trial) => ({ trial, rank: scramble(`${seed}/order/${trial}`) }))
    .sort((one, other) => one.rank - other.rank || (one.trial < other.trial ? -1 : 1))
    .map(({ trial }) => {
      const [first, second] = study.trials[trial].pictures;
      const isSwapped = scramble(`${seed}/side/${trial}`) & 1;
      return isSwapped ? { trial, left: second, right: first } : { trial, left: first, right: second };
    });
  const half = Math.ceil(order.length / 2), second = order.length - half, looks = order.slice(0, half);
  let done = 0;
  for (let number = 0; number < study.repeats; number++) {
    const until = Math.floor((number + 1) * second / study.repeats), { trial, left, right } = order[number];
    looks.push(...order.slice(half + done, half + until), { trial, left: right, right: left });
    done = until;
  }
  return looks.concat(order.slice(half + done));
}

function signed(study, state) { // the file that is saved
  const lines = state.answers.map((answer) =>
    [answer.trial, answer.left, answer.right, ...study.questions.map(({ name }) => answer.chosen[name]), answer.ms].join(" "));
  const text = [study.study, state.rater, ...lines].join("\n");
  const { rater, answers } = state;
  return JSON.stringify({ format: study.format, study: study.study, rater, answers, checksum: checksum(text) }, null, 1) + "\n";
}

function run(study) {
  const find = (selector) => document.querySelector(selector), place = `lit_restore study ${study.study}`;
  const stages = [...document.querySelectorAll(".stage")];
  let state = load(), looks = schedule(study, state.rater), chosen = {}, since = 0, isBusy = false;

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(place));
      if (kept) return kept;
    } catch { /* nothing kept, or keeping is forbidden: `keep` will say so */ }
    return { rater: [...crypto.getRandomValues(new Uint32Array(2))].map(hex).join(""), answers: [] };
  }
  function keep() {
    try {
      localStorage.setItem(place, JSON.stringify(state));
    } catch {
      find(".warning").hidden = false;
    }
  }
  function show(name) {
    for (const section of document.querySelectorAll("section")) section.hidden = section.id !== name;
    find("#save").hidden = name === "start" || !state.answers.length;
  }
  function picture(name, caption) {
    const box = document.createElement("div"), image = new Image();
    image.src = study.pictures[name];
    image.alt = caption;
    box.append(image, caption);
    return box;
  }
  function next() {
    const number = state.answers.length, look = looks[number];
    if (!look) return show("end");
    chosen = {};
    zoomTo(1, 50, 50);
    find("#left").src = study.pictures[look.left];
    find("#right").src = study.pictures[look.right];
    const { degraded, references } = study.trials[look.trial];
    find("#context").replaceChildren(picture(degraded, "damaged"), ...references.map((name) => picture(name, "reference")));
    find("progress").max = looks.length;
    find("progress").value = number;
    find("#count").textContent = `${number + 1} of ${looks.length}`;
    ask();
    show("trial");
    since = performance.now();
  }
  function ask() {
    for (const button of document.querySelectorAll("figure button")) button.classList.remove("chosen");
    find("#question").textContent = study.questions[Object.keys(chosen).length].text;
    find("#back").disabled = !state.answers.length && !Object.keys(chosen).length;
  }
  function choose(side) {
    if (isBusy || find("#trial").hidden) return;
    isBusy = true;
    find(`button[value=${side}]`).classList.add("chosen");
    const look = looks[state.answers.length];
    chosen[study.questions[Object.keys(chosen).length].name] = look[side];
    const isLast = Object.keys(chosen).length === study.questions.length;
    if (isLast) {
      const { trial, left, right } = look;
      state.answers.push({ trial, left, right, chosen, ms: Math.round(performance.now() - since) });
      keep();
    }
    setTimeout(() => {
      isBusy = false;
      if (isLast) next();
      else ask();
    }, ANSWER_PAUSE_MS);
  }
  function back() {
    if (isBusy) return;
    if (!Object.keys(chosen).length) state.answers.pop();
    keep();
    next();
  }
  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([signed(study, state)], { type: "application/json" }));
    link.download = `answers-${state.rater}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  let zoom = 1;
  function zoomTo(wanted, x, y) { // x, y in percent: the place that stays where it is
    zoom = Math.max(1, Math.min(8, wanted));
    for (const { firstElementChild: image } of stages) {
      image.style.transformOrigin = `${x}% ${y}%`;
      image.style.transform = `scale(${zoom})`;
    }
  }
  function over(event, wanted) {
    const box = event.currentTarget.getBoundingClientRect();
    zoomTo(wanted, (event.clientX - box.left) / box.width * 100, (event.clientY - box.top) / box.height * 100);
  }
  for (const stage of stages) {
    stage.addEventListener("pointermove", (event) => over(event, zoom));
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      over(event, zoom * Math.exp(-event.deltaY / 300));
    }, { passive: false });
  }
  for (const button of document.querySelectorAll("figure button")) {
    button.addEventListener("click", () => choose(button.value));
  }
  const keys = { a: "left", b: "right", ArrowLeft: "left", ArrowRight: "right" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const side = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (side) choose(side);
    else if (event.key === "Backspace" && !find("#trial").hidden && !find("#back").disabled) back();
  });
  find("#begin").addEventListener("click", next);
  find("#back").addEventListener("click", back);
  find("#save").addEventListener("click", save);
  find("#again").addEventListener("click", () => {
    if (!confirm("Are the answers of this person saved? They are deleted here.")) return;
    localStorage.removeItem(place);
    location.reload();
  });
  keep();
  if (state.answers.length) next();
}

run(JSON.parse(document.querySelector("#study").textContent));
