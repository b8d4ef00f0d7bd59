// What only the browser can do: examples, folding, copy, export, votes, theme, talk mode. It sends nothing anywhere.
() => {
  const root = document.documentElement;
  const parameters = new URLSearchParams(location.search);
  const folds = new Map(); // data-fold -> the reader's choice, kept while the page updates the block

  const keepFolds = () => {
    for (const block of document.querySelectorAll("details[data-fold]")) {
      const choice = folds.get(block.dataset.fold);
      if (choice !== undefined && block.open !== choice) block.open = choice;
    }
  };
  new MutationObserver(keepFolds).observe(document.body, {
    subtree: true, childList: true, attributes: true, attributeFilter: ["open", "data-fold"],
  });

  const fill = (id, text) => {
    const box = document.querySelector(`#${id} textarea`);
    if (!box) return;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.focus();
  };
  let sent = 0; // makes two equal messages to the server differ
  const put = (id, text) => {
    const box = document.querySelector(`#${id} textarea, #${id} input`);
    if (!box) return;
    box.value = text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const linkTo = (id) => {
    const url = new URL(location.href);
    if (id) url.searchParams.set("case", id);
    else url.searchParams.delete("case");
    history.replaceState(null, "", url);
  };

  const copy = async (text, button) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const box = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(box);
      box.select();
      done = document.execCommand("copy");
      box.remove();
    }
    const label = button.textContent;
    button.textContent = done ? "Copied" : "Copying was refused";
    setTimeout(() => (button.textContent = label), 1500);
  };
  const save = (name, text, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const records = () =>
    [...document.querySelectorAll(".panels article[data-record]")].map((panel) => JSON.parse(panel.dataset.record));
  const preference = () => document.querySelector('.verdict [data-vote][aria-pressed="true"]')?.dataset.vote ?? null;
  const title = (record) => (record.variant === "base" ? "Base model" : "GRPO model");
  const markdown = (record) =>
    `## ${title(record)}\n\n` +
    `${record.model}${record.adapter ? " + " + record.adapter : ""}; form: ${record.format}; ${record.state}; ` +
    `${record.tokens} tokens in ${record.seconds} s\n\n` +
    (record.reasoning ? `<details><summary>Reasoning</summary>\n\n${record.reasoning}\n\n</details>\n\n` : "") +
    `${record.answer}\n`;
  const report = () => {
    const all = records();
    const vote = preference();
    return (
      `# Case\n\n${all[0].question}\n\n${all.map(markdown).join("\n")}\n` +
      (vote ? `Which is better: ${vote}\n\n` : "") + `${all[0].disclaimer}\n`
    );
  };
  const stamp = () => new Date().toISOString().slice(0, 19).replaceAll(":", "-");

  const theme = (dark) => {
    document.body.classList.toggle("dark", dark);
    try { localStorage.setItem("medgrpo.theme", dark ? "dark" : "light"); } catch { /* private mode */ }
  };
  const talk = (on) => root.classList.toggle("talk", on);

  const actions = {
    example: (button) => {
      fill(button.dataset.target, button.dataset.text);
      if (button.dataset.target === "case") linkTo(button.dataset.case);
    },
    "copy-answer": (button) => {
      const record = JSON.parse(button.closest("article").dataset.record);
      copy(record.answer || record.text, button);
    },
    "copy-all": (button) => copy(report(), button),
    "export-json": () => {
      const found = document.querySelector(".verdict")?.dataset.agreement || null;
      const all = { exported: new Date().toISOString(), agreement: found, preference: preference(), answers: records() };
      save(`medgrpo-${stamp()}.json`, JSON.stringify(all, null, 2), "application/json");
    },
    "export-md": () => save(`medgrpo-${stamp()}.md`, report(), "text/markdown"),
    vote: (button) => {
      for (const other of button.parentElement.querySelectorAll("[data-vote]"))
        other.setAttribute("aria-pressed", other === button && other.getAttribute("aria-pressed") !== "true");
    },
    retry: (button) => document.querySelector(`#retry-${button.dataset.variant}`)?.click(),
    send: (button) => put(button.dataset.target, `${button.dataset.value}#${(sent += 1)}`),
    run: (button) => {
      const url = new URL(location.href);
      url.searchParams.set("run", button.dataset.run);
      history.replaceState(null, "", url);
      put("train-pick", `${button.dataset.run}#${(sent += 1)}`);
    },
    "copy-command": (button) => copy(button.closest(".command").querySelector("pre").textContent, button),
    "save-yaml": () => save("run.yaml", document.querySelector("#train-yaml textarea").value, "application/yaml"),
    "load-yaml": () => {
      // made for this click: one that stood in the page could be drawn anew while its dialog is open, and say nothing
      const chooser = Object.assign(document.createElement("input"), { type: "file", accept: ".yaml,.yml,.txt", hidden: true });
      chooser.addEventListener("cancel", () => chooser.remove());
      chooser.addEventListener("change", async () => {
        chooser.remove();
        const file = chooser.files[0];
        const text = file.size < 100000 ? await file.text() : `too large: ${file.name} has ${file.size} bytes`;
        put("train-yaml", text);
      });
      document.body.append(chooser);
      chooser.click();
    },
    theme: () => theme(!document.body.classList.contains("dark")),
    talk: () => talk(!root.classList.contains("talk")),
  };

  document.addEventListener("click", (event) => {
    const summary = event.target.closest?.("details[data-fold] > summary");
    if (summary) folds.set(summary.parentElement.dataset.fold, !summary.parentElement.open);
    const button = event.target.closest?.("[data-do]");
    if (button) actions[button.dataset.do]?.(button);
  });
  document.addEventListener("input", (event) => {
    if (event.isTrusted && event.target.closest?.("#case") && parameters.has("case")) linkTo("");
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    const place = event.target.closest?.("#case, [id^=box-]")?.id;
    if (!place) return;
    event.preventDefault();
    document.querySelector(place === "case" ? "#run" : `#${place.replace("box-", "send-")}`)?.click();
  });

  // Charts: a pointer or a finger reads every line at one step back from the drawn paths.
  const pairs = (path) => path.getAttribute("d").match(/-?\d+ -?\d+/g)?.map((point) => point.split(" ").map(Number)) ?? [];
  const said = (value, unit) => {
    const share = unit === "%";
    const text = (share ? value * 100 : value).toLocaleString("en-GB", { maximumSignificantDigits: 3 });
    return text.replace("-", "−") + (unit ? ` ${unit}` : "");
  };
  const readings = (plot, place) => {
    const [x0, x1] = plot.dataset.x.split(",").map(Number);
    const [low, high] = plot.dataset.y.split(",").map(Number);
    const rows = [];
    let at = null;
    for (const path of plot.querySelectorAll("[data-name]")) {
      const points = pairs(path);
      const band = path.classList.contains("band");
      const count = band ? points.length / 2 : points.length;
      let best = 0;
      for (let i = 1; i < count; i++)
        if (Math.abs(points[i][0] - place * 2000) < Math.abs(points[best][0] - place * 2000)) best = i;
      if (!count) continue;
      at ??= points[best][0] / 2000;
      const value = band
        ? ((points[2 * count - 1 - best][1] - points[best][1]) / 1000) * (high - low)
        : high - (points[best][1] / 1000) * (high - low);
      rows.push(`${path.dataset.name}  ${said(value, plot.dataset.unit)}`);
    }
    return { at, text: at === null ? "" : [`step ${Math.round(x0 + at * (x1 - x0)).toLocaleString("en-GB")}`, ...rows].join("\n") };
  };
  let watched = null;
  const leavePlot = () => {
    watched?.querySelectorAll(".cross, .read").forEach((mark) => (mark.hidden = true));
    watched = null;
  };
  const readPlot = (plot, place) => {
    if (watched !== plot) leavePlot();
    watched = plot;
    const { at, text } = readings(plot, Math.min(1, Math.max(0, place)));
    const [cross, read] = [plot.querySelector(".cross"), plot.querySelector(".read")];
    if (at === null || !cross || !read) return;
    cross.hidden = read.hidden = false;
    cross.style.left = `${at * 100}%`;
    read.textContent = text;
    read.style.left = at < 0.5 ? `calc(${at * 100}% + 8px)` : "auto";
    read.style.right = at < 0.5 ? "auto" : `calc(${(1 - at) * 100}% + 8px)`;
    plot.dataset.place = at;
  };
  const onPointer = (event) => {
    const plot = event.target.closest?.(".plot");
    if (!plot) return leavePlot();
    const box = plot.getBoundingClientRect();
    readPlot(plot, (event.clientX - box.left) / box.width);
  };
  document.addEventListener("pointermove", onPointer);
  document.addEventListener("pointerdown", onPointer);
  document.addEventListener("keydown", (event) => {
    const plot = event.target.closest?.(".plot");
    const move = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (!plot || !move) return;
    event.preventDefault();
    readPlot(plot, Number(plot.dataset.place ?? (move > 0 ? 0 : 1)) + move);
  });
  document.addEventListener("focusout", leavePlot);

  document.addEventListener("medgrpo:save", ({ detail }) => save(detail.name, detail.text, detail.type));

  let stored = null;
  try { stored = localStorage.getItem("medgrpo.theme"); } catch { /* private mode */ }
  if (stored && !parameters.has("__theme")) document.body.classList.toggle("dark", stored === "dark");
  if (parameters.get("talk") === "1") talk(true);

  // ?case=<id>: as soon as the box is there, unless someone has typed already
  const shared = parameters.get("case");
  const open = (tries) => {
    const box = document.querySelector("#case textarea");
    const button = [...document.querySelectorAll('[data-target="case"]')].find((b) => b.dataset.case === shared);
    if (box && button) {
      if (!box.value) fill("case", button.dataset.text);
    } else if (tries) setTimeout(() => open(tries - 1), 100);
  };
  if (shared) open(100);
  document.documentElement.dataset.medgrpo = "ready";
}
