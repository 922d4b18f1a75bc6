// The page of `covpool serve`: sends pictures to the process that serves it, and shows its answers.
// Nothing of the model is computed here; a new answer replaces the cards of the one before.

const byId = (id) => document.getElementById(id);
const [drop, files, photo, video, overlay, stage, caption, status, faces, rows] = [
  "drop", "files", "photo", "video", "overlay", "stage", "caption", "status", "faces", "history",
].map(byId);
const SVG = "http://www.w3.org/2000/svg";
const POINTS = 5;
const HISTORY_SHOWN = 200; // rows
const HISTORY_KEPT = 100_000; // rows: an hour or two of camera
const EXPLAINED_EVERY = 2000; // milliseconds, of a camera: an explanation takes longer than all else

let description = null; // what GET /model says
const history = []; // every face of this sitting
let stream = null; // the camera's, while it is on
let asked = 0; // number of the newest question: answers to older ones are dropped

async function start() {
  try {
    description = await (await fetch("model")).json();
  } catch {
    say("The covpool process does not answer. Start it again: covpool serve", true);
    return;
  }
  byId("model").textContent = `${description.name}: ${description.classes.join(", ")}`;
}

function say(text, bad = false) {
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

// --- questions and answers ---------------------------------------------------------------------------------------

async function ask(blob, name, explain) {
  const number = ++asked;
  const form = new FormData();
  form.append("pictures", blob, name);
  let response, answer;
  try {
    response = await fetch(`predict?detail=true&explain=${explain}`, { method: "POST", body: form });
    answer = await response.json();
  } catch {
    throw new Error("The covpool process does not answer. Start it again: covpool serve");
  }
  if (!response.ok) throw new Error(answer.error);
  return number === asked ? answer : null;
}

async function readFiles(list) {
  const pictures = [...list].filter((file) => file.size);
  if (!pictures.length) return say("Nothing to read: choose a picture file.", true);
  stopCamera();
  for (const [place, file] of pictures.entries()) {
    say(pictures.length > 1 ? `Reading ${file.name} (${place + 1} of ${pictures.length})…` : `Reading ${file.name}…`);
    await readOne(file, file.name || "pasted picture");
  }
}

async function readOne(blob, name) {
  const address = URL.createObjectURL(blob);
  try {
    const answer = await ask(blob, name, true);
    if (!answer) return;
    if (answer.pictures[0].width === null) {
      stage.hidden = true;
      faces.replaceChildren();
      say(`${name}: ${answer.rows[0].reason}`, true);
      return;
    }
    await showPhoto(address, name);
    show(answer, name);
  } catch (error) {
    say(`${name}: ${error.message}`, true);
  }
}

function found(answer) {
  return answer.rows.filter((row) => row.face);
}

function show(answer, name, live = false) {
  const read = found(answer);
  drawOverlay(read, answer.pictures[0].width, answer.pictures[0].height);
  showCards(read, live);
  const counted = read.length === 1 ? "1 face" : `${read.length} faces`;
  const first = read[0];
  // A screen reader would be told of every frame.
  if (!live) say(read.length ? `${name}: ${counted}. ${first.expression}, ${percent(first[`p_${first.expression}`])}.` : `${name}: no face found.`);
  remember(read, name, live);
}

function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

// --- the picture with boxes and points ----------------------------------------------------------------------------

function showPhoto(address, name) {
  stage.hidden = false;
  video.hidden = true;
  photo.hidden = false;
  photo.alt = `The photo ${name}, with a box around each face`;
  caption.textContent = name;
  return new Promise((resolve) => {
    photo.onload = () => { URL.revokeObjectURL(address); resolve(); };
    // A format that the browser does not know: the cards still show its faces.
    photo.onerror = () => { photo.hidden = true; resolve(); };
    photo.src = address;
  });
}

function drawn(kind, attributes) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  overlay.append(element);
  return element;
}

function drawOverlay(read, width, height) {
  overlay.replaceChildren();
  overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const size = Math.max(width, height) / 36;
  for (const row of read) {
    drawn("rect", { x: row.x, y: row.y, width: row.width, height: row.height, rx: size / 4 });
    for (const [x, y] of (row.points || []).slice(0, POINTS)) drawn("circle", { cx: x, cy: y, r: size / 7 });
    const label = drawn("text", { x: row.x, y: Math.max(size, row.y - size / 3), "font-size": size });
    label.textContent = read.length > 1 ? `${row.face} ${row.expression}` : row.expression;
  }
}

// --- a card for each face ------------------------------------------------------------------------------------------

function showCards(read, live) {
  if (!read.length) {
    const none = document.createElement("p");
    none.className = "quiet";
    none.textContent =
      `No face found. The network needs a face of ${description.min_face} pixels or more, seen mostly from the front.`;
    faces.replaceChildren(none);
    return;
  }
  const cards = [...faces.querySelectorAll(".card")];
  // From frame to frame the same cards stay, so that what has the focus keeps it.
  if (!live || cards.length !== read.length) {
    const open = cards.some((each) => each.querySelector(".matrices").open);
    const plain = cards.some((each) => !each.querySelector(".toggle input").checked);
    cards.splice(0, cards.length, ...read.map(() => newCard(open, plain)));
    faces.replaceChildren(...cards);
  }
  cards.forEach((each, place) => fill(each, read[place], read.length));
}

function newCard(open, plain) {
  const card = byId("card").content.cloneNode(true).firstElementChild;
  const choice = card.querySelector(".toggle input");
  card.querySelector(".matrices").open = open;
  choice.checked = !plain;
  choice.addEventListener("change", () => { card.querySelector(".map").hidden = !choice.checked; });
  return card;
}

function fill(card, row, count) {
  const part = (selector) => card.querySelector(selector);
  const { detail, explanation } = row;
  const share = document.createElement("span");
  share.className = "share";
  share.textContent = percent(row[`p_${row.expression}`]);
  part("h3").replaceChildren(count > 1 ? `Face ${row.face}: ${row.expression} ` : `${row.expression} `, share);
  const probabilities = description.classes.map((name) => [name, row[`p_${name}`]]);
  // Sorted for a photo; in the camera's order they would jump.
  if (!stream) probabilities.sort((one, other) => other[1] - one[1]);
  part(".bars").replaceChildren(...probabilities.flatMap((each) => bar(each, each[0] === row.expression)));
  part(".aligned").src = detail.crop;
  part(".aligned").alt = `Face ${row.face}, upright and cut out`;
  // Of the camera not every frame is explained: the last map stays while it is about the same expression.
  const explained = explanation || card.dataset.explained === row.expression;
  part(".toggle").hidden = part(".completeness").hidden = !explained;
  part(".map").hidden = !explained || !part(".toggle input").checked;
  if (explanation) {
    card.dataset.explained = explanation.class;
    drawMap(part(".map"), explanation.map);
    part(".completeness").textContent =
      `Orange regions speak for ${row.expression}, blue ones against it. The map adds up to the network's score with an error of ${percent(explanation.completeness_error)}.`;
  }
  part(".matrices").hidden = !detail.covariance;
  if (detail.covariance) {
    part(".covariance").src = detail.covariance;
    part(".logarithm").src = detail.logarithm;
  }
}

function bar([name, value], best) {
  const term = document.createElement("dt");
  term.textContent = name;
  const strip = document.createElement("dd");
  strip.className = best ? "bar first" : "bar";
  strip.setAttribute("aria-hidden", "true");
  const filled = document.createElement("span");
  filled.style.width = `${100 * value}%`;
  strip.append(filled);
  const number = document.createElement("dd");
  number.className = "value";
  number.textContent = percent(value);
  if (best) [term, number].forEach((each) => each.classList.add("strong"));
  return [term, strip, number];
}

// The map has a value for each position of the network's last layer. Orange: speaks for the class; blue: against it.
function drawMap(canvas, map) {
  const side = map.length;
  const strongest = Math.max(...map.flat().map(Math.abs)) || 1;
  const small = new ImageData(side, side);
  map.flat().forEach((value, place) => {
    const [red, green, blue] = value > 0 ? [255, 120, 20] : [40, 110, 255];
    small.data.set([red, green, blue, Math.round(190 * Math.abs(value) / strongest)], 4 * place);
  });
  const buffer = new OffscreenCanvas(side, side);
  buffer.getContext("2d").putImageData(small, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(buffer, 0, 0, canvas.width, canvas.height);
}

// --- history ---------------------------------------------------------------------------------------------------------

function remember(read, name, live) {
  const time = new Date();
  for (const row of read) history.push({ read_at: time.toISOString(), ...row, source: name });
  if (history.length > HISTORY_KEPT) history.splice(0, history.length - HISTORY_KEPT);
  if (!history.length) return;
  byId("download").disabled = byId("clear").disabled = false;
  // Of a camera the table would be nothing but motion: it shows what the CSV will have, once a second.
  if (live && time - (remember.shown || 0) < 1000) return;
  remember.shown = time;
  rows.replaceChildren(...history.slice(-HISTORY_SHOWN).reverse().map(historyRow));
}

function historyRow(entry) {
  const line = document.createElement("tr");
  const cells = [
    new Date(entry.read_at).toLocaleTimeString([], { hour12: false }), entry.source, String(entry.face), entry.expression,
    percent(entry[`p_${entry.expression}`]),
  ];
  cells.forEach((text, place) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    if (place === 4) cell.className = "number";
    line.append(cell);
  });
  return line;
}

function csvCell(value) {
  let text = value === null || value === undefined ? "" : String(value);
  // A file name that begins like a formula must not become one in a spreadsheet.
  if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

byId("download").addEventListener("click", () => {
  const names = ["read_at", ...description.columns];
  const lines = [names, ...history.map((entry) => names.map((name) => entry[name]))];
  const blob = new Blob([lines.map((line) => `${line.map(csvCell).join(",")}\n`).join("")], { type: "text/csv" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "covpool-history.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

byId("clear").addEventListener("click", () => {
  history.length = 0;
  rows.replaceChildren();
  byId("download").disabled = byId("clear").disabled = true;
  say("The history is empty.");
});

// --- ways in -----------------------------------------------------------------------------------------------------------

byId("choose").addEventListener("click", () => files.click());
files.addEventListener("change", () => { readFiles(files.files); files.value = ""; });
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) readFiles(event.clipboardData.files);
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  readFiles(event.dataTransfer.files);
});

const cameraButton = byId("camera");
cameraButton.addEventListener("click", () => (stream ? stopCamera() : startCamera()));

async function startCamera() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
  } catch (error) {
    say(`The camera can't be used: ${error.message}. Allow it in the browser, or choose a photo.`, true);
    return;
  }
  cameraButton.setAttribute("aria-pressed", "true");
  cameraButton.textContent = "Stop the camera";
  overlay.replaceChildren();
  video.srcObject = stream;
  await video.play();
  stage.hidden = false;
  photo.hidden = true;
  video.hidden = false;
  say("The camera is on.");
  readCamera(stream);
}

function stopCamera() {
  if (!stream) return;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  stage.hidden = true;
  cameraButton.setAttribute("aria-pressed", "false");
  cameraButton.textContent = "Use the camera";
  say("The camera is off.");
}

// One frame at a time: the next one is taken when the answer to the last has come, so that nothing piles up.
async function readCamera(own) {
  const canvas = document.createElement("canvas");
  const times = [];
  let explained = -Infinity;
  while (stream === own) {
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
    try {
      const explain = performance.now() - explained > EXPLAINED_EVERY;
      const answer = await ask(blob, "camera", explain);
      if (explain) explained = performance.now();
      if (stream !== own) return;
      if (answer) show(answer, "camera", true);
    } catch (error) {
      stopCamera();
      say(error.message, true);
      return;
    }
    times.push(performance.now());
    if (times.length > 20) times.shift();
    const rate = times.length > 1 ? (1000 * (times.length - 1)) / (times.at(-1) - times[0]) : 0;
    caption.textContent = rate ? `${rate.toFixed(1)} frames per second` : "";
  }
}

start();
