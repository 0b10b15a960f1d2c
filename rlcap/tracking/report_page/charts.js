// Small line charts: one metric each, the runs laid over each other, values at the pointer.
const MARGIN = { left: 46, right: 10, top: 8, bottom: 20 };

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  const room = high > low ? 0.06 * (high - low) : Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

// An exponential mean that does not lean to its start.
function smoothed(points, weight) {
  let sum = 0, total = 0;
  return points.map(([step, value]) => {
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return [step, sum / total];
  });
}

function nearest(points, step) {
  return points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
}

class Chart {
  constructor(chart, runs) {
    this.chart = chart;
    this.runs = runs;
    this.evaluated = chart.metric.startsWith("eval/");
    this.readout = el("span", { class: "readout" });
    this.svg = shape("svg", { role: "img", pointermove: (event) => this.point(event), pointerleave: () => this.read(null) });
    const mean = Math.max(...chart.series.map((own) => own.mean_of));
    const text = chart.text + (mean > 1 ? `${chart.text ? "; " : ""}each point is the mean of ${mean} log lines` : "");
    this.element = el("figure", { class: "chart" },
      el("figcaption", {}, el("span", {}, chart.metric), this.readout, el("span", { class: "text" }, text)), this.svg);
    this.weight = 0;
    this.hidden = new Set();
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  set(weight, hidden) {
    this.weight = weight;
    this.hidden = hidden;
    this.draw();
  }

  draw() {
    const width = this.element.clientWidth, height = 160;
    if (!width) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    this.lines = this.chart.series.filter((own) => !this.hidden.has(own.run)).map((own) => ({
      run: own.run,
      raw: own.points,
      points: this.evaluated || !this.weight ? own.points : smoothed(own.points, this.weight),
    }));
    this.read(null);
    if (!this.lines.length) return;
    const all = this.lines.flatMap((line) => line.raw);
    const steps = all.map(([step]) => step);
    const first = Math.min(...steps), last = Math.max(...steps, first + 1);
    const [low, high] = extent(all.map(([, value]) => value));
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    this.x = (step) => MARGIN.left + (inner.width * (step - first)) / (last - first);
    this.y = (value) => MARGIN.top + (inner.height * (high - value)) / (high - low);
    this.step = (x) => first + ((x - MARGIN.left) / inner.width) * (last - first);
    for (const value of ticks(low, high, 4)) {
      const y = this.y(value);
      this.svg.append(
        shape("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }),
        shape("text", { x: MARGIN.left - 6, y: y + 4, "text-anchor": "end" }, number(value)));
    }
    for (const step of ticks(first, last, Math.max(2, Math.floor(inner.width / 80))).filter(Number.isInteger)) {
      const end = this.x(step) > width - 30;
      this.svg.append(shape("text", { x: this.x(step), y: height - 5, "text-anchor": end ? "end" : "middle" }, number(step)));
    }
    for (const line of this.lines) this.trace(line);
    this.cross = shape("line", { class: "cross", y1: MARGIN.top, y2: height - MARGIN.bottom, visibility: "hidden" });
    this.svg.append(this.cross);
  }

  trace(line) {
    const path = (points) => points.map(([step, value], i) => `${i ? "L" : "M"}${this.x(step).toFixed(1)} ${this.y(value).toFixed(1)}`).join("");
    const drawn = { colour: colour(line.run) };
    if (line.points !== line.raw) this.svg.append(shape("path", { class: "curve raw", d: path(line.raw), ...drawn }));
    this.svg.append(shape("path", { class: "curve", d: path(line.points), ...drawn }));
    const dotted = this.evaluated || line.points.length === 1 ? line.points : [];
    for (const [step, value] of dotted) {
      const best = this.evaluated && step === this.runs[line.run].best_step;
      this.svg.append(shape("circle", { class: best ? "best" : "dot", cx: this.x(step), cy: this.y(value), r: best ? 4 : 2.2, ...drawn }));
    }
  }

  point(event) {
    if (!this.lines || !this.lines.length) return;
    const box = this.svg.getBoundingClientRect();
    this.read(this.step(event.clientX - box.left));
  }

  // The values at a step, or the last ones where it is null.
  read(step) {
    const found = (this.lines || []).map((line) => [line.run, step === null ? line.points.at(-1) : nearest(line.points, step)]);
    this.readout.replaceChildren();
    if (!found.length) return;
    if (step !== null) this.readout.append(`step ${number(found[0][1][0])}`);
    for (const [run, [, value]] of found) this.readout.append(el("span", {}, this.runs.length > 1 ? swatch(run) : "", " ", number(value)));
    const said = found.map(([run, [at, value]]) => `${this.runs[run].name} ${number(value)} at step ${at}`);
    if (step === null) this.svg.setAttribute("aria-label", `${this.chart.metric}: ${said.join(", ")}`);
    if (!this.cross) return;
    this.cross.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step !== null) for (const end of ["x1", "x2"]) this.cross.setAttribute(end, this.x(found[0][1][0]));
  }
}
