// Keeps the page up to date with what the server sends, and asks before something is changed.
// Everything that is shown was made by the server; the page says the same without this file.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const $ = (id) => document.getElementById(id);

  // Puts the children of `to` in place of those of `from` and leaves alone what is equal, so that
  // focus, selection and open details stay.
  function morph(from, to) {
    const old = [...from.childNodes];
    const fresh = [...to.childNodes];
    fresh.forEach((next, at) => {
      const now = old[at];
      if (!now) {
        from.append(next);
      } else if (now.isEqualNode(next)) {
        return;
      } else if (now.nodeType === 1 && now.nodeName === next.nodeName && now.dataset.breaker === next.dataset.breaker) {
        dress(now, next);
        morph(now, next);
      } else if (now.nodeType === 3 && next.nodeType === 3) {
        now.data = next.data;
      } else {
        now.replaceWith(next);
      }
    });
    old.slice(fresh.length).forEach((gone) => gone.remove());
  }

  function dress(now, next) {
    for (const { name } of [...now.attributes]) {
      if (!next.hasAttribute(name) && !(name === "open" && now.nodeName === "DETAILS")) now.removeAttribute(name);
    }
    for (const { name, value } of next.attributes) {
      if (now.getAttribute(name) !== value) now.setAttribute(name, value);
    }
  }

  function show(parts) {
    for (const [id, markup] of Object.entries(parts)) {
      const part = $(id);
      if (!part) continue;
      const fresh = document.createElement("template");
      fresh.innerHTML = markup;
      morph(part, fresh.content);
    }
  }

  // The stream: closed while nobody looks, since a browser has few connections for one address.
  let stream = null;
  let heard = 0;
  let again = 0;

  function say(words, state) {
    const link = $("link");
    if (link.textContent !== words) link.textContent = words;
    link.className = `link ${state}`;
  }

  function open() {
    clearTimeout(again);
    if (stream || document.hidden) return;
    stream = new EventSource("/page/changes");
    stream.addEventListener("page", (event) => {
      heard = Date.now();
      show(JSON.parse(event.data));
      say("live", "on");
    });
    stream.onerror = () => {
      say("no connection; trying again", "off");
      if (stream && stream.readyState === EventSource.CLOSED) {
        close();
        again = setTimeout(open, 3000);
      }
    };
  }

  function close() {
    if (stream) stream.close();
    stream = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  setInterval(() => {
    if (stream && heard && Date.now() - heard > 5000) say(`nothing heard for ${Math.round((Date.now() - heard) / 1000)} s`, "off");
  }, 1000);
  say("connecting", "");
  open();

  function toast(words) {
    const note = document.createElement("div");
    note.className = "toast";
    const text = document.createElement("span");
    text.textContent = words;
    const away = document.createElement("button");
    away.type = "button";
    away.textContent = "✕";
    away.setAttribute("aria-label", "Dismiss");
    away.onclick = () => note.remove();
    note.append(text, away);
    $("toasts").append(note);
    setTimeout(() => note.remove(), 10000);
  }

  async function copy(button) {
    const id = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(id);
      toast(`Copied ${id}`);
    } catch {
      getSelection().selectAllChildren(button.previousElementSibling);
      toast("Selected; press Ctrl+C to copy");
    }
  }

  // What can be done: its words, and the request it makes.
  const acts = {
    open: (name) => ({
      title: `Hold ${name} open`,
      what: `Every call that ${name} guards is refused at once, until this ends or you end it.`,
      yes: "Hold open", busy: "Opening…", timed: true,
      ask: (reason, lasts) => ["PUT", `/api/v1/breakers/${encodeURIComponent(name)}`, { state: "open", for: lasts, reason }],
      done: (answer) => `${name} is held open until ${clock(answer)}.`,
    }),
    closed: (name) => ({
      title: `Hold ${name} closed`,
      what: `Every call that ${name} guards goes through, whatever comes back, until this ends or you end it.`,
      yes: "Hold closed", busy: "Closing…", timed: true,
      ask: (reason, lasts) => ["PUT", `/api/v1/breakers/${encodeURIComponent(name)}`, { state: "closed", for: lasts, reason }],
      done: (answer) => `${name} is held closed until ${clock(answer)}.`,
    }),
    auto: (name) => ({
      title: `${name}: back to automatic`,
      what: "The override ends now, and the circuit decides by what it sees.",
      yes: "Back to automatic", busy: "Ending the override…",
      ask: (reason) => ["PUT", `/api/v1/breakers/${encodeURIComponent(name)}`, { state: "auto", reason }],
      done: () => `${name} is automatic again.`,
    }),
    lift: (id) => ({
      title: "Lift the duplicate guard",
      what: `You have looked at the vendor, and the same request may go out again. It is held as ${id}.`,
      yes: "Lift it", busy: "Lifting…",
      ask: (reason) => ["DELETE", `/api/v1/duplicates/${encodeURIComponent(id)}`, { reason }],
      done: () => "The guard is lifted.",
    }),
    cache: (name) => ({
      title: `Clear the cache of ${name}`,
      what: "Its stored answers are forgotten; the next requests go to the upstream.",
      yes: "Clear", busy: "Clearing…",
      ask: (reason) => ["DELETE", `/api/v1/cache/${encodeURIComponent(name)}`, { reason }],
      done: () => `The cache of ${name} is empty.`,
    }),
    reload: () => ({
      title: "Reload the configuration",
      what: "The file is read and compiled whole; with any problem the running one goes on.",
      yes: "Reload", busy: "Reloading…",
      ask: (reason) => ["POST", "/-/reload", { reason }],
      done: (answer) => `Configuration ${answer.hash} runs.${(answer.needs_restart || []).map((what) => ` Needs a restart: ${what}.`).join("")}`,
    }),
  };

  function clock(breaker) {
    const until = breaker.override && breaker.override.until;
    return until ? `${until.slice(11, 19)} UTC` : "further notice";
  }

  const dialog = $("ask");
  let act = null;
  let opener = null;

  function ask(button) {
    act = acts[button.dataset.act](button.dataset.name);
    opener = button;
    $("ask-title").textContent = act.title;
    $("ask-what").textContent = act.what;
    $("ask-yes").textContent = act.yes;
    $("ask-time").hidden = !act.timed;
    $("ask-why").value = "";
    $("ask-error").hidden = true;
    busy(false);
    dialog.showModal();
    $("ask-why").focus();
  }

  function busy(is) {
    const yes = $("ask-yes");
    yes.disabled = is;
    yes.setAttribute("aria-busy", String(is));
    yes.textContent = is ? act.busy : act.yes;
  }

  async function carryOut() {
    const [method, path, body] = act.ask($("ask-why").value.trim(), $("ask-for").value);
    const headers = { "Content-Type": "application/json" };
    const token = $("ask-token");
    if (token) headers.Authorization = `Bearer ${token.value}`;
    const answer = await fetch(path, { method, headers, body: JSON.stringify(body) });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.detail || `it answered ${answer.status}`);
    return said;
  }

  $("ask-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if ($("ask-yes").disabled) return;
    $("ask-error").hidden = true;
    busy(true);
    try {
      const said = act.done(await carryOut());
      dialog.close();
      toast(said);
    } catch (error) {
      $("ask-error").textContent = `It was not done: ${error.message}`;
      $("ask-error").hidden = false;
    } finally {
      busy(false);
    }
  });
  $("ask-no").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    if (opener && opener.isConnected) opener.focus();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy) copy(button);
    if (button.dataset.act) ask(button);
  });
})();
