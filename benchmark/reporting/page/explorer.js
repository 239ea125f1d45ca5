// The latent explorer: runs a trained decoder (benchmark/explorer.py says which) in the page.
"use strict";

// --- the decoder: float32 activations, images as rows of pixels with their channels side by side ---

const HALVES = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits++) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  HALVES[bits] = bits & 0x8000 ? -size : size;
}

function halves(base64) {
  const text = atob(base64);
  return Float32Array.from({ length: text.length / 2 }, (_, i) =>
    HALVES[text.charCodeAt(2 * i) | (text.charCodeAt(2 * i + 1) << 8)]);
}

function decoderOf(record) {
  const weights = halves(record.weights);
  let at = 0;
  const take = (n) => weights.subarray(at, (at += n));
  const layers = record.layers.map((layer) => {
    if (layer.kind === "relu") return relu;
    if (layer.kind === "linear") return linear(take(layer.inputs * layer.outputs), take(layer.outputs));
    if (layer.kind === "unflatten") return unflatten(...layer.shape);
    const { inputs, outputs, kernel } = layer;
    return upsample(channelsLast(take(inputs * outputs * kernel ** 2), layer), take(outputs), layer);
  });
  return (z) => layers.reduce((x, layer) => layer(x), { data: Float32Array.from(z), height: 1, width: 1 });
}

function relu(x) {
  for (let i = 0; i < x.data.length; i++) if (x.data[i] < 0) x.data[i] = 0;
  return x;
}

const linear = (weights, bias) => (x) => {
  const inputs = x.data.length, out = new Float32Array(bias.length);
  for (let o = 0; o < out.length; o++) {
    let sum = bias[o];
    for (let i = 0; i < inputs; i++) sum += weights[o * inputs + i] * x.data[i];
    out[o] = sum;
  }
  return { ...x, data: out };
};

const unflatten = (channels, height, width) => (x) => {
  const out = new Float32Array(x.data.length), pixels = height * width;
  for (let c = 0; c < channels; c++) for (let p = 0; p < pixels; p++) out[p * channels + c] = x.data[c * pixels + p];
  return { data: out, height, width };
};

// [input][output][y][x] -> [input][y][x][output], so that the innermost loop walks memory in order
function channelsLast(weights, { inputs, outputs, kernel }) {
  const out = new Float32Array(weights.length), area = kernel ** 2;
  for (let i = 0; i < inputs; i++)
    for (let o = 0; o < outputs; o++)
      for (let p = 0; p < area; p++) out[(i * area + p) * outputs + o] = weights[(i * outputs + o) * area + p];
  return out;
}

const upsample = (weights, bias, { inputs, outputs, kernel, stride, padding }) => (x) => {
  const height = (x.height - 1) * stride - 2 * padding + kernel, width = (x.width - 1) * stride - 2 * padding + kernel;
  const out = new Float32Array(height * width * outputs);
  for (let p = 0; p < out.length; p += outputs) out.set(bias, p);
  for (let y = 0; y < x.height; y++) for (let col = 0; col < x.width; col++) for (let i = 0; i < inputs; i++) {
    const value = x.data[(y * x.width + col) * inputs + i];
    if (value === 0) continue;
    for (let ky = 0; ky < kernel; ky++) {
      const row = y * stride - padding + ky;
      if (row < 0 || row >= height) continue;
      for (let kx = 0; kx < kernel; kx++) {
        const column = col * stride - padding + kx;
        if (column < 0 || column >= width) continue;
        const to = (row * width + column) * outputs, from = ((i * kernel + ky) * kernel + kx) * outputs;
        for (let o = 0; o < outputs; o++) out[to + o] += value * weights[from + o];
      }
    }
  }
  return { data: out, height, width };
};

function imageOf({ data, height, width }) {
  const image = new ImageData(width, height), channels = data.length / (height * width);
  for (let p = 0; p < height * width; p++) {
    for (let c = 0; c < 3; c++) {
      const logit = data[p * channels + (channels === 3 ? c : 0)];
      image.data[4 * p + c] = Math.round(255 / (1 + Math.exp(-logit)));
    }
    image.data[4 * p + 3] = 255;
  }
  return image;
}

// --- the page around it ---

{
  const get = (id) => document.getElementById(id);
  const root = get("explorer");
  const catalog = JSON.parse(get("catalog").textContent);
  const loaded = new Map(); // run -> its record, with `decode` once it was used
  const waiting = new Map(); // run -> what to do when its file has come
  let record = null, code = null, start = 0, active = null, drawing = 0, along = 0;

  window.exploreRun = (found) => {
    loaded.set(found.id, found);
    waiting.get(found.id)?.(found);
  };

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const dataset = () => catalog.find((d) => d.name === get("x-dataset").value);
  const fill = (select, values, first) => {
    const before = select.value || first;
    select.replaceChildren(...[...new Set(values)].map((value) => new Option(value, value)));
    if (values.some((value) => String(value) === before)) select.value = before;
  };

  function choose(what) {
    if (what === "dataset") fill(get("x-model"), dataset().runs.map((run) => run.label), dataset().start);
    const runs = dataset().runs.filter((run) => run.label === get("x-model").value);
    fill(get("x-seed"), runs.map((run) => run.seed));
    const shown = runs.find((run) => run.where === "page"); // the run that stands for its model
    if (what !== "seed" && shown) get("x-seed").value = shown.seed;
    open(runs.find((run) => String(run.seed) === get("x-seed").value));
  }

  function open(run) {
    waiting.clear();
    record = null;
    if (run.where === "none") return say(`${run.label}, seed ${run.seed} cannot be explored: ${run.reason}.`);
    const inPage = get(`run-${run.id}`);
    if (!loaded.has(run.id) && inPage) loaded.set(run.id, JSON.parse(inPage.textContent));
    if (loaded.has(run.id)) return show(loaded.get(run.id));
    say(`Loading ${run.label}, seed ${run.seed} …`);
    waiting.set(run.id, show);
    const script = make("script", { src: `explorer/${encodeURIComponent(run.id)}.js` });
    script.onerror = () => waiting.has(run.id) && say(`explorer/${run.id}.js is not beside this page.`);
    document.head.append(script);
  }

  function say(text) {
    cancelAnimationFrame(drawing);
    clearTimeout(along);
    get("x-message").textContent = text;
    get("x-bench").hidden = true;
  }

  function show(found) {
    found.decode ??= decoderOf(found);
    record = found;
    get("x-message").textContent = "";
    get("x-bench").hidden = false;
    const order = record.sliders.map((_, i) => i).sort((a, b) => (record.sliders[b].kl ?? 0) - (record.sliders[a].kl ?? 0));
    const most = Math.max(1e-6, ...record.sliders.map((s) => s.kl ?? 0));
    get("x-sliders").replaceChildren(...order.map((i) => slider(i, most)));
    get("x-classes").replaceChildren(...record.classes.map(classButtons));
    const images = dataset().images;
    get("x-starts").replaceChildren(...images.map((image, i) => {
      const button = make("button", { type: "button", "aria-pressed": "false" }, make("img", { src: image.src, alt: image.alt }));
      button.addEventListener("click", () => begin(i));
      return button;
    }));
    get("x-origin").hidden = !images.length;
    active = order.length ? { slider: order[0] } : { category: 0 };
    begin(Math.min(start, Math.max(record.starts.length - 1, 0)));
  }

  // A quantised latent has values that its slider goes through: it stands at the number of one.
  const nearest = (values, z) => values.reduce((best, value, n) => (Math.abs(value - z) < Math.abs(values[best] - z) ? n : best), 0);

  function steps({ values, low, high }, columns = 9) {
    if (values && values.length < columns) return values;
    const at = Array.from({ length: columns }, (_, n) => n / (columns - 1));
    return values ? at.map((share) => values[Math.round(share * (values.length - 1))]) : at.map((share) => low + share * (high - low));
  }

  function slider(i, most) {
    const { name, kl, low, high, dead, values } = record.sliders[i];
    const range = values ? { min: 0, max: values.length - 1, step: 1 } : { min: low, max: high, step: "any" };
    const input = make("input", { type: "range", id: `x-${name}`, ...range, "aria-describedby": `x-${name}-kl` });
    input.addEventListener("input", () => {
      code.z[i] = values ? values[Number(input.value)] : Number(input.value);
      focusOn({ slider: i });
      changed();
    });
    input.addEventListener("focus", () => { focusOn({ slider: i }); changed(); });
    const bar = make("i", { "aria-hidden": "true" });
    bar.style.width = `${100 * (kl ?? 0) / most}%`;
    const text = (kl === null ? "" : `${kl.toFixed(2)} nats`) + (dead ? ", unused" : "");
    return make("div", { class: dead ? "slider dead" : "slider" },
      make("label", { for: `x-${name}` }, name), input, make("output", { for: `x-${name}`, id: `x-${name}-value` }),
      make("span", { class: "nats", id: `x-${name}-kl` }, text, bar));
  }

  function classButtons({ name, k, kl, share }, index) {
    const buttons = Array.from({ length: k }, (_, value) => {
      const used = share ? `${Math.round(100 * share[value])} %` : "";
      const button = make("button", { type: "button", "data-class": index, "data-value": value, "aria-pressed": "false",
        "aria-label": `${name} class ${value}${used && `, ${used} of images`}` }, String(value), make("small", {}, used));
      button.addEventListener("click", () => { code.classes[index] = value; focusOn({ category: index }); changed(); });
      return button;
    });
    const nats = kl === null ? "" : `, ${kl.toFixed(2)} nats`;
    return make("fieldset", { class: "classes" }, make("legend", {}, `Class ${name}${nats}; below each its share of the images`), ...buttons);
  }

  function focusOn(which) {
    if (JSON.stringify(which) !== JSON.stringify(active)) active = which;
  }

  function begin(index) {
    start = index;
    const from = record.starts[index];
    code = from ? { z: [...from.z], classes: [...from.classes], real: index }
      : { z: record.sliders.map(() => 0), classes: record.classes.map(() => 0), real: null };
    changed();
  }

  function draw() {
    const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    const pick = (n) => Math.floor(n * Math.random());
    const own = record.prior && record.prior[pick(record.prior.length)];
    const drawn = own || { z: record.sliders.map(normal), classes: record.classes.map(({ k }) => pick(k)) };
    code = { z: [...drawn.z], classes: [...drawn.classes], real: null };
    changed();
  }

  const vector = ({ z, classes }) =>
    [...z, ...record.classes.flatMap(({ k }, i) => Array.from({ length: k }, (_, v) => Number(v === classes[i])))];

  function changed() {
    for (const [i, { name, values }] of record.sliders.entries()) {
      const input = get(`x-${name}`), at = values ? nearest(values, code.z[i]) : code.z[i], text = code.z[i].toFixed(2);
      if (Number(input.value) !== at) input.value = at;
      if (values) input.setAttribute("aria-valuetext", text);
      get(`x-${name}-value`).value = text;
    }
    for (const button of get("x-classes").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", code.classes[button.dataset.class] === Number(button.dataset.value));
    }
    [...get("x-starts").children].forEach((button, i) => button.setAttribute("aria-pressed", i === code.real));
    const image = dataset().images[code.real];
    get("x-origin").style.visibility = image ? "visible" : "hidden";
    if (image) Object.assign(get("x-real"), { src: image.src, alt: `Real image: ${image.alt}` });
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(paint);
    clearTimeout(along);
    along = setTimeout(paintAlong, 30);
  }

  function paint() {
    const z = vector(code), image = imageOf(record.decode(z)), canvas = get("x-image");
    Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    root.dataset.shown = JSON.stringify([record.id, z]); // what the image shows, for tests
  }

  function paintAlong() {
    const variants = [], { slider: i, category } = active;
    if (category === undefined) {
      const { name } = record.sliders[i], stops = steps(record.sliders[i]);
      for (const value of stops) variants.push({ ...code, z: code.z.map((v, j) => (j === i ? value : v)) });
      get("x-along-text").textContent = `Along ${name}, from ${stops[0].toFixed(1)} to ${stops.at(-1).toFixed(1)}, all else as above`;
    } else {
      const { name, k } = record.classes[category];
      for (let n = 0; n < k; n++) variants.push({ ...code, classes: code.classes.map((v, j) => (j === category ? n : v)) });
      get("x-along-text").textContent = `Every class of ${name}, all else as above`;
    }
    const images = variants.map((variant) => imageOf(record.decode(vector(variant)))), canvas = get("x-along");
    Object.assign(canvas, { width: images.length * (images[0].width + 1) - 1, height: images[0].height });
    images.forEach((image, n) => canvas.getContext("2d").putImageData(image, n * (image.width + 1), 0));
  }

  if (root && catalog.length) {
    root.hidden = false;
    fill(get("x-dataset"), catalog.map((d) => d.name));
    for (const name of ["dataset", "model", "seed"]) get(`x-${name}`).addEventListener("change", () => choose(name));
    get("x-reset").addEventListener("click", () => begin(start));
    get("x-random").addEventListener("click", draw);
    choose("dataset");
  }
}
