"use strict";
// Columns are sorted by a button in their heading. Without this script the tables are as they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numbers = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      // Amounts from the largest, names from the first.
      const down = before === null ? numbers : before === "ascending";
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[at].dataset.sort;
      const compare = (one, other) => {
        const [a, b] = [value(one), value(other)];
        if (a !== undefined && b !== undefined) return Number(a) - Number(b);
        return one.cells[at].textContent.localeCompare(other.cells[at].textContent, "en", { numeric: true });
      };
      const rows = [...body.rows].sort((one, other) => (down ? compare(other, one) : compare(one, other)));
      body.append(...rows);
    });
  });
}
