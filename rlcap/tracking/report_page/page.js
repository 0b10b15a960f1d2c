const data = JSON.parse(document.getElementById("data").textContent);
const section = (name) => document.getElementById(name);

function showHead() {
  const count = data.runs.length === 1 ? "" : `${data.runs.length} runs · `;
  section("made").textContent = `${count}made ${data.made.replace("T", " ").replace("+00:00", " UTC")} by rlcap ${data.rlcap}`;
}

function showResults() {
  const home = section("results");
  if (!data.results.length) {
    home.append(el("p", { class: "quiet" }, "No evaluation has been made."));
    return;
  }
  const many = data.runs.length > 1;
  home.append(el("p", { class: "quiet" },
    "The first evaluation of a run, the one that best/ comes from, and how far they are apart. Below each, its step."));
  const top = el("tr", {}, el("th", { scope: "col", rowspan: many ? 2 : null }, "metric"));
  for (const [i, run] of data.runs.entries())
    if (many) top.append(el("th", { scope: "colgroup", colspan: 4, class: "of-run" }, swatch(i), ` ${run.name}`));
    else top.append(...resultHeads(i));
  top.append(el("th", { scope: "col", class: "about", rowspan: many ? 2 : null }, "what it is"));
  const second = el("tr", {}, ...data.runs.flatMap((_, i) => resultHeads(i)));
  const head = el("thead", {}, top, many ? second : null);
  const table = (rows) => el("div", { class: "scroll" }, el("table", {}, head.cloneNode(true), el("tbody", {}, ...rows.map(resultRow))));
  home.append(table(data.results.filter((row) => row.main)));
  const minor = data.results.filter((row) => !row.main);
  if (minor.length) home.append(el("details", {}, el("summary", {}, `${minor.length} more metrics`), table(minor)));
}

function resultHeads(run) {
  const cells = data.results.map((row) => row.cells[run]);
  return ["first", "best", "change", "last"].map((head) => {
    const step = cells.find((cell) => cell[head])?.[head].step;
    return el("th", { scope: "col", class: "number" }, head, el("span", { class: "label" }, step === undefined ? "\u00a0" : step.toLocaleString("en")));
  });
}

// The digits behind the point that a row of numbers needs.
function digits(values) {
  const largest = Math.max(0, ...values.map(Math.abs));
  if (largest >= 1000 || (largest >= 10 && values.every(Number.isInteger))) return 0;
  return largest >= 10 ? 1 : largest >= 1 ? 2 : 3;
}

function resultRow(row) {
  const line = el("tr", {}, el("th", { scope: "row" }, row.metric));
  const places = digits(row.cells.flatMap((cell) => Object.values(cell).filter(Boolean).map((at) => at.value)));
  for (const { first, best, last } of row.cells) {
    const change = first && best ? best.value - first.value : null;
    const good = Math.sign(change || 0) * row.better;
    const cell = (at) => el("td", { class: "number" }, at ? at.value.toFixed(places) : "–");
    line.append(cell(first), cell(best),
      el("td", { class: `number ${good > 0 ? "up" : good < 0 ? "down" : "even"}` }, change === null ? "–" : signed(change, places)),
      cell(last));
  }
  line.append(el("td", { class: "about" }, row.text));
  return line;
}

function showCurves() {
  const home = section("curves");
  if (!data.groups.length) {
    home.append(el("p", { class: "quiet" }, "Nothing has been logged yet."));
    return;
  }
  const charts = [];
  const hidden = new Set();
  const slider = el("input", { type: "range", name: "smoothing", min: 0, max: 0.95, step: 0.05, value: 0, input: () => update() });
  const update = () => charts.forEach((chart) => chart.set(Number(slider.value), hidden));
  const chips = data.runs.map((run, i) => el("button", {
    type: "button", class: "chip", "aria-pressed": "true",
    click: (event) => {
      if (!hidden.delete(i)) hidden.add(i);
      event.currentTarget.setAttribute("aria-pressed", String(!hidden.has(i)));
      update();
    },
  }, swatch(i), run.name));
  home.append(
    el("p", { class: "quiet" }, "By step. A ring marks the evaluation that best/ comes from; the number beside a name is the last value, or the one at the pointer."),
    el("div", { class: "tools" }, data.runs.length > 1 ? el("div", { class: "chips" }, ...chips) : null, el("label", {}, "smoothing of training curves", slider)));
  const grid = (own) => el("div", { class: "charts" }, ...own.map((chart) => {
    charts.push(new Chart(chart, data.runs));
    return charts.at(-1).element;
  }));
  for (const group of data.groups) {
    const more = group.more.length ? el("details", { open: !group.charts.length }, el("summary", {}, `${group.more.length} more`), grid(group.more)) : null;
    home.append(el("div", { class: "group" }, el("h3", {}, group.title), group.charts.length ? grid(group.charts) : null, more));
  }
}

function showCaptions() {
  const home = section("captions");
  if (data.gallery.reason) home.append(el("p", { class: "quiet" }, `No pictures: ${data.gallery.reason}.`));
  else new Gallery(data.gallery, data.runs, home);
}

function facts(rows) {
  return el("table", { class: "versus" }, el("tbody", {}, ...rows.map(([name, ...values]) =>
    el("tr", {}, el("th", { scope: "row" }, name), ...values.map((value) => el("td", {}, el("code", {}, value)))))));
}

function showSettings() {
  const home = section("settings");
  const keys = [...new Set(data.runs.flatMap((run) => Object.keys(run.settings)))];
  const values = (key) => data.runs.map((run) => run.settings[key] ?? "–");
  const differing = keys.filter((key) => new Set(values(key)).size > 1);
  if (data.runs.length > 1) {
    const table = facts(differing.map((key) => [key, ...values(key)]));
    table.prepend(el("thead", {}, el("tr", {}, el("th", {}, "where they differ"), ...data.runs.map((run, i) => el("th", {}, swatch(i), ` ${run.name}`)))));
    home.append(differing.length ? el("div", { class: "scroll" }, table) : el("p", { class: "quiet" }, "The runs have the same settings."));
  }
  for (const [i, run] of data.runs.entries()) {
    const list = el("dl", {});
    const say = (name, value) => value && list.append(el("dt", {}, name), el("dd", {}, value));
    say("command", run.line ? el("pre", {}, el("code", {}, run.line)) : run.command);
    say("folder", el("code", {}, run.folder));
    say("steps", run.steps.toLocaleString("en"));
    say("seed", String(run.seed));
    say("best/", run.best_step === null ? null : `step ${run.best_step.toLocaleString("en")}, by ${run.metric ?? "cider"}`);
    say("started", run.starts.map((start) => start.replace("T", " ").replace("+00:00", " UTC")).join(", "));
    say("commit", run.commit && el("code", {}, run.commit));
    home.append(el("div", { class: "run" },
      el("h3", {}, data.runs.length > 1 ? swatch(i) : null, run.name),
      list,
      el("details", {}, el("summary", {}, `${Object.keys(run.settings).length} settings`), el("div", { class: "scroll" }, facts(Object.entries(run.settings)))),
      el("details", {}, el("summary", {}, "versions"), el("div", { class: "scroll" }, facts(Object.entries(run.versions))))));
  }
}

showHead();
showResults();
showCurves();
showCaptions();
showSettings();
