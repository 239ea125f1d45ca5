// Tables that sort by a heading and filter by words; nothing here is needed to read them.
"use strict";
{
  const key = (row, column, kind) => {
    const cell = row.cells[column];
    if (kind === "text") return cell.textContent.trim();
    const text = cell.dataset.value ?? cell.textContent;
    return text.trim() === "" ? NaN : parseFloat(text);
  };

  const compare = (a, b, kind, sign) => {
    if (kind === "text") return sign * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // what is missing comes last
    return sign * (a - b);
  };

  function sort(table, heading, kind) {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of heading.parentNode.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [key(row, heading.cellIndex, kind), row]);
    rows.sort((a, b) => compare(a[0], b[0], kind, ascending ? 1 : -1));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  for (const button of document.querySelectorAll("table.sortable thead button")) {
    button.addEventListener("click", () => sort(button.closest("table"), button.closest("th"), button.dataset.kind));
  }

  for (const input of document.querySelectorAll("input[data-filter]")) {
    const id = input.dataset.filter;
    const rows = [...document.getElementById(id).tBodies[0].rows];
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const main = document.querySelector(`[data-main="${id}"]`);
    const count = document.querySelector(`[data-count="${id}"]`);
    const apply = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const fits = words.every((word) => texts.get(row).includes(word));
        row.hidden = !fits || (main.checked && !("headline" in row.dataset));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${rows.length} rows`;
    };
    input.closest(".filter").hidden = false;
    input.addEventListener("input", apply);
    main.addEventListener("change", apply);
    apply();
  }

  if (navigator.clipboard) {
    for (const button of document.querySelectorAll(".copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        button.textContent = "Copied";
      });
    }
  }

  const reveal = (hash) => {
    const target = hash ? document.getElementById(decodeURIComponent(hash.slice(1))) : null;
    for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    return target;
  };
  addEventListener("click", (event) => reveal(event.target.closest?.('a[href^="#"]')?.hash));
  addEventListener("hashchange", () => reveal(location.hash));
  reveal(location.hash)?.scrollIntoView();

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
}
