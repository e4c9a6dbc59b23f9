"use strict";

// Everything that models and data say reaches the page as text, never as HTML.
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const byId = (id) => document.getElementById(id);

// Charts, in the colors that the page has at the time.
const [ink, line] = ["var(--ink)", "var(--line)"];
const config = {
  background: "transparent",
  font: "system-ui, sans-serif",
  view: { stroke: null },
  title: { color: ink, anchor: "start", fontSize: 13 },
  axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, titleFontWeight: "normal" },
  legend: { labelColor: ink, titleColor: ink },
  text: { color: ink },
  rule: { color: ink },
};
for (const place of document.querySelectorAll("[data-chart]")) {
  const spec = JSON.parse(place.dataset.chart);
  vegaEmbed(place, spec, { renderer: "svg", actions: false, config, tooltip: { theme: "page" } });
}

// What is folded on the screen is printed too.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});

// Tables, sorted by the column whose head is pressed.
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => {
      const cell = row.cells[column];
      return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
    };
    const compare = (a, b) =>
      typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(value(a), value(b)));
    body.append(...rows);
  });
}

if (byId("label-data")) browse(JSON.parse(byId("label-data").textContent));

function browse({ run, examples, pairs }) {
  const PAGE = 10;
  const fixed = (number) => number.toFixed(2);
  const named = (label) => ({ true: "True", false: "False" })[label] ?? String(label);
  let shown = examples;
  let first = 0;

  const words = (example) => {
    const pair = pairs[example.group];
    if (example.text !== undefined) return example.text;
    const joined = (pieces) => pieces.map(([text]) => text).join("");
    return `${pair.query}\n${joined(pair.a)}\n${joined(pair.b)}`;
  };
  const searchable = examples.map((example) => `${example.id}\n${words(example)}`.toLowerCase());

  for (const label of new Set(examples.map((example) => String(example.label)))) {
    byId("label").append(element("option", { value: label }, named(label)));
  }
  byId("label").prepend(element("option", { value: "", selected: "" }, "all"));

  const side = (name, pieces, better) => {
    const text = element("div", { class: "text", dir: "auto" });
    for (const [part, differs] of pieces) text.append(differs ? element("mark", {}, part) : part);
    const head = element("div", { class: "muted" }, better ? `${name}, labeled better` : name);
    return element("div", { class: better ? "side better" : "side" }, head, text);
  };

  function render(example) {
    const facts = element("div", { class: "facts" });
    const fact = (name, value, kind = "") => {
      facts.append(element("span", kind ? { class: kind } : {}, `${name} `, element("b", {}, value)));
    };
    fact("id", example.id);
    fact("label", named(example.label));
    fact("log-odds", fixed(example.log_odds));
    if (example.gold !== undefined) {
      fact("gold", named(example.gold), example.gold === example.label ? "yes" : "no");
    }
    const group = element("button", { type: "button", class: "sort" }, example.group);
    group.addEventListener("click", () => {
      byId("group").value = example.group;
      filter();
      byId("group").focus();
    });
    fact("group", group);
    const parts = [facts];
    if (example.text !== undefined) {
      parts.push(element("div", { class: "text", dir: "auto" }, example.text));
    } else {
      const pair = pairs[example.group];
      const [one, other] = example.first === "a" ? [pair.a, pair.b] : [pair.b, pair.a];
      parts.push(element("div", { class: "text", dir: "auto" }, pair.query));
      const firstIsBetter = example.label === true;
      parts.push(
        element("div", { class: "sides" }, side("A", one, firstIsBetter), side("B", other, !firstIsBetter)),
      );
    }
    if (example.changes.length) {
      const steps = example.changes.map(([n, label]) => `${n} ${named(label)}`).join(", ");
      parts.push(element("p", { class: "muted" }, `labels by iteration: ${steps}`));
    }
    return parts;
  }

  function list() {
    const last = Math.min(first + PAGE, shown.length);
    byId("list").replaceChildren(
      ...shown.slice(first, last).map((example) => element("li", {}, ...render(example))),
    );
    byId("count").textContent = `${shown.length} of ${examples.length} labels`;
    byId("place").textContent = shown.length ? `${first + 1}–${last}` : "none";
    byId("previous").disabled = first === 0;
    byId("next").disabled = last >= shown.length;
  }

  function filter() {
    const query = byId("search").value.toLowerCase();
    const [group, label, gold, changed] = ["group", "label", "gold", "changed"].map((id) => byId(id).value);
    shown = examples.filter(
      (example, index) =>
        searchable[index].includes(query) &&
        (!group || example.group === group) &&
        (!label || String(example.label) === label) &&
        (!gold || (example.gold !== undefined && (example.gold === example.label) === (gold === "right"))) &&
        (!changed || (example.changes.length > 1) === (changed === "yes")),
    );
    const orders = {
      unsure: (a, b) => a.log_odds - b.log_odds,
      doubt: (a, b) => b.doubt - a.doubt,
      changes: (a, b) => b.changes.length - a.changes.length,
    };
    if (orders[byId("order").value]) shown = [...shown].sort(orders[byId("order").value]);
    first = 0;
    list();
  }

  for (const id of ["search", "group", "label", "gold", "changed", "order"]) {
    byId(id).addEventListener("input", filter);
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  const turn = (step) => () => {
    first += step;
    list();
    byId("list").scrollIntoView({ block: "start" });
  };
  byId("previous").addEventListener("click", turn(-PAGE));
  byId("next").addEventListener("click", turn(PAGE));
  filter();

  // The audit: a sample that the seed decides (Mulberry32), one label at a time.
  const known = new Map(examples.map((example) => [example.id, example]));
  let audit = null;
  let at = 0;

  function sample(size, seed) {
    let state = seed >>> 0;
    const random = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
    // of a pair's two orders only one is asked
    const groups = new Map();
    for (const example of examples) {
      const key = example.text === undefined ? example.group : example.id;
      groups.set(key, [...(groups.get(key) ?? []), example.id]);
    }
    const ids = [...groups.values()].map((members) => members[Math.floor(random() * members.length)]);
    for (let last = ids.length - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1));
      [ids[last], ids[other]] = [ids[other], ids[last]];
    }
    return ids.slice(0, size);
  }

  function wilson(agreed, total) {
    const z = 1.959963984540054;
    const share = agreed / total;
    const middle = (share + (z * z) / (2 * total)) / (1 + (z * z) / total);
    const half =
      (z * Math.sqrt((share * (1 - share)) / total + (z * z) / (4 * total * total))) / (1 + (z * z) / total);
    return [middle - half, middle + half];
  }

  function state() {
    const answers = [...audit.answers.values()];
    const agreed = answers.filter(Boolean).length;
    byId("save").disabled = answers.length === 0;
    const done = at >= audit.sample.length;
    byId("progress").textContent = done
      ? `All ${audit.sample.length} are judged. Save the answers, and give them to eval/report.py --audit.`
      : `${at + 1} of ${audit.sample.length}: do you agree with this label?`;
    byId("item").replaceChildren(...(done ? [] : render(known.get(audit.sample[at]))));
    for (const id of ["yes", "no"]) byId(id).disabled = done;
    byId("back").disabled = at === 0;
    if (answers.length) {
      const [low, high] = wilson(agreed, answers.length).map((share) => (100 * share).toFixed(1));
      byId("agreement").textContent =
        `You agree with ${agreed} of ${answers.length} labels: ` +
        `${((100 * agreed) / answers.length).toFixed(1)} % (95 % interval ${low}–${high} %).`;
    } else {
      byId("agreement").textContent = "";
    }
  }

  function begin(given) {
    audit = given;
    at = audit.sample.findIndex((id) => !audit.answers.has(id));
    if (at < 0) at = audit.sample.length;
    byId("problem").textContent = "";
    byId("question").hidden = false;
    state();
    byId("question").focus();
  }

  function answer(agrees) {
    if (!audit || at >= audit.sample.length) return;
    audit.answers.set(audit.sample[at], agrees);
    at += 1;
    state();
  }

  function back() {
    if (!audit || at === 0) return;
    at -= 1;
    audit.answers.delete(audit.sample[at]);
    state();
  }

  byId("start").addEventListener("click", () => {
    const [size, seed] = ["size", "seed"].map((id) => byId(id).valueAsNumber);
    if (!(size >= 1) || !(seed >= 0)) {
      byId("problem").textContent = "Give a number of labels from 1 on, and a seed from 0 on.";
      return;
    }
    begin({ run, seed, sample: sample(size, seed), answers: new Map() });
  });
  byId("yes").addEventListener("click", () => answer(true));
  byId("no").addEventListener("click", () => answer(false));
  byId("back").addEventListener("click", back);
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName);
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { y: () => answer(true), n: () => answer(false), b: back }[event.key];
    if (act) act();
  });
  byId("save").addEventListener("click", () => {
    const saved = { ...audit, answers: Object.fromEntries(audit.answers) };
    const file = new Blob([JSON.stringify(saved, null, 2)], { type: "application/json" });
    const link = element("a", { href: URL.createObjectURL(file), download: `audit-${run}.json` });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  byId("load").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    const problem = (text) => { byId("problem").textContent = text; };
    try {
      const given = JSON.parse(await file.text());
      const whole = Array.isArray(given?.sample) && typeof given.answers === "object" && given.answers;
      if (!whole) problem("This file is no audit.");
      else if (given.run !== run) problem(`This audit is of another run (${given.run}).`);
      else if (!given.sample.every((id) => known.has(id))) problem("This audit names labels that are not here.");
      else begin({ run, seed: given.seed, sample: given.sample, answers: new Map(Object.entries(given.answers)) });
    } catch {
      problem("This file is no audit: it is not JSON.");
    }
  });
}
