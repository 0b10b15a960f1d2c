"use strict";

// Elements are made here and nowhere else: text goes in as text nodes, so nothing that a run says becomes markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "colour") element.style.setProperty("--colour", value);
    else if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function colour(run) {
  return `var(--run-${run % 8})`;
}

function swatch(run) {
  return el("span", { class: "swatch", colour: colour(run), "aria-hidden": "true" });
}

// A number in few characters: 12,345  132.4  0.713  5e-6
function number(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e7) return value.toExponential(1).replace(".0e", "e").replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(size >= 100 ? 4 : 3)));
}

function signed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? "±0" : (value > 0 ? "+" : "−") + text;
}

function chooser(label, options, chosen, onChange) {
  const select = el("select", { change: () => onChange(select.value) });
  for (const [value, text] of options) select.append(el("option", { value, selected: String(value) === String(chosen) }, text));
  return el("label", {}, label, select);
}

function tick(label, onChange, name) {
  const box = el("input", { type: "checkbox", name, change: () => onChange(box.checked) });
  return el("label", { class: "tick" }, box, label);
}
