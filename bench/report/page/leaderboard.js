"use strict";
/* Sorts, filters and saves what the page holds already; without this script everything is there, unfiltered. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const filters = document.getElementById("filters");
  const plotFilters = document.getElementById("plot-filters");
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  const nothing = document.getElementById("nothing");
  const headers = [...table.tHead.rows[0].cells];
  const rows = [...body.rows].filter((row) => row !== nothing);
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const places = ["dataset", "protocol", "region"];

  // -- sorting

  const valueOf = (row, column) => row.cells[column].dataset.value;

  function compare(kind, column, sign) {
    return (a, b) => {
      const x = valueOf(a, column);
      const y = valueOf(b, column);
      if (x === "" || y === "") return (x === "") - (y === ""); // empty cells come last in both directions
      return sign * (kind === "text" ? collator.compare(x, y) : Number(x === y ? 0 : number(x) < number(y) ? -1 : 1));
    };
  }

  // Python writes infinity as "inf".
  const number = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : parseFloat(text));

  function sortBy(header) {
    const column = headers.indexOf(header);
    const first = header.dataset.better === "higher" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const order = header.getAttribute("aria-sort") === first ? second : first;
    headers.forEach((other) => other.setAttribute("aria-sort", other === header ? order : "none"));
    rows.sort(compare(header.dataset.sort, column, order === "ascending" ? 1 : -1));
    body.append(...rows, nothing);
  }

  function makeSortable(header) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(header));
  }

  // -- filtering

  function chosen() {
    const form = new FormData(filters);
    return {
      dataset: form.get("dataset"),
      protocol: form.get("protocol"),
      region: form.get("region"),
      method: form.get("method").trim().toLowerCase(),
      trivial: form.has("trivial"),
      output: new FormData(plotFilters).get("output"),
    };
  }

  /** Whether an element lies where the filters say; the region "clip" belongs to every region. */
  function lies(element, filter, names = places) {
    return names.every((name) => {
      const own = element.dataset[name];
      return !filter[name] || own === filter[name] || (name === "region" && own === "clip");
    });
  }

  function named(element, filter) {
    const kind = element.dataset.kind;
    return (filter.trivial || kind !== "trivial") && element.dataset.method.toLowerCase().includes(filter.method);
  }

  function show(selector, visible) {
    let count = 0;
    document.querySelectorAll(selector).forEach((element) => {
      element.hidden = !visible(element);
      count += !element.hidden;
    });
    return count;
  }

  /** Columns in which no visible row was asked for a figure make room, and so do places that are chosen already. */
  function showColumns(seen, filter) {
    headers.forEach((header, column) => {
      const place = header.dataset.where;
      const id = header.dataset.column;
      const hide = place
        ? filter[place] !== "" || filters.elements[place].options.length === 1
        : id !== undefined && seen.length > 0 && seen.every((row) => row.cells[column].textContent.trim() === "–");
      header.hidden = hide;
      rows.forEach((row) => {
        row.cells[column].hidden = hide;
      });
    });
  }

  function showNotes(seen) {
    const marks = new Set(seen.flatMap((row) => [...row.querySelectorAll("td:not([hidden]) sup")].map((s) => s.textContent)));
    show("#measured .footnotes [data-mark]", (note) => marks.has(note.dataset.mark));
  }

  /** Choosing one place may leave no row at the others: these move to the first place that has one. */
  function settle(changed) {
    const order = [changed, ...places.filter((name) => name !== changed)];
    order.forEach((name, at) => {
      const filter = chosen();
      const before = order.slice(0, at);
      if (rows.some((row) => lies(row, filter, [...before, name]))) return;
      filters.elements[name].value = rows.find((row) => lies(row, filter, before)).dataset[name];
    });
  }

  function count(n, noun) {
    return `${n} ${noun}${n === 1 ? "" : "s"}`;
  }

  function update() {
    const filter = chosen();
    rows.forEach((row) => {
      row.hidden = !(lies(row, filter) && named(row, filter));
    });
    const seen = rows.filter((row) => !row.hidden);
    nothing.hidden = seen.length > 0;
    showColumns(seen, filter);
    showNotes(seen);
    show("#measured .warning", (element) => lies(element, filter));
    const cards = show("article.card", (card) => lies(card, filter, ["dataset", "protocol"]) && named(card, filter));
    show("[data-empty=card]", () => cards === 0);
    show("details.source", (element) => lies(element, filter, ["dataset", "protocol"]));
    const plots = show("figure.plot", (plot) => lies(plot, filter) && plot.dataset.output === filter.output);
    show("[data-empty=plot]", () => plots === 0);
    const trivial = seen.filter((row) => row.dataset.kind === "trivial").length;
    const words = [count(seen.length, "row") + (trivial ? `, of which ${trivial} trivial.` : ".")];
    if (places.some((name) => filter[name] === "" && filters.elements[name].options.length > 1)) {
      words.push("Figures of different data sets, protocols or regions do not compare; best and second are marked within each.");
    }
    document.getElementById("status").textContent = words.join(" ");
  }

  // -- saving

  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  /** The visible rows and columns with all digits, as CSV. */
  function csv() {
    const shown = data.columns.map((column, i) => ({ ...column, i }))
      .filter((column) => !headers.find((header) => header.dataset.column === column.id).hidden);
    const parts = ["", ".low", ".high", ".scored", ".asked"];
    const head = ["method", "kind", "dataset", "protocol", "region", ...shown.flatMap((c) => parts.map((part) => c.id + part))];
    const lines = rows.filter((row) => !row.hidden).map((row) => {
      const line = data.rows[Number(row.dataset.row)];
      const cells = shown.flatMap((column) => parts.map((_, at) => line.cells[column.i][at] ?? ""));
      return [line.method, line.kind, line.dataset, line.protocol, line.region, ...cells];
    });
    return `${[head, ...lines].map((line) => line.map(String).map(quoted).join(",")).join("\n")}\n`;
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "leaderboard.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // -- start

  headers.forEach(makeSortable);
  filters.hidden = false;
  plotFilters.hidden = false;
  filters.addEventListener("submit", (event) => event.preventDefault());
  plotFilters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", (event) => {
    if (places.includes(event.target.name)) settle(event.target.name);
    table.classList.toggle("plain", !filters.elements.intervals.checked);
    update();
  });
  plotFilters.addEventListener("input", update);
  document.getElementById("save").addEventListener("click", save);
  settle("dataset");
  update();
})();
