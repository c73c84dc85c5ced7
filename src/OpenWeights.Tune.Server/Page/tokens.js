"use strict";
// An answer as its tokens: a list box, so that it is one stop of the Tab key, whose arrow keys go from token to token.
const Tokens = (() => {
  const tip = document.getElementById("tip");
  let lists = 0;

  const percent = logprob => {
    const p = 100 * Math.exp(logprob);
    return (p >= 99.95 ? "100" : p >= 0.1 ? p.toFixed(1) : p >= 0.001 ? p.toFixed(3) : "under 0.001") + " %";
  };

  // A token in words: blanks and line ends have names, and bytes that are no whole character are shown as numbers.
  function written(token) {
    if (token.token === "" || token.token.includes("\uFFFD")) {
      return (token.bytes ?? []).map(b => "⟨" + b.toString(16).toUpperCase().padStart(2, "0") + "⟩").join("") || "(nothing)";
    }
    return token.token;
  }

  const visible = token => written(token).replace(/\n/g, "↵").replace(/\t/g, "→").replace(/^ +| +$/g, s => "␣".repeat(s.length));
  const spoken = token => written(token).replace(/\n/g, " new line ").replace(/ +/g, " ").trim() || "blank";
  const others = token => (token.top_logprobs ?? []).filter(t => t.token !== token.token || String(t.bytes) !== String(token.bytes));

  function view(model) {
    const list = document.createElement("div");
    const prefix = "tokens-" + lists++ + "-";
    let tokens = [], active = -1;
    list.className = "tokens";
    list.tabIndex = 0;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-orientation", "horizontal");
    list.setAttribute("aria-label", "Tokens of the answer of " + model);

    function update(all) {
      for (let i = tokens.length; i < all.length; i++) list.append(option(all[i], i));
      tokens = all.slice();
    }

    function option(token, i) {
      const made = document.createElement("span");
      made.id = prefix + i;
      made.className = "token " + shade(token.logprob);
      made.textContent = written(token).replace(/\n/g, "↵\n");
      made.setAttribute("role", "option");
      made.setAttribute("aria-selected", "false");
      const rest = others(token).map(t => `${spoken(t)} ${percent(t.logprob)}`).join(", ");
      made.setAttribute("aria-description", percent(token.logprob) + (rest ? `; other tokens: ${rest}` : ""));
      if (!/[\p{L}\p{N}\p{P}\p{S}]/u.test(written(token))) made.setAttribute("aria-label", spoken(token));
      made.addEventListener("pointerenter", () => show(token, made));
      made.addEventListener("pointerleave", event => { if (event.relatedTarget !== tip) hide(); });
      return made;
    }

    function activate(to) {
      list.children[active]?.setAttribute("aria-selected", "false");
      active = Math.max(0, Math.min(tokens.length - 1, to));
      const chosen = list.children[active];
      if (!chosen) return;
      chosen.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", chosen.id);
      chosen.scrollIntoView({ block: "nearest" });
      show(tokens[active], chosen);
    }

    list.addEventListener("focus", () => { if (list.matches(":focus-visible")) activate(Math.max(0, active)); });
    list.addEventListener("blur", hide);
    list.addEventListener("click", event => { const at = [...list.children].indexOf(event.target); if (at >= 0) activate(at); });
    list.addEventListener("keydown", event => {
      const to = { ArrowRight: active + 1, ArrowDown: active + 1, ArrowLeft: active - 1, ArrowUp: active - 1, Home: 0, End: tokens.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      activate(to);
    });
    return { element: list, update };
  }

  const shade = logprob => { const p = Math.exp(logprob); return p < 0.1 ? "p0" : p < 0.3 ? "p1" : p < 0.6 ? "p2" : p < 0.9 ? "p3" : "p4"; };

  function show(token, at) {
    tip.replaceChildren(line(token, true), ...others(token).map(t => line(t, false)));
    tip.hidden = false;
    const box = at.getClientRects()[0] ?? at.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = (box.bottom + tip.offsetHeight < innerHeight ? box.bottom : box.top - tip.offsetHeight) + "px";
  }

  function line(token, chosen) {
    const made = document.createElement("div"), name = document.createElement("code"), chance = document.createElement("span"), bar = document.createElement("i");
    made.className = chosen ? "chosen" : "";
    name.textContent = visible(token);
    chance.textContent = percent(token.logprob);
    bar.style.width = (6 * Math.exp(token.logprob)).toFixed(2) + "em";
    made.append(name, " ", chance, " ", bar);
    return made;
  }

  function hide() {
    tip.hidden = true;
  }

  tip.addEventListener("pointerleave", hide);
  addEventListener("scroll", hide, { passive: true });
  return { view, hide };
})();
