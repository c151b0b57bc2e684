"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tables are sorted by buttons in their heads: numbers downwards first, what is missing last.
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
  };
  const missing = (x) => x === "" || x === "–";
  for (const table of all("table")) {
    const body = table.tBodies[0];
    if (!table.tHead || body.rows.length < 2) continue;
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rows = [...body.rows];
        const numeric = rows.some((row) => typeof value(row, column) === "number");
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        rows.sort((left, right) => {
          const [a, b] = [value(left, column), value(right, column)];
          if (missing(a) || missing(b)) return missing(a) - missing(b);
          const order = typeof a === "number" && typeof b === "number"
            ? a - b : String(a).localeCompare(String(b));
          return down ? -order : order;
        });
        body.append(...rows);
      });
    });
  }

  // A method that is pointed at, or chosen in a legend, stands out everywhere.
  const chosen = new Set();
  let pointed = null;
  const show = () => {
    const any = chosen.size > 0 || pointed !== null;
    document.documentElement.classList.toggle("choosing", any);
    for (const part of all("[data-method]")) {
      const name = part.dataset.method;
      part.classList.toggle("chosen", any && (chosen.has(name) || name === pointed));
    }
    for (const button of all(".legend button")) {
      button.setAttribute("aria-pressed", chosen.has(button.parentNode.dataset.method));
    }
  };
  for (const item of all(".legend li[data-method]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...item.childNodes);
    item.append(button);
    button.addEventListener("click", () => {
      const name = item.dataset.method;
      if (!chosen.delete(name)) chosen.add(name);
      show();
    });
  }
  if (document.querySelector(".legend button")) show();

  // Points tell what they are. One of a picture is in the order of tabs, arrows lead to the others.
  const tip = document.getElementById("tip");
  const hide = () => {
    tip.hidden = true;
    if (pointed !== null) {
      pointed = null;
      show();
    }
  };
  const tell = (point) => {
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const at = point.getBoundingClientRect();
    const box = tip.getBoundingClientRect();
    const right = document.documentElement.clientWidth - box.width - 8;
    tip.style.left = `${Math.max(8, Math.min(at.left + at.width / 2 - box.width / 2, right))}px`;
    const above = at.top - box.height - 8;
    tip.style.top = `${above < 4 ? at.bottom + 8 : above}px`;
    const method = point.dataset.method ?? null;
    if (method !== pointed) {
      pointed = method;
      show();
    }
  };
  const middle = (point) => {
    const box = point.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  for (const picture of all("svg:has(.point)")) {
    const points = all(".point", picture);
    const go = (to) => {
      if (!to) return;
      points.forEach((point) => point.setAttribute("tabindex", point === to ? "0" : "-1"));
      to.focus();
    };
    points[0].setAttribute("tabindex", "0");
    // The nearest one in a direction; along a curve for left and right.
    const next = (from, across, sign) => {
      const here = middle(from);
      const ahead = points
        .filter((point) => !across || point.dataset.method === from.dataset.method)
        .map((point) => [point, middle(point)])
        .filter(([, at]) => sign * (at[across ? 0 : 1] - here[across ? 0 : 1]) > 0.5)
        .map(([point, at]) => {
          const [x, y] = [Math.abs(at[0] - here[0]), Math.abs(at[1] - here[1])];
          return [point, across ? x : y + 4 * x];
        });
      return ahead.sort((a, b) => a[1] - b[1])[0]?.[0];
    };
    picture.addEventListener("keydown", (event) => {
      const from = document.activeElement;
      const moves = {
        ArrowRight: () => next(from, true, 1), ArrowLeft: () => next(from, true, -1),
        ArrowDown: () => next(from, false, 1), ArrowUp: () => next(from, false, -1),
        Home: () => points[0], End: () => points.at(-1),
      };
      if (event.key in moves) {
        event.preventDefault();
        go(moves[event.key]());
      }
    });
    picture.addEventListener("focusin", (event) => tell(event.target));
    picture.addEventListener("focusout", hide);
    picture.addEventListener("pointermove", (event) => {
      const near = points
        .map((point) => [point, middle(point)])
        .map(([point, at]) => [point, Math.hypot(at[0] - event.clientX, at[1] - event.clientY)])
        .sort((a, b) => a[1] - b[1])[0];
      if (near[1] < 22) tell(near[0]);
      else hide();
    });
    picture.addEventListener("pointerleave", hide);
  }
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    hide();
    chosen.clear();
    show();
  });
  addEventListener("scroll", () => {
    const focused = document.activeElement;
    if (focused.classList.contains("point")) tell(focused);
    else hide();
  }, { passive: true });
})();
