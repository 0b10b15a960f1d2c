// Pictures with a caption before and after, in the order of what it gained.
const ORDERS = [
  ["gain", "largest gain first", (a, b) => b.gain - a.gain],
  ["loss", "largest loss first", (a, b) => a.gain - b.gain],
  ["best", "best after first", (a, b) => b.after - a.after],
  ["worst", "worst after first", (a, b) => a.after - b.after],
  ["changed", "most words changed first", (a, b) => b.words.changed - a.words.changed],
];

class Gallery {
  constructor(gallery, runs, section) {
    this.gallery = gallery;
    this.runs = runs;
    this.state = { before: gallery.before, after: gallery.after, order: "gain", changed: false, query: "" };
    this.list = el("ol", { class: "cards" });
    this.count = el("p", { class: "quiet", role: "status" });
    const stages = gallery.stages.map((stage, i) => [i, this.name(stage)]);
    const set = (key, convert = (value) => value) => (value) => { this.state[key] = convert(value); this.show(); };
    const search = el("input", { type: "search", name: "search", placeholder: "word or id", input: () => set("query")(search.value.toLowerCase()) });
    section.append(
      el("p", { class: "quiet" }, this.summary()),
      el("div", { class: "tools" },
        chooser("before", stages, this.state.before, set("before", Number)),
        chooser("after", stages, this.state.after, set("after", Number)),
        chooser("order", ORDERS.map(([value, text]) => [value, text]), "gain", set("order")),
        el("label", {}, "find", search),
        tick("changed only", set("changed"), "changed"),
        tick("references", (open) => this.list.querySelectorAll("details").forEach((own) => { own.open = open; }), "references")),
      this.count, this.list);
    this.show();
  }

  name(stage) {
    const run = this.runs.length > 1 ? `${this.runs[stage.run].name}, ` : "";
    const marks = stage.marks.length ? ` (${stage.marks.join(", ")})` : "";
    return `${run}step ${stage.step.toLocaleString("en")}${marks}`;
  }

  summary() {
    const { of, changed, gained, lost, pictures, stages, before, after, left_out } = this.gallery;
    const many = (count) => count.toLocaleString("en");
    const shown = pictures.length < of
      ? ` ${many(pictures.length)} are shown: a third that gained most, a third that lost most, the rest evenly from between.` : "";
    const left = left_out.length ? ` Not in the gallery, for want of the same pictures: ${left_out.join(", ")}.` : "";
    return `From ${this.name(stages[before])} to ${this.name(stages[after])}, ${many(changed)} of ${many(of)} captions changed: ` +
      `${many(gained)} gained CIDEr-D (0 to 10; its mean × 100 is eval/cider), ${many(lost)} lost.${shown}${left}`;
  }

  show() {
    const { before, after, order, changed, query } = this.state;
    const rows = [];
    for (const picture of this.gallery.pictures) {
      const captions = [picture.captions[before], picture.captions[after]];
      if (captions.includes(null)) continue;
      const row = { picture, captions, words: compared(...captions), before: picture.scores[before], after: picture.scores[after] };
      row.gain = row.after - row.before;
      const text = [picture.id, ...captions, ...picture.references].join("\n").toLowerCase();
      if ((!changed || row.words.changed) && text.includes(query)) rows.push(row);
    }
    rows.sort(ORDERS.find(([name]) => name === order)[2]);
    this.count.textContent = rows.length === 1 ? "1 picture" : `${rows.length} pictures`;
    this.list.replaceChildren(...rows.map((row) => this.card(row)));
  }

  card({ picture, captions, words, before, after, gain }) {
    const image = picture.thumbnail
      ? el("img", { src: picture.thumbnail, alt: "", load: (event) => this.widen(event.target) })
      : el("div", { class: "blank" }, "no picture");
    const same = this.state.before === this.state.after;
    const open = this.list.parentNode?.querySelector("[name=references]")?.checked;
    const lines = captions[0] === captions[1]
      ? [this.line(same ? "caption" : "before and after, unchanged", [captions[1]])]
      : [this.line("before", marked(words.before, "del")), this.line("after", marked(words.after, "ins"))];
    return el("li", { class: "card", "data-gain": gain },
      image,
      el("div", {},
        el("p", { class: "scores" },
          same ? null : el("strong", { class: Math.abs(gain) < 0.005 ? "even" : gain > 0 ? "up" : "down" }, signed(gain, 2)),
          el("span", {}, same ? `CIDEr-D ${after.toFixed(2)}` : `CIDEr-D ${before.toFixed(2)} → ${after.toFixed(2)}`)),
        ...lines,
        el("details", { open: open || false },
          el("summary", {}, picture.references.length === 1 ? "1 reference" : `${picture.references.length} references`),
          el("ul", {}, ...picture.references.map((text) => el("li", {}, text)))),
        el("p", { class: "identity mono" }, picture.id)));
  }

  line(label, nodes) {
    return el("p", { class: "caption" }, el("span", { class: "label" }, label), ...(nodes.length ? nodes : ["(empty)"]));
  }

  // A strip of frames gets the card's whole width.
  widen(image) {
    if (image.naturalWidth > 2 * image.naturalHeight) image.parentNode.classList.add("wide");
  }
}
