"use strict";
(() => {
  const UPLOADS = 2; // at a time
  const POLL = 400; // milliseconds
  const $ = (id) => document.getElementById(id);
  const { upload, largest, suffixes, minutes } = document.body.dataset;
  const photos = [];
  let chosen = null;
  let uploading = 0;
  let polling = false;
  let pausedUntil = 0;
  let batch = null; // when the photographs under way were begun, and how many were done then

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }
  const wait = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));
  const isUnderWay = (photo) => ["queued", "uploading", "waiting", "working"].includes(photo.state);

  function duration(seconds) {
    if (seconds < 1.5) return "a second";
    if (seconds < 90) return `${Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  }

  // ---- Adding

  function add(files, fromFolder) {
    const leftOut = [];
    for (const { file, path } of files) {
      const name = path.split("/").pop();
      const suffix = name.includes(".") ? name.slice(name.lastIndexOf(".")).toLowerCase() : "";
      if (fromFolder && !suffixes.split(" ").includes(suffix)) {
        if (!name.startsWith(".")) leftOut.push(name);
        continue;
      }
      const photo = { file, path, name, state: "queued", strength: 1, item: null };
      if (file.size > Number(upload)) fail(photo, `is larger than ${largest}, which is the most this server takes`);
      else if (file.size === 0) fail(photo, "is an empty file");
      photos.push(photo);
      addItem(photo);
    }
    if (leftOut.length) {
      const some = leftOut.slice(0, 3).join(", ") + (leftOut.length > 3 ? ", …" : "");
      say(`Left out, as no photographs that are read here: ${leftOut.length} (${some})`);
    }
    if (!photos.length) return;
    document.body.classList.add("has-photos");
    $("work").hidden = false;
    if (!chosen) choose(photos[0]);
    if (!batch) batch = { begin: performance.now(), done: photos.filter((one) => !isUnderWay(one)).length };
    uploadNext();
    showProgress();
  }

  function say(text) {
    const close = make("button", { type: "button", className: "quiet", textContent: "Dismiss" });
    const notice = make("div", { className: "notice" }, make("span", { textContent: text }), close);
    close.addEventListener("click", () => notice.remove());
    $("notices").replaceChildren(notice);
  }

  async function filesOf(entry, path) {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      return [{ file, path: path + entry.name }];
    }
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!part.length) break; // it gives a hundred at a time
      for (const one of part) found.push(...(await filesOf(one, `${path}${entry.name}/`)));
    }
    return found;
  }

  async function drop(transfer) {
    const items = [...transfer.items].filter((item) => item.kind === "file");
    // Before anything is awaited: the browser empties the transfer.
    const parts = items.map((item) => {
      const entry = item.webkitGetAsEntry && item.webkitGetAsEntry();
      return entry && entry.isDirectory ? { entry } : { file: item.getAsFile() };
    });
    const single = parts.filter((part) => part.file).map(({ file }) => ({ file, path: file.name }));
    if (single.length) add(single, false);
    for (const { entry } of parts.filter((part) => part.entry)) {
      try {
        add(await filesOf(entry, ""), true);
      } catch (error) {
        say(`The folder ${entry.name} cannot be read: ${error.message}`);
      }
    }
  }

  $("files").addEventListener("change", (event) => {
    add([...event.target.files].map((file) => ({ file, path: file.name })), false);
    event.target.value = "";
  });
  $("folder").addEventListener("change", (event) => {
    add([...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })), true);
    event.target.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) add(files.map((file) => ({ file, path: file.name })), false);
  });
  const bringsFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  let depth = 0; // of elements that the drag is over
  document.addEventListener("dragenter", (event) => {
    if (!bringsFiles(event)) return;
    depth += 1;
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!bringsFiles(event)) return;
    depth = Math.max(0, depth - 1);
    document.body.classList.toggle("dragging", depth > 0);
  });
  document.addEventListener("dragover", (event) => {
    if (bringsFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("dragging");
    drop(event.dataTransfer);
  });

  // ---- Uploading, two at a time, and waiting where the server says so

  function fail(photo, problem) {
    photo.state = "failed";
    // The server's line begins with the name, which stands above it already.
    const name = `${photo.path}: `;
    photo.problem = problem.startsWith(name) ? problem.slice(name.length) : problem;
  }

  function uploadNext() {
    if (performance.now() < pausedUntil) return;
    while (uploading < UPLOADS) {
      const photo = photos.find((one) => one.state === "queued");
      if (!photo) return;
      uploadOne(photo);
    }
  }

  function uploadOne(photo) {
    uploading += 1;
    photo.state = "uploading";
    photo.share = 0;
    const request = new XMLHttpRequest();
    photo.request = request;
    request.open("POST", `photos?name=${encodeURIComponent(photo.path.slice(-1000))}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      photo.share = event.total ? event.loaded / event.total : 0;
      update(photo);
    });
    request.addEventListener("loadend", () => {
      uploading -= 1;
      photo.request = null;
      if (photo.isRemoved) {
        if (request.status === 201) forget([request.response.id]);
        return uploadNext();
      }
      if (request.status === 201) {
        Object.assign(photo, request.response);
        photo.file = null;
        poll();
      } else if (request.status === 429) {
        const seconds = Number(request.getResponseHeader("Retry-After")) || 2;
        photo.state = "queued";
        pausedUntil = performance.now() + 1000 * seconds;
        setTimeout(uploadNext, 1000 * seconds + 20);
      } else if (request.status) {
        fail(photo, request.response?.detail || `the server answered ${request.status}`);
      } else {
        fail(photo, "the server does not answer");
        photo.mayRetry = true;
      }
      update(photo);
      uploadNext();
    });
    request.send(photo.file);
    update(photo);
  }

  async function poll() {
    if (polling) return;
    polling = true;
    for (;;) {
      const pending = photos.filter((one) => one.id && ["waiting", "working"].includes(one.state));
      if (!pending.length) break;
      try {
        const query = pending.slice(0, 200).map((one) => `id=${one.id}`).join("&");
        const answer = await fetch(`photos?${query}`);
        if (answer.ok) {
          for (const state of await answer.json()) {
            const photo = photos.find((one) => one.id === state.id);
            if (!photo) continue;
            Object.assign(photo, state);
            if (state.state === "failed") fail(photo, state.problem);
            if (state.state === "gone") fail(photo, "the server no longer has it; add it again");
            update(photo);
          }
        }
      } catch {
        // It is asked again; what the page shows stays.
      }
      await wait(POLL);
    }
    polling = false;
  }

  // ---- The list

  function addItem(photo) {
    const state = make("span", { className: "state" });
    photo.item = make("button", { type: "button", className: "item" }, state);
    photo.item.addEventListener("click", () => choose(photo));
    photo.item.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const next = step && photos[photos.indexOf(photo) + step];
      if (next) {
        event.preventDefault();
        choose(next);
        next.item.focus();
      }
    });
    $("list").append(make("li", {}, photo.item));
    update(photo);
  }

  function words(photo) {
    switch (photo.state) {
      case "queued": return "to be sent";
      case "uploading": return `sending ${Math.round(100 * (photo.share || 0))} %`;
      case "waiting": return `${photo.ahead} ahead`;
      case "working": return "dehazing";
      case "failed": return "failed";
      default: return "dehazed";
    }
  }

  function update(photo) {
    if (!photo.item || photo.isRemoved) return;
    const text = words(photo);
    photo.item.setAttribute("aria-label", `${photo.name}, ${text}`);
    photo.item.title = photo.path;
    photo.item.classList.toggle("failed", photo.state === "failed");
    photo.item.querySelector(".state").textContent = photo.state === "done" ? "" : text;
    if (photo.state === "done" && !photo.item.querySelector("img")) {
      photo.item.prepend(make("img", { src: `photos/${photo.id}/thumbnail`, alt: "", loading: "lazy" }));
    }
    if (photo === chosen && photo.shownState !== stateKey(photo)) show();
    showProgress();
  }
  const stateKey = (photo) => [photo.state, words(photo), Math.round(photo.seconds_left || 0)].join();

  function showProgress() {
    const total = photos.length;
    const done = photos.filter((one) => one.state === "done").length;
    const failed = photos.filter((one) => one.state === "failed").length;
    const left = total - done - failed;
    let text = `${done} of ${total} dehazed`;
    if (failed) text += `, ${failed} failed`;
    if (left) {
      const known = photos.map((one) => (isUnderWay(one) ? one.seconds_left : 0) || 0);
      let seconds = Math.max(...known);
      const finished = batch ? done + failed - batch.done : 0;
      if (photos.some((one) => one.state === "queued")) {
        seconds = finished > 0 ? (((performance.now() - batch.begin) / finished) * left) / 1000 : 0;
      }
      if (seconds > 0) text += `, about ${duration(seconds)} left`;
    } else {
      batch = null;
    }
    if ($("progress-text").textContent !== text) $("progress-text").textContent = text;
    $("progress").hidden = !left;
    $("progress").max = total || 1;
    $("progress").value = done + failed;
    $("download-all").disabled = !done;
    $("download-all").textContent = "Download all (ZIP)";
    $("for-all").hidden = total < 2;
  }

  // ---- The chosen photograph

  const canvas = $("after");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let pixels = null; // of the chosen photograph's preview: hazy, dehazed and what is shown

  function choose(photo) {
    chosen = photo;
    pixels = null;
    for (const one of photos) one.item?.setAttribute("aria-current", String(one === photo));
    photo.item?.scrollIntoView({ block: "nearest", inline: "nearest" });
    show();
  }

  function show() {
    const photo = chosen;
    photo.shownState = stateKey(photo);
    const isDone = photo.state === "done";
    $("name").textContent = photo.name;
    $("facts").textContent = photo.width ? `${photo.width} × ${photo.height}` : "";
    $("controls").hidden = !isDone;
    $("strength").value = String(photo.strength);
    showStrength();
    $("remarks").replaceChildren(...(photo.notes || []).map((note) => make("li", { textContent: note })));
    $("stage").style.setProperty("--ratio", photo.width ? photo.width / photo.height : 1.5);
    if (!isDone) showMessage(photo);
    else if (!pixels || pixels.photo !== photo) load(photo);
  }

  function showMessage(photo) {
    $("stage").classList.remove("ready");
    const box = $("message");
    box.classList.toggle("bad", photo.state === "failed");
    const parts = [];
    if (photo.state === "failed") {
      parts.push(make("p", { textContent: `${photo.name}: ${photo.problem}` }));
      if (photo.mayRetry) {
        const again = make("button", { type: "button", className: "button", textContent: "Try again" });
        again.addEventListener("click", () => {
          Object.assign(photo, { state: "queued", mayRetry: false });
          update(photo);
          uploadNext();
        });
        parts.push(again);
      }
    } else {
      const left = photo.seconds_left ? `, about ${duration(photo.seconds_left)} left` : "";
      const what = {
        queued: "Waiting to be sent",
        uploading: `Sending, ${Math.round(100 * (photo.share || 0))} %`,
        waiting: `In the queue, ${photo.ahead} ahead${left}`,
        working: `Dehazing${left}`,
      }[photo.state];
      parts.push(make("p", { textContent: what }));
    }
    box.replaceChildren(...parts);
  }

  async function load(photo) {
    $("stage").classList.remove("ready");
    try {
      const [before, after] = await Promise.all(
        ["before", "after"].map(async (look) => {
          const image = make("img", { src: `photos/${photo.id}/${look}` });
          await image.decode();
          return image;
        }),
      );
      if (photo !== chosen) return;
      const { naturalWidth: width, naturalHeight: height } = after;
      Object.assign(canvas, { width, height });
      const read = (image) => {
        context.drawImage(image, 0, 0);
        return context.getImageData(0, 0, width, height);
      };
      const hazy = read(before);
      const dehazed = read(after);
      pixels = { photo, hazy: hazy.data, dehazed: dehazed.data, shown: context.createImageData(width, height) };
      $("before").src = before.src;
      $("before").alt = `${photo.name}, hazy`;
      canvas.setAttribute("aria-label", `${photo.name}, dehazed`);
      await $("before").decode();
      $("message").replaceChildren();
      $("stage").classList.add("ready");
      draw();
    } catch {
      if (photo !== chosen) return;
      fail(photo, `is no longer on the server, which keeps photographs for ${minutes} minutes; add it again`);
      update(photo);
    }
  }

  // What the network does to the photograph, as strongly as chosen: hazy + strength (dehazed - hazy).
  let isDrawing = false;
  function draw() {
    if (!pixels || isDrawing) return;
    isDrawing = true;
    requestAnimationFrame(() => {
      isDrawing = false;
      if (!pixels) return;
      const { hazy, dehazed, shown, photo } = pixels;
      const strength = photo.strength;
      const out = shown.data; // which rounds and clamps
      for (let at = 0; at < out.length; at += 4) {
        out[at] = hazy[at] + strength * (dehazed[at] - hazy[at]);
        out[at + 1] = hazy[at + 1] + strength * (dehazed[at + 1] - hazy[at + 1]);
        out[at + 2] = hazy[at + 2] + strength * (dehazed[at + 2] - hazy[at + 2]);
        out[at + 3] = 255;
      }
      context.putImageData(shown, 0, 0);
      $("stage").dataset.strength = strength;
    });
  }

  function showStrength() {
    const { strength, width, height } = chosen;
    $("value").textContent = strength.toFixed(2);
    $("strength").setAttribute("aria-valuetext", strength.toFixed(2));
    const isSmaller = Math.max(width || 0, height || 0) > 1600;
    const parts = [];
    if (isSmaller) parts.push("You see a smaller copy.");
    if (strength !== 1) parts.push("The strength you see is blended here, close to the result.");
    if (parts.length) parts.push("The download is computed by the network at full size.");
    $("truth").textContent = parts.join(" ");
  }

  $("strength").addEventListener("input", (event) => {
    chosen.strength = Number(event.target.value);
    showStrength();
    draw();
  });
  $("for-all").addEventListener("click", () => {
    for (const photo of photos) photo.strength = chosen.strength;
    say(`All photographs are dehazed with strength ${chosen.strength.toFixed(2)} when downloaded.`);
  });
  const divide = () => {
    const at = Number($("divider").value);
    $("stage").style.setProperty("--at", `${at}%`);
    $("divider").setAttribute("aria-valuetext", `${Math.round(at)} % hazy, ${100 - Math.round(at)} % dehazed`);
  };
  $("divider").addEventListener("input", divide);
  // A tenth of a percent, which the mouse wants, is too little for a key.
  $("divider").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2 }[event.key];
    if (!step) return;
    event.preventDefault();
    $("divider").value = String(Number($("divider").value) + step);
    divide();
  });
  divide();

  // ---- Downloading

  function nameIn(answer, otherwise) {
    const header = answer.headers.get("Content-Disposition") || "";
    const coded = /filename\*=utf-8''([^;]+)/i.exec(header);
    const plain = /filename="([^"]*)"/.exec(header);
    return coded ? decodeURIComponent(coded[1]) : plain ? plain[1] : otherwise;
  }

  async function download() {
    const button = $("download");
    if (button.getAttribute("aria-disabled") === "true") return;
    const photo = chosen;
    button.setAttribute("aria-disabled", "true");
    button.textContent = photo.strength === 1 && !$("format").value ? "Fetching…" : "Computing at full size…";
    try {
      const query = new URLSearchParams({ strength: String(photo.strength) });
      if ($("format").value) query.set("format", $("format").value);
      let answer;
      for (;;) {
        answer = await fetch(`photos/${photo.id}/result?${query}`);
        if (answer.status !== 429) break;
        button.textContent = "Waiting for the queue…";
        await wait(1000 * (Number(answer.headers.get("Retry-After")) || 1));
      }
      if (!answer.ok) throw new Error((await answer.json()).detail);
      const notes = answer.headers.get("X-Notes");
      $("remarks").replaceChildren(...(notes ? [make("li", { textContent: notes })] : []));
      const url = URL.createObjectURL(await answer.blob());
      const link = make("a", { href: url, download: nameIn(answer, photo.result) });
      document.body.append(link);
      link.click();
      link.remove();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (error) {
      say(error instanceof TypeError ? "The server does not answer." : error.message);
    }
    button.removeAttribute("aria-disabled");
    button.textContent = "Download";
  }
  $("download").addEventListener("click", download);

  $("archive").addEventListener("submit", (event) => {
    const fields = photos
      .filter((one) => one.state === "done")
      .map((one) => make("input", { type: "hidden", name: "photo", value: `${one.id}:${one.strength}` }));
    if ($("format").value) fields.push(make("input", { type: "hidden", name: "format", value: $("format").value }));
    for (const old of event.target.querySelectorAll("input")) old.remove();
    event.target.append(...fields);
    say("The ZIP arrives as its photographs are computed; leave this page open until it is complete.");
  });

  // ---- Removing

  function forget(ids) {
    if (!ids.length) return;
    const parts = [];
    for (let at = 0; at < ids.length; at += 200) parts.push(ids.slice(at, at + 200));
    for (const part of parts) {
      fetch(`photos?${part.map((id) => `id=${id}`).join("&")}`, { method: "DELETE", keepalive: true }).catch(() => {});
    }
  }

  function remove(gone) {
    for (const photo of gone) {
      photo.isRemoved = true;
      photo.request?.abort();
      photo.item.parentNode.remove();
    }
    forget(gone.map((photo) => photo.id).filter(Boolean));
    const at = photos.indexOf(chosen);
    for (const photo of gone) photos.splice(photos.indexOf(photo), 1);
    if (!photos.length) {
      chosen = null;
      pixels = null;
      batch = null;
      document.body.classList.remove("has-photos");
      $("work").hidden = true;
      $("files").focus();
    } else if (!photos.includes(chosen)) {
      choose(photos[Math.min(at, photos.length - 1)]);
    }
    showProgress();
    uploadNext();
  }
  $("remove").addEventListener("click", () => remove([chosen]));
  $("remove-all").addEventListener("click", () => remove([...photos]));
  addEventListener("pagehide", (event) => {
    if (!event.persisted) forget(photos.map((photo) => photo.id).filter(Boolean));
  });
})();
