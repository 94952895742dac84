"use strict";
// The page of `reid review`: shows a pair of photographs, takes the answer, keeps it where the browser allows it.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { photos, questions } = data;
  const $ = (id) => document.getElementById(id);
  const PREFIX = `reid-review/${data.fingerprint}/`;
  const ANSWERS = ["same", "different", "unsure"];
  const SVG = "http://www.w3.org/2000/svg";

  // ---- what was answered: events that are only ever added, each under a key of its own, so that two tabs lose nothing

  const store = openStore();
  let events = new Map(); // key -> {image_id_a, image_id_b, answer, who, when, note} or {undo, when}
  let unsaved = 0;

  function openStore() {
    try {
      const probe = `${PREFIX}probe`;
      localStorage.setItem(probe, "1");
      localStorage.removeItem(probe);
      return localStorage;
    } catch {
      return null;
    }
  }

  function isAnswer(event) {
    const texts = ["image_id_a", "image_id_b", "answer", "who", "when", "note"];
    return texts.every((name) => typeof event[name] === "string") && ANSWERS.includes(event.answer);
  }

  function readStore() {
    let broken = 0;
    for (let place = 0; store && place < store.length; place += 1) {
      const key = store.key(place);
      if (key === null || !key.startsWith(PREFIX)) continue;
      try {
        const event = JSON.parse(store.getItem(key));
        if (typeof event.undo === "string" || isAnswer(event)) events.set(key, event);
        else broken += 1;
      } catch {
        broken += 1;
      }
    }
    return broken;
  }

  function keep(event) {
    const key = `${PREFIX}${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
    events.set(key, event);
    unsaved += 1;
    try {
      if (store) store.setItem(key, JSON.stringify(event));
    } catch {
      tell("The browser has no room left for answers: save the file now.", true);
    }
  }

  const pairKey = (a, b) => JSON.stringify([a, b].sort());
  const whoKey = (who) => who.trim().replace(/\s+/g, " ").toLowerCase();

  /** The answers that count, oldest first: of each person the last one to each pair, undone ones left out. */
  function standing() {
    const undone = new Set([...events.values()].map((event) => event.undo).filter(Boolean));
    const said = [...events].filter(([key, event]) => !event.undo && !undone.has(key));
    said.sort(([one, a], [other, b]) => (a.when < b.when ? -1 : a.when > b.when ? 1 : one < other ? -1 : 1));
    const last = new Map();
    for (const [key, event] of said) {
      const who = pairKey(pairKey(event.image_id_a, event.image_id_b), whoKey(event.who));
      last.delete(who);
      last.set(who, { key, ...event });
    }
    return [...last.values()];
  }

  // ---- the question that is shown

  let current = 0;
  let shown = [null, null]; // the photographs in the two frames; others than asked about after a click on one
  let withMatches = false;
  const view = { scale: 1, x: 0.5, y: 0.5 }; // of both frames: how much larger, and the middle as shares of a photograph
  const frames = [...document.querySelectorAll(".frame")];
  const images = frames.map((frame) => frame.querySelector("image"));

  function make(name, text, classes) {
    const element = document.createElement(name);
    if (text) element.textContent = text;
    if (classes) element.className = classes;
    return element;
  }

  function answerOf(question, said) {
    const key = pairKey(question.pair[0], question.pair[1]);
    return said.findLast((event) => pairKey(event.image_id_a, event.image_id_b) === key);
  }

  function show(number) {
    current = Math.max(0, Math.min(questions.length - 1, number));
    shown = [...questions[current].pair];
    Object.assign(view, { scale: 1, x: 0.5, y: 0.5 });
    draw();
  }

  function draw() {
    const question = questions[current];
    const said = standing();
    const answered = questions.filter((one) => answerOf(one, said)).length;
    $("place").textContent = `Pair ${current + 1} of ${questions.length}`;
    $("done").textContent = `${answered} answered`;
    $("progress").value = answered;
    $("kind").textContent = question.title;
    $("why").textContent = question.why;
    $("drawn").hidden = !question.drawn;
    const own = answerOf(question, said);
    for (const answer of ANSWERS) $(answer).setAttribute("aria-pressed", String(own?.answer === answer));
    $("undo").disabled = said.length === 0;
    $("previous").disabled = current === 0;
    $("next").disabled = current === questions.length - 1;
    $("finished").hidden = answered < questions.length;
    $("matches").disabled = question.matches.length === 0;
    $("matches").setAttribute("aria-pressed", String(withMatches));
    frames.forEach((_, side) => drawSide(question, side));
    drawView();
  }

  function drawSide(question, side) {
    const photo = photos[shown[side]];
    const asked = shown[side] === question.pair[side];
    const box = document.querySelectorAll(".side")[side];
    box.querySelector(".name").textContent = question.names[side];
    box.querySelector(".detail").textContent = photo.facts;
    const note = box.querySelector(".instead");
    note.hidden = asked;
    showPicture(side, photo);
    const strip = box.querySelector(".others");
    strip.replaceChildren();
    const others = [question.pair[side], ...question.others[side]];
    if (others.length < 2) return;
    for (const id of others) {
      const button = make("button", "", "other");
      button.type = "button";
      button.setAttribute("aria-pressed", String(id === shown[side]));
      button.title = photos[id].facts;
      const picture = make("img");
      picture.src = photos[id].preview;
      picture.alt = `photograph ${id}`;
      button.append(picture);
      button.addEventListener("click", () => {
        shown[side] = id;
        draw();
      });
      strip.append(button);
    }
    const left = question.left[side];
    if (left) strip.append(make("span", `and ${left} more`, "muted"));
  }

  // ---- originals: where the data folder is still beside the page, they take the place of the previews

  let originals = null; // null: not known yet
  function probe() {
    const image = new Image();
    image.addEventListener("load", () => {
      originals = true;
      draw();
    });
    image.addEventListener("error", () => {
      originals = false;
      $("previews").hidden = false;
    });
    const first = questions.flatMap((one) => one.pair).find((id) => photos[id].original);
    if (first) image.src = photos[first].original;
    else $("previews").hidden = false;
  }

  const held = [null, null]; // what each frame holds: a photograph, and whether its original was asked for
  function showPicture(side, photo) {
    const image = images[side];
    const wanted = shown[side];
    if (held[side]?.id === wanted && held[side].original === originals) return;
    held[side] = { id: wanted, original: originals };
    const frame = frames[side];
    frame.querySelector(".problem").textContent = photo.problem;
    image.removeAttribute("transform");
    image.setAttribute("width", photo.width);
    image.setAttribute("height", photo.height);
    image.setAttribute("href", photo.preview);
    frame.setAttribute("aria-label", `photograph ${wanted}`);
    if (!originals || !photo.original) return;
    const large = new Image();
    large.addEventListener("load", () => {
      if (shown[side] !== wanted) return;
      turn(image, photo);
      image.setAttribute("href", photo.original);
    });
    large.src = photo.original; // where the browser can't show it, the preview stays
  }

  /** Turn the original as its preview was turned, `photo.turn` degrees anticlockwise. */
  function turn(image, photo) {
    const { width, height } = photo;
    const sideways = photo.turn % 180 !== 0;
    image.setAttribute("width", sideways ? height : width);
    image.setAttribute("height", sideways ? width : height);
    const moved = { 90: `translate(0 ${height})`, "-90": `translate(${width} 0)`, 180: `translate(${width} ${height})` };
    if (photo.turn) image.setAttribute("transform", `${moved[photo.turn]} rotate(${-photo.turn})`);
  }

  // ---- zoom and pan, of both photographs together

  const MOST = 12;

  /** The part of a photograph that its frame shows, in the photograph's units. */
  function boxOf(side) {
    const photo = photos[shown[side]];
    const { width, height } = frames[side].getBoundingClientRect();
    const unit = Math.max(photo.width / width, photo.height / height) / view.scale; // of the photograph, per pixel
    const [across, down] = [unit * width, unit * height];
    return { x: view.x * photo.width - across / 2, y: view.y * photo.height - down / 2, across, down, unit };
  }

  function drawView() {
    frames.forEach((frame, side) => {
      const box = boxOf(side);
      frame.querySelector("svg").setAttribute("viewBox", `${box.x} ${box.y} ${box.across} ${box.down}`);
      frame.classList.toggle("zoomed", view.scale > 1);
    });
    $("reset").disabled = view.scale === 1;
    drawMatches();
  }

  function zoom(side, factor, clientX, clientY) {
    const frame = frames[side].getBoundingClientRect();
    const photo = photos[shown[side]];
    const before = boxOf(side);
    const scale = Math.max(1, Math.min(MOST, view.scale * factor));
    const away = [clientX - frame.x - frame.width / 2, clientY - frame.y - frame.height / 2];
    const gained = before.unit * (1 - view.scale / scale);
    view.x += (away[0] * gained) / photo.width;
    view.y += (away[1] * gained) / photo.height;
    view.scale = scale;
    settle();
  }

  function pan(side, dx, dy) {
    const photo = photos[shown[side]];
    const { unit } = boxOf(side);
    view.x -= (dx * unit) / photo.width;
    view.y -= (dy * unit) / photo.height;
    settle();
  }

  /** Keep the middle on the photograph; the whole photograph in the middle where nothing is enlarged. */
  function settle() {
    if (view.scale === 1) Object.assign(view, { x: 0.5, y: 0.5 });
    view.x = Math.max(0, Math.min(1, view.x));
    view.y = Math.max(0, Math.min(1, view.y));
    drawView();
  }

  const middle = (side) => {
    const { x, y, width, height } = frames[side].getBoundingClientRect();
    return [x + width / 2, y + height / 2];
  };

  frames.forEach((frame, side) => {
    const fingers = new Map();
    const spread = () => {
      const [one, other] = [...fingers.values()];
      return Math.hypot(one.x - other.x, one.y - other.y);
    };
    frame.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        zoom(side, Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
      },
      { passive: false },
    );
    frame.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      frame.setPointerCapture(event.pointerId);
    });
    frame.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = { x: event.clientX, y: event.clientY };
      const apart = fingers.size === 2 ? spread() : 0;
      fingers.set(event.pointerId, now);
      if (fingers.size === 1 && view.scale > 1) pan(side, now.x - before.x, now.y - before.y);
      if (fingers.size === 2 && apart > 0) {
        const [one, other] = [...fingers.values()];
        zoom(side, spread() / apart, (one.x + other.x) / 2, (one.y + other.y) / 2);
        pan(side, (now.x - before.x) / 2, (now.y - before.y) / 2);
      }
    });
    for (const name of ["pointerup", "pointercancel"]) {
      frame.addEventListener(name, (event) => fingers.delete(event.pointerId));
    }
    frame.addEventListener("dblclick", (event) => {
      zoom(side, view.scale > 1 ? 1 / MOST : 3, event.clientX, event.clientY);
    });
  });

  // ---- keypoints that both photographs share

  function drawMatches() {
    const question = questions[current];
    const lines = $("lines");
    lines.replaceChildren();
    const asked = shown.every((id, side) => id === question.pair[side]);
    lines.toggleAttribute("hidden", !(withMatches && asked));
    if (!withMatches || !asked) return;
    const origin = lines.getBoundingClientRect();
    const ends = [0, 1].map((side) => {
      const photo = photos[question.pair[side]];
      const longer = Math.max(photo.width, photo.height) / 1000;
      const frame = frames[side].getBoundingClientRect();
      const box = boxOf(side);
      return (x, y) => {
        const inside = [(x * longer - box.x) / box.unit, (y * longer - box.y) / box.unit];
        const visible = inside[0] >= 0 && inside[1] >= 0 && inside[0] <= frame.width && inside[1] <= frame.height;
        return visible ? [inside[0] + frame.x - origin.x, inside[1] + frame.y - origin.y] : null;
      };
    });
    question.matches.forEach(([x, y, u, v], number) => {
      const [from, to] = [ends[0](x, y), ends[1](u, v)];
      if (!from || !to) return;
      const group = document.createElementNS(SVG, "g");
      group.setAttribute("class", `k${number % 6}`);
      const line = document.createElementNS(SVG, "path");
      line.setAttribute("d", `M${from.join(" ")}L${to.join(" ")}`);
      group.append(line);
      for (const end of [from, to]) {
        const dot = document.createElementNS(SVG, "circle");
        dot.setAttribute("cx", end[0]);
        dot.setAttribute("cy", end[1]);
        dot.setAttribute("r", 4);
        group.append(dot);
      }
      lines.append(group);
    });
  }

  // ---- what a person does

  function give(answer) {
    const question = questions[current];
    const [image_id_a, image_id_b] = question.pair;
    const who = $("who").value.trim().replace(/\s+/g, " ");
    keep({ image_id_a, image_id_b, answer, who, when: new Date().toISOString(), note: question.drawn });
    const said = standing();
    const open = (number) => number < questions.length && !answerOf(questions[number], said);
    const later = questions.map((_, number) => number);
    const next = [...later.slice(current + 1), ...later.slice(0, current)].find(open);
    show(next ?? current);
  }

  function undo() {
    const last = standing().at(-1);
    if (!last) return;
    keep({ undo: last.key, when: new Date().toISOString() });
    const key = pairKey(last.image_id_a, last.image_id_b);
    const place = questions.findIndex((one) => pairKey(one.pair[0], one.pair[1]) === key);
    show(place < 0 ? current : place);
    tell("The last answer is taken back.");
  }

  function save() {
    const answers = standing().map(({ image_id_a, image_id_b, answer, who, when, note }) => {
      return { image_id_a, image_id_b, answer, who, when, note };
    });
    const { format, version, fingerprint, asked } = data;
    const content = JSON.stringify({ format, version, fingerprint, photographs: asked, answers }, null, 1);
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
    link.download = `answers-${new Date().toISOString().slice(0, 16).replace(/[:T]/g, "-")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    unsaved = 0;
    tell(`${answers.length} answers saved as ${link.download}. Next: reid review DATA --apply ${link.download}`);
  }

  async function load(file) {
    try {
      const content = JSON.parse(await file.text());
      if (content.format !== data.format) throw new Error("it holds no answers of this kind of page");
      if (content.fingerprint !== data.fingerprint) throw new Error("its answers are about other photographs");
      if (!Array.isArray(content.answers) || !content.answers.every(isAnswer)) throw new Error("it is damaged");
      const there = new Set(standing().map((one) => JSON.stringify([one.image_id_a, one.image_id_b, one.who, one.when])));
      const added = content.answers.filter(
        (one) => !there.has(JSON.stringify([one.image_id_a, one.image_id_b, one.who, one.when])),
      );
      added.forEach(keep);
      draw();
      tell(`${added.length} answers loaded from ${file.name}.`);
    } catch (problem) {
      const why = problem instanceof SyntaxError ? "it is cut short, or no JSON" : problem.message;
      tell(`${file.name} can't be used: ${why}. Nothing was changed.`, true);
    }
  }

  function tell(words, isProblem = false) {
    $("told").textContent = words;
    $("told").classList.toggle("problem", isProblem);
  }

  function toggleMatches() {
    if (questions[current].matches.length === 0) return;
    withMatches = !withMatches;
    shown = [...questions[current].pair];
    draw();
  }

  const reset = () => {
    view.scale = 1;
    settle();
  };
  const nearer = (factor) => zoom(0, factor, ...middle(0));
  const actions = {
    s: () => give("same"),
    d: () => give("different"),
    u: () => give("unsure"),
    z: undo,
    m: toggleMatches,
    0: reset,
    "+": () => nearer(1.5),
    "=": () => nearer(1.5),
    "-": () => nearer(1 / 1.5),
    ArrowLeft: () => show(current - 1),
    ArrowRight: () => show(current + 1),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea")) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  for (const answer of ANSWERS) $(answer).addEventListener("click", () => give(answer));
  $("undo").addEventListener("click", undo);
  $("previous").addEventListener("click", () => show(current - 1));
  $("next").addEventListener("click", () => show(current + 1));
  $("matches").addEventListener("click", toggleMatches);
  $("reset").addEventListener("click", reset);
  $("nearer").addEventListener("click", () => nearer(1.5));
  $("save").addEventListener("click", save);
  $("load").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", async () => {
    if ($("file").files.length) await load($("file").files[0]);
    $("file").value = "";
  });
  $("who").addEventListener("change", () => {
    try {
      if (store) store.setItem("reid-review-who", $("who").value);
    } catch {
      // the name is typed again next time
    }
  });
  window.addEventListener("resize", drawView);
  window.addEventListener("storage", () => {
    readStore();
    draw();
  });
  window.addEventListener("beforeunload", (event) => {
    if (!store && unsaved) event.preventDefault();
  });

  const broken = readStore();
  if (!store) tell("This browser keeps no answers for this page: save the file before you close it.", true);
  else if (broken) tell(`${broken} stored answers can't be read and are left out.`, true);
  try {
    $("who").value = store?.getItem("reid-review-who") ?? "";
  } catch {
    // no name yet
  }
  $("progress").max = questions.length;
  const said = standing();
  const first = questions.findIndex((question) => !answerOf(question, said));
  show(first < 0 ? 0 : first);
  probe();
})();
