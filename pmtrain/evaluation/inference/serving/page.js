"use strict";
const at = (id) => document.getElementById(id);
const threshold = Number(document.body.dataset.threshold);
const positive = document.body.dataset.positive;
const limit = Number(document.body.dataset.limit);
const AT_ONCE = 3;
const columns = document.body.dataset.columns.split(" ");  // as of `pmtrain predict`
let queue = [], running = 0, done = 0, total = 0, rows = [];

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say() {
  const busy = running + queue.length > 0;
  at("status").textContent = total ? `${done} of ${total} done` : "";
  at("none").hidden = total > 0;
  at("save").disabled = busy || !rows.length;
  at("clear").disabled = busy || !total;
}

function picture(source, alt, caption) {
  return made("figure", {}, made("img", {src: source, alt}), made("figcaption", {textContent: caption}));
}

function add(files) {
  for (const file of files) {
    const body = made("div", {}, made("h3", {textContent: file.name}), made("p", {className: "small", textContent: "waiting"}));
    const pictures = made("div", {className: "pictures"});
    const item = made("li", {}, made("article", {}, pictures, body));
    const address = URL.createObjectURL(file);
    const shown = picture(address, "", "photograph");
    shown.firstChild.addEventListener("error", () => shown.remove());  // a browser shows no DICOM and no TIFF
    shown.firstChild.addEventListener("load", () => URL.revokeObjectURL(address));
    pictures.append(shown);
    at("results").append(item);
    queue.push({file, item, body, pictures});
    total += 1;
  }
  say();
  next();
}

function next() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    predict(queue.shift()).finally(() => { running -= 1; done += 1; say(); next(); });
  }
}

async function predict(entry) {
  const told = entry.body.lastChild;
  told.textContent = "computing";
  let found;
  try {
    if (entry.file.size > limit - 4096) throw new Error("the file is too large");
    const form = new FormData();
    form.append("files", entry.file, entry.file.name);
    const heat = at("heat") && at("heat").checked;
    const answer = await fetch(`predict?heat_map=${Boolean(heat)}`, {method: "POST", body: form});
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(content.detail || `the server answered ${answer.status}`);
    found = content.predictions[0];
  } catch (error) {
    found = {error: error instanceof TypeError ? "the server can't be reached" : error.message};
  }
  rows.push(columns.map((name) => (name === "file" ? entry.file.name : found[name] ?? "")));
  told.remove();
  if (found.error) {
    entry.body.append(made("p", {className: "error", textContent: `No result: ${found.error}`}));
  } else {
    show(entry, found);
  }
}

function show(entry, found) {
  const refused = found.verdict === "refused";
  if (found.quality === "poor" && !refused) {
    const poor = made("strong", {textContent: "Poor quality"});
    entry.body.append(made("p", {className: "notice"}, poor, `: ${found.quality_reason}.`));
  }
  const known = found.verdict === "in domain";
  if (found.verdict && !known) {
    const word = made("strong", {textContent: found.verdict[0].toUpperCase() + found.verdict.slice(1)});
    const result = refused ? " No probability is given." : "";
    entry.body.append(made("p", {className: refused ? "notice alert" : "notice"}, word, `: ${found.reason}.${result}`));
  }
  if (found.prediction !== undefined) showProbability(entry, found);
  if (found.familiarity !== undefined) {
    const percent = (100 * found.familiarity).toFixed(0);
    const share = found.familiarity ? `${percent}\u00a0% of the validation images are` : "No validation image is";
    const told = `${known ? "In domain: " : ""}${share} as unusual as this one, or more.`;
    entry.body.append(made("p", {className: "small", textContent: told}));
  }
}

function showProbability(entry, found) {
  entry.item.className = found.positive ? "is-positive" : "is-negative";
  const percent = (100 * found.probability).toFixed(1);
  const side = found.positive ? "at or above" : "below";
  const fill = made("div", {className: "fill"});
  fill.style.width = `${percent}%`;
  const mark = made("div", {className: "mark"}, made("span", {textContent: "threshold"}));
  mark.style.left = `${100 * threshold}%`;
  const scale = made("div", {className: "scale"}, fill, mark);
  scale.setAttribute("aria-hidden", "true");
  entry.body.append(
    made("p", {className: "class", textContent: found.prediction}),
    made("p", {textContent: `Probability of ${positive}: ${percent}\u00a0%, ${side} the threshold of ${(100 * threshold).toFixed(1)}\u00a0%.`}),
    scale,
  );
  if (found.spread !== undefined) {
    const told = `The networks' logits differ by a standard deviation of ${found.spread.toFixed(2)}: the larger, the less they agree.`;
    entry.body.append(made("p", {className: "small", textContent: told}));
  }
  if (found.heat_map) {
    entry.pictures.append(picture(found.heat_map, `Heat map of ${entry.file.name}`, "heat map, as the network sees it"));
    at("legend").hidden = false;
  }
}

function cell(value) {
  let text = String(value);
  if (/^[=+\-@\t\r]/.test(text) && isNaN(text)) text = `'${text}`;  // a table program would take it for a formula
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

at("files").addEventListener("change", () => { add(at("files").files); at("files").value = ""; });
const drop = at("drop");
for (const name of ["dragover", "dragenter"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
drop.addEventListener("drop", (event) => add(event.dataTransfer.files));
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
at("clear").addEventListener("click", () => {
  at("results").replaceChildren();
  if (at("legend")) at("legend").hidden = true;
  rows = []; total = 0; done = 0;
  say();
  at("files").focus();
});
at("save").addEventListener("click", () => {
  const lines = [columns, ...rows].map((row) => row.map(cell).join(","));
  const address = URL.createObjectURL(new Blob(["\ufeff" + lines.join("\n") + "\n"], {type: "text/csv"}));
  made("a", {href: address, download: "predictions.csv"}).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
});
say();
