"use strict";
// The gallery of tiles. The index (a list for each column) is small; pictures are in chunks, parsed when they are shown.
(() => {
  const CHUNK = 100, BATCH = 60;
  const $ = (id) => document.getElementById(id);
  const sets = {}, names = {}, all = {};  // of each set of tiles: columns, names of the runs if there are two, number of tiles
  for (const element of document.querySelectorAll(".tiles-index")) {
    sets[element.dataset.set] = JSON.parse(element.textContent);
    names[element.dataset.set] = JSON.parse(element.dataset.runs || "[]");
    all[element.dataset.set] = Number(element.dataset.all);
  }
  const form = $("filters");
  if (!form) {  // without tiles, the address of one leads to the reason
    if (location.hash.includes("=")) $("tiles")?.scrollIntoView();
    return;
  }

  const LABELS = { score: "score", iou: "IoU", coverage: "share of salt", fold: "fold", threshold: "threshold", error: "error",
    missed: "missed pixels", invented: "invented pixels", wrong: "wrong pixels", unsure: "unsure", change: "change", before: "before", after: "after", predicted: "salt predicted", id: "id" };
  const HIDDEN = new Set(["class", "mosaic", "row", "column"]);
  const FIRST_SORT = { held_out: ["score", "up"], test: ["unsure", "down"], changes: ["change", "up"] };
  const FILTERS = ["error", "fold", "class", "truth", "predicted", "id"];
  const chunks = new Map();
  const places = new Map();  // "mosaic,row,column" to [set, number of the tile]
  for (const [set, columns] of Object.entries(sets)) {
    (columns.mosaic || []).forEach((m, i) => { if (m !== null) places.set(`${m},${columns.row[i]},${columns.column[i]}`, [set, i]); });
  }

  let state = {}, order = [], drawn = 0, open = null;

  function pictures(set, i) {
    const key = `${set}-${Math.floor(i / CHUNK)}`;
    if (!chunks.has(key)) chunks.set(key, JSON.parse($(key).textContent));
    return chunks.get(key)[i % CHUNK];
  }

  // The outline of a mask [height, width, run lengths]: edges between salt and no salt, joined where they are straight.
  function outline([height, width, runs]) {
    const mask = new Uint8Array(height * width);  // column after column, as run lengths count
    const numbers = runs ? runs.split(" ").map(Number) : [];
    for (let k = 0; k < numbers.length; k += 2) mask.fill(1, numbers[k] - 1, numbers[k] - 1 + numbers[k + 1]);
    const at = (y, x) => (y >= 0 && x >= 0 && y < height && x < width ? mask[x * height + y] : 0);
    const parts = [];
    for (let x = 0; x <= width; x++) {
      for (let y = 0, from = -1; y <= height; y++) {
        const edge = y < height && at(y, x - 1) !== at(y, x);
        if (edge && from < 0) from = y;
        if (!edge && from >= 0) { parts.push(`M${x} ${from}V${y}`); from = -1; }
      }
    }
    for (let y = 0; y <= height; y++) {
      for (let x = 0, from = -1; x <= width; x++) {
        const edge = x < width && at(y - 1, x) !== at(y, x);
        if (edge && from < 0) from = x;
        if (!edge && from >= 0) { parts.push(`M${from} ${y}H${x}`); from = -1; }
      }
    }
    return parts.join("");
  }

  // The area of a mask, to be filled: a rectangle for each part of a run of pixels in one column.
  function area([height, , runs]) {
    const numbers = runs ? runs.split(" ").map(Number) : [], parts = [];
    for (let k = 0; k < numbers.length; k += 2) {
      for (let at = numbers[k] - 1, left = numbers[k + 1]; left > 0;) {
        const y = at % height, n = Math.min(left, height - y);
        parts.push(`M${Math.floor(at / height)} ${y}h1v${n}h-1z`);
        at += n;
        left -= n;
      }
    }
    return parts.join("");
  }

  function make(tag, attributes = {}, ...children) {
    const element = tag === "svg" || tag === "path" ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function picture(tile, kind, outlines, run = 0, alt = "") {
    const [image, truth, runs, unknown] = tile, [probability, prediction] = runs[run];
    const source = kind === "probability" ? `data:image/png;base64,${probability}` : `data:image/jpeg;base64,${image}`;
    const box = make("span", { class: `picture ${kind}` }, make("img", { src: source, alt, decoding: "async" }));
    if (outlines) {
      const drawing = make("svg", { viewBox: `0 0 ${prediction[1]} ${prediction[0]}`, preserveAspectRatio: "none", "aria-hidden": "true" });
      if (unknown) drawing.append(make("path", { class: "unknown", d: area(unknown) }));
      if (truth) drawing.append(make("path", { class: "truth", d: outline(truth) }));
      drawing.append(make("path", { class: "prediction", d: outline(prediction) }));
      box.append(drawing);
    }
    return box;
  }

  const show = (value) => (value === true ? "yes" : value === false ? "no" : typeof value === "number" ? String(+value.toFixed(4)) : value);

  function hashOf(changes) {
    const all = { ...state, ...changes }, words = new URLSearchParams();
    for (const [key, value] of Object.entries(all)) if (value !== "" && value != null) words.set(key, value);
    return `#${words}`;
  }

  // What a card shows side by side: image and probability, or the predictions of two runs.
  function pairOf(tile) {
    return tile[2].length > 1 ? [picture(tile, "image", true, 0), picture(tile, "image", true, 1)]
      : [picture(tile, "image", true), picture(tile, "probability", true)];
  }

  function panels(tile, set) {
    const panel = (kind, outlines, run, words) =>
      make("figure", {}, picture(tile, kind, outlines, run, words), make("figcaption", {}, words));
    const outlined = tile[1] ? "with truth and prediction" : "with prediction", colours = "probability: dark 0, yellow 1";
    if (tile[2].length === 1) {
      return [panel("image", false, 0, "image"), panel("image", true, 0, `image ${outlined}`), panel("probability", true, 0, colours)];
    }
    return names[set].flatMap((name, run) => [panel("image", true, run, `${name}: ${outlined}`), panel("probability", true, run, `${name}: ${colours}`)]);
  }

  function card(i) {
    const columns = sets[state.set], id = columns.id[i], tile = pictures(state.set, i);
    const value = columns[state.sort] ? show(columns[state.sort][i]) : "";
    const words = Object.keys(columns).filter((c) => !HIDDEN.has(c) && c !== "id").map((c) => `${LABELS[c] || c} ${show(columns[c][i])}`);
    const link = make("a", { href: hashOf({ tile: id }), "aria-label": `tile ${id}: ${words.join(", ")}` },
      make("span", { class: "two" }, ...pairOf(tile)),
      make("span", { class: "caption" }, make("span", {}, id), make("span", { class: "value" }, state.sort === "id" ? "" : value)));
    link.dataset.i = i;
    return make("li", {}, link);
  }

  function matches(columns, i) {
    for (const key of FILTERS) {
      const wanted = state[key];
      if (!wanted) continue;
      if (key === "truth") { if (columns.coverage && (columns.coverage[i] > 0 ? "some" : "none") !== wanted) return false; }
      else if (key === "predicted") { if (columns.predicted && (columns.predicted[i] ? "some" : "none") !== wanted) return false; }
      else if (key === "id") { if (!columns.id[i].toLowerCase().includes(wanted.toLowerCase())) return false; }
      else if (columns[key] && String(columns[key][i]) !== wanted) return false;
    }
    return true;
  }

  function choose() {
    const columns = sets[state.set], values = columns[state.sort], sign = state.order === "down" ? -1 : 1;
    order = columns.id.map((_, i) => i).filter((i) => matches(columns, i));
    order.sort((a, b) => sign * (values[a] < values[b] ? -1 : values[a] > values[b] ? 1 : 0)
      || (columns.wrong ? columns.wrong[b] - columns.wrong[a] : 0) || (columns.id[a] < columns.id[b] ? -1 : 1));
    $("gallery").replaceChildren();
    drawn = 0;
    $("count").textContent = order.length === 0 ? "no tile is like this" : `${order.length.toLocaleString("en")} of ${columns.id.length.toLocaleString("en")} tiles, by ${LABELS[state.sort] || state.sort}`;
    more();
  }

  function more() {
    const next = order.slice(drawn, drawn + BATCH);
    $("gallery").append(...next.map(card));
    drawn += next.length;
    $("more").hidden = drawn >= order.length;
  }

  function options() {
    const columns = sets[state.set];
    form.elements.sort.replaceChildren(...Object.keys(columns).filter((c) => !HIDDEN.has(c)).map((c) => make("option", { value: c }, LABELS[c] || c)));
    for (const control of form.elements) {
      if (control.dataset.only) control.closest("label").classList.toggle("off", !control.dataset.only.split(" ").includes(state.set));
      if (control.name && control.name in state) control.value = state[control.name];
      else if (control.name && control.tagName !== "BUTTON") control.value = "";
    }
  }

  // Follow the address: filters, order, and the open tile. Links within the page are such addresses.
  function follow(scroll) {
    const words = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    const known = new Set([...FILTERS, "set", "sort", "order", "tile"]);
    const here = Object.keys(words);
    const isPart = here.length > 0 && !here.every((key) => known.has(key));  // the name of a part of the page
    absent(isPart && !$(here[0]) ? `This page has no part “${here[0]}”.` : "");
    if (isPart && state.set) return;
    const { tile, ...rest } = isPart ? {} : words;
    const holds = (name) => tile != null && sets[name].id.includes(tile);
    const set = sets[rest.set] ? rest.set : Object.keys(sets).find(holds) || Object.keys(sets)[0];
    const sort = sets[set][rest.sort] ? rest.sort : FIRST_SORT[set][0];
    const wanted = { ...rest, set, sort, order: rest.order || (rest.sort ? "up" : FIRST_SORT[set][1]) };
    if (JSON.stringify(wanted) !== JSON.stringify(state)) {
      state = wanted;
      options();
      choose();
      if (scroll && !tile && here.length && !isPart) $("tiles").scrollIntoView();
    }
    const i = tile == null ? -1 : sets[set].id.indexOf(tile);
    if (i >= 0) view(i);
    else if ($("viewer").open) $("viewer").close();
    if (i >= 0 || tile == null) return;
    const n = sets[set].id.length;
    absent(`Tile ${tile} is not in this page${n < all[set] ? `, which holds ${n.toLocaleString("en")} of ${all[set].toLocaleString("en")} tiles` : ""}.`);
    $("tiles").scrollIntoView();
  }

  // Say that the page lacks what its address asks for.
  function absent(text) {
    $("absent").hidden = !text;
    $("absent").textContent = text;
  }

  function view(i) {
    const columns = sets[state.set], tile = pictures(state.set, i), id = columns.id[i];
    open = i;
    $("viewer-title").textContent = `Tile ${id}`;
    $("panels").replaceChildren(...panels(tile, state.set));
    $("viewer-facts").replaceChildren(...Object.keys(columns).filter((c) => !HIDDEN.has(c) && c !== "id").map((c) =>
      make("div", {}, make("dt", {}, LABELS[c] || c), make("dd", {}, String(show(columns[c][i]))))));
    neighbours(columns, i);
    const at = order.indexOf(i);
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at >= order.length - 1;
    if (!$("viewer").open) $("viewer").showModal();
  }

  // The tiles around this one in its section, if the mosaic is known.
  function neighbours(columns, i) {
    const box = $("neighbours"), mosaic = columns.mosaic ? columns.mosaic[i] : null;
    box.hidden = mosaic === null;
    if (mosaic === null) return;
    const grid = make("div", { class: "grid" });
    for (let dy = -1; dy <= 1; dy++) {
      for (let dx = -1; dx <= 1; dx++) {
        const found = places.get(`${mosaic},${columns.row[i] + dy},${columns.column[i] + dx}`);
        if (!found) { grid.append(make("span")); continue; }
        const [set, k] = found, id = sets[set].id[k];
        grid.append(make("a", { href: `#${new URLSearchParams({ set, tile: id })}`, "aria-label": `tile ${id}` }, picture(pictures(set, k), "image", true)));
      }
    }
    box.replaceChildren(make("h4", {}, `Its place in section ${mosaic}`), grid);
  }

  function step(by) {
    const at = order.indexOf(open) + by;
    if (open !== null && at >= 0 && at < order.length) {
      history.replaceState(null, "", hashOf({ tile: sets[state.set].id[order[at]] }));
      view(order[at]);
    }
  }

  function changed() {
    const words = Object.fromEntries(new FormData(form));
    if (words.set && words.set !== state.set) { delete words.sort; delete words.order; }
    history.replaceState(null, "", hashOf({ ...words, tile: null, ...(words.sort ? {} : { sort: null, order: null }) }));
    follow(false);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", changed);
  form.elements.id.addEventListener("input", changed);
  form.addEventListener("reset", (event) => { event.preventDefault(); history.replaceState(null, "", `#set=${state.set}`); follow(false); });
  $("more").addEventListener("click", more);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("close").addEventListener("click", () => $("viewer").close());
  $("outlines").addEventListener("click", () => {
    const hidden = $("viewer").classList.toggle("no-outlines");
    $("outlines").setAttribute("aria-pressed", String(!hidden));
  });
  $("viewer").addEventListener("close", () => {
    const id = open === null ? null : sets[state.set].id[open];
    open = null;
    history.replaceState(null, "", hashOf({ tile: null }));
    for (const link of $("gallery").querySelectorAll("a")) if (sets[state.set].id[link.dataset.i] === id) link.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if ($("viewer").open) {
      if (by) step(by);
      if (event.key === "o") $("outlines").click();
      return;
    }
    const links = [...$("gallery").querySelectorAll("a")], at = links.indexOf(document.activeElement);
    if (at < 0) return;
    const top = (link) => Math.round(link.getBoundingClientRect().top);
    const across = links.filter((link) => top(link) === top(links[0])).length;
    const to = at + (by || { ArrowUp: -across, ArrowDown: across }[event.key] || 0);
    if (to === at || !links[to]) return;
    event.preventDefault();
    links[to].focus();
  });
  window.addEventListener("hashchange", () => follow(true));
  new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && drawn < order.length) more(); },
    { rootMargin: "600px" }).observe($("more").parentElement);
  follow(true);
})();
