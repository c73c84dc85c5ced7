"use strict";
// Markdown to DOM nodes. Every text of a model becomes a text node: nothing here parses HTML, loads an image or links to what is not the web.
const Markdown = (() => {
  const deepest = 12; // nesting beyond this stays plain text
  const linkSchemes = ["http:", "https:", "mailto:"];
  const fenceLine = /^ {0,3}(`{3,}|~{3,}) *([^`]*)$/;
  const headingLine = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
  const ruleLine = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
  const quoteLine = /^ {0,3}> ?/;
  const itemLine = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( +)(.*)|)$/;
  const rowRule = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

  function element(name, className) {
    const made = document.createElement(name);
    if (className) made.className = className;
    return made;
  }

  function render(text) {
    const fragment = document.createDocumentFragment();
    blocks(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"), fragment, 0, false);
    return fragment;
  }

  // --- Blocks

  function blocks(lines, parent, depth, tight) {
    for (let at = 0; at < lines.length;) {
      if (lines[at].trim() === "") { at++; continue; }
      at = depth > deepest ? paragraph(lines, at, parent, depth, tight) : block(lines, at, parent, depth, tight);
    }
  }

  // Puts the block that begins at a line into the parent and returns the line after it.
  function block(lines, at, parent, depth, tight) {
    const line = lines[at];
    let match;
    if ((match = fenceLine.exec(line))) return fence(lines, at, parent, match);
    if ((match = headingLine.exec(line))) {
      heading(match[1].length, (match[2] ?? "").replace(/[ \t]+#+[ \t]*$/, "").trim(), parent, depth);
      return at + 1;
    }
    if (ruleLine.test(line)) { parent.append(element("hr")); return at + 1; }
    if (quoteLine.test(line)) return quote(lines, at, parent, depth);
    if (itemLine.test(line)) return list(lines, at, parent, depth);
    if (isTable(lines, at)) return table(lines, at, parent, depth);
    return paragraph(lines, at, parent, depth, tight);
  }

  // The page's own headings are h1 and h2; those of an answer come below them.
  function heading(level, text, parent, depth) {
    const made = element("h" + Math.min(6, level + 2));
    inline(text, made, depth);
    parent.append(made);
  }

  function fence(lines, at, parent, match) {
    const [, marks, info] = match;
    const indent = lines[at].length - lines[at].trimStart().length;
    const code = [];
    let next = at + 1;
    for (; next < lines.length; next++) {
      const end = lines[next].trim();
      if (end.length >= marks.length && end === marks[0].repeat(end.length)) { next++; break; }
      code.push(lines[next].slice(Math.min(indent, lines[next].length - lines[next].trimStart().length)));
    }
    parent.append(codeBlock(code.join("\n"), info.trim().split(/\s/)[0]));
    return next;
  }

  function codeBlock(text, language) {
    const figure = element("div", "code");
    const head = element("div", "code-head");
    head.append(element("span"));
    head.firstChild.textContent = language || "code";
    head.append(Page.copyButton("Copy code", () => text));
    const pre = element("pre");
    pre.tabIndex = 0;
    pre.setAttribute("role", "group");
    pre.setAttribute("aria-label", language ? "Code, " + language : "Code");
    const code = element("code");
    code.textContent = text;
    pre.append(code);
    figure.append(head, pre);
    return figure;
  }

  function quote(lines, at, parent, depth) {
    const inner = [];
    let next = at;
    for (; next < lines.length; next++) {
      if (quoteLine.test(lines[next])) inner.push(lines[next].replace(quoteLine, ""));
      else if (lines[next].trim() === "" || beginsBlock(lines, next)) break;
      else inner.push(lines[next]);
    }
    const made = element("blockquote");
    blocks(inner, made, depth + 1, false);
    parent.append(made);
    return next;
  }

  function list(lines, at, parent, depth) {
    const ordered = isOrdered(lines[at]);
    const made = element(ordered ? "ol" : "ul");
    if (ordered && parseInt(lines[at].trim(), 10) !== 1) made.start = parseInt(lines[at].trim(), 10);
    const items = [];
    let next = at, loose = false;
    while (next < lines.length) {
      const match = itemLine.exec(lines[next]);
      if (!match || isOrdered(lines[next]) !== ordered || ruleLine.test(lines[next])) break;
      const item = readItem(lines, next, match);
      items.push(item.lines);
      next = item.next;
      const blank = skipBlank(lines, next);
      const more = blank < lines.length && itemLine.test(lines[blank]) && isOrdered(lines[blank]) === ordered;
      loose ||= more && blank > next;
      if (more) next = blank;
    }
    for (const item of items) {
      const li = element("li");
      blocks(item, li, depth + 1, !loose);
      made.append(li);
    }
    parent.append(made);
    return next;
  }

  const isOrdered = line => /^ *\d/.test(line);

  function skipBlank(lines, at) {
    while (at < lines.length && lines[at].trim() === "") at++;
    return at;
  }

  // The lines of one item, without their indentation: those indented as far as its text (nested items from two spaces on), and what goes on with its paragraph.
  function readItem(lines, at, match) {
    const width = match[1].length + match[2].length + Math.min(match[3]?.length ?? 1, 4);
    const inner = [match[4] ?? ""];
    let next = at + 1;
    for (; next < lines.length; next++) {
      const line = lines[next], indent = line.length - line.trimStart().length;
      if (line.trim() === "") {
        const after = skipBlank(lines, next);
        if (after === lines.length || lines[after].length - lines[after].trimStart().length < Math.min(2, width)) break;
        inner.push("");
      } else if (indent >= width) inner.push(line.slice(width));
      else if (indent >= match[1].length + 2) inner.push(line.slice(indent));
      else if (inner.at(-1) === "" || beginsBlock(lines, next)) break;
      else inner.push(line.trimStart());
    }
    return { lines: inner, next };
  }

  const cells = line => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map(c => c.trim().replace(/\\\|/g, "|"));

  function isTable(lines, at) {
    return lines[at].includes("|") && at + 1 < lines.length && rowRule.test(lines[at + 1]) && lines[at + 1].includes("-")
      && cells(lines[at]).length === cells(lines[at + 1]).length;
  }

  function table(lines, at, parent, depth) {
    const sides = cells(lines[at + 1]).map(c => c.endsWith(":") ? (c.startsWith(":") ? "center" : "right") : "");
    const wrap = element("div", "table");
    wrap.tabIndex = 0;
    wrap.setAttribute("role", "group");
    wrap.setAttribute("aria-label", "Table");
    const made = element("table"), head = element("thead"), body = element("tbody");
    head.append(row(cells(lines[at]), sides, "th", depth));
    let next = at + 2;
    for (; next < lines.length && lines[next].trim() !== "" && lines[next].includes("|"); next++) body.append(row(cells(lines[next]), sides, "td", depth));
    made.append(head, body);
    wrap.append(made);
    parent.append(wrap);
    return next;
  }

  function row(texts, sides, name, depth) {
    const tr = element("tr");
    sides.forEach((side, i) => {
      const cell = element(name, side);
      if (name === "th") cell.scope = "col";
      inline(texts[i] ?? "", cell, depth);
      tr.append(cell);
    });
    return tr;
  }

  function beginsBlock(lines, at) {
    const line = lines[at];
    return fenceLine.test(line) || headingLine.test(line) || ruleLine.test(line) || quoteLine.test(line) || itemLine.test(line) || isTable(lines, at);
  }

  function paragraph(lines, at, parent, depth, tight) {
    const text = [lines[at].trimStart()];
    let next = at + 1;
    for (; next < lines.length && lines[next].trim() !== ""; next++) {
      const under = /^ {0,3}(=+|-+) *$/.exec(lines[next]);
      if (under) { heading(under[1][0] === "=" ? 1 : 2, text.join("\n").trim(), parent, depth); return next + 1; }
      if (depth <= deepest && beginsBlock(lines, next)) break;
      text.push(lines[next].trimStart());
    }
    const made = tight ? parent : element("p");
    inline(text.join("\n").trimEnd(), made, depth);
    if (!tight) parent.append(made);
    return next;
  }

  // --- Text within a block

  function inline(text, parent, depth) {
    const missing = new Set(); // closing marks that were looked for in vain: none comes later either
    let plain = "";
    const flush = () => { if (plain) { parent.append(plain); plain = ""; } };
    const put = node => { flush(); parent.append(node); };
    for (let at = 0; at < text.length;) {
      const found = depth > deepest ? null : span(text, at, depth, missing);
      if (found) { put(found.node); at = found.next; continue; }
      if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) at++;
      else if (text[at] === "\n") { plain = plain.replace(/ +$/, ""); put(element("br")); at++; continue; }
      const run = /^(`+|\*+|_+|~+)/.exec(text.slice(at, at + 64))?.[0].length ?? 1;
      plain += text.slice(at, at + run);
      at += run;
    }
    flush();
  }

  // What begins at a place of the text, as a node and the place after it; null for plain text.
  function span(text, at, depth, missing) {
    switch (text[at]) {
      case "`": return codeSpan(text, at, missing);
      case "*": case "_": case "~": return emphasis(text, at, depth, missing);
      case "[": return depth < deepest ? link(text, at) : null;
      case "!": return text[at + 1] === "[" && depth < deepest ? link(text, at + 1) : null; // an image is not loaded: a link to it
      case "<": return bracketed(text, at, depth);
      case "h": return depth < deepest ? bareLink(text, at) : null;
      default: return null;
    }
  }

  function codeSpan(text, at, missing) {
    const marks = /^`+/.exec(text.slice(at))[0];
    if (missing.has(marks)) return null;
    for (let end = at + marks.length; (end = text.indexOf(marks, end)) >= 0;) {
      const run = /^`+/.exec(text.slice(end))[0].length;
      if (run === marks.length) {
        const code = element("code");
        const inner = text.slice(at + run, end).replace(/\n/g, " ");
        code.textContent = inner.trim() !== "" && inner.startsWith(" ") && inner.endsWith(" ") ? inner.slice(1, -1) : inner;
        return { node: code, next: end + run };
      }
      end += run;
    }
    missing.add(marks);
    return null;
  }

  const isWord = c => c !== undefined && /[\p{L}\p{N}_]/u.test(c);

  function emphasis(text, at, depth, missing) {
    const mark = text[at];
    let length = 1;
    while (text[at + length] === mark) length++;
    if (length > 3 || (mark === "~" && length !== 2) || /\s|^$/.test(text[at + length] ?? "") || (mark === "_" && isWord(text[at - 1]))) return null;
    const marks = mark.repeat(length);
    if (missing.has(marks)) return null;
    const end = closing(text, at + length, mark, length);
    if (end < 0) { missing.add(marks); return null; }
    const outer = element(mark === "~" ? "del" : length === 1 ? "em" : "strong");
    const inner = length === 3 ? outer.appendChild(element("em")) : outer;
    inline(text.slice(at + length, end), inner, depth + 1);
    return { node: outer, next: end + length };
  }

  // Where a run of as many marks closes; code and escaped characters are passed over.
  function closing(text, from, mark, length) {
    for (let at = from; at < text.length; at++) {
      if (text[at] === "\\") { at++; continue; }
      if (text[at] === "`") {
        const run = /^`+/.exec(text.slice(at, at + 64))[0];
        const end = text.indexOf(run, at + run.length);
        at = (end < 0 ? at : end) + run.length - 1;
        continue;
      }
      if (text[at] !== mark) continue;
      let run = 1;
      while (text[at + run] === mark) run++;
      const closes = !/\s/.test(text[at - 1]) && (mark !== "_" || !isWord(text[at + run]));
      if (closes && at > from && (run === length || (run === 3 && length < 3))) return run === length ? at : at + run - length;
      at += run - 1;
    }
    return -1;
  }

  function link(text, at) {
    const match = /^\[((?:[^[\]\\]|\\.|\[[^[\]]*\]){0,1000})\]\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/.exec(text.slice(at, at + 4000));
    const node = match && linkTo(match[2]);
    if (!node) return null;
    if (match[1]) inline(match[1], node, deepest); // so deep that there is no link within the link
    else node.textContent = match[2];
    return { node, next: at + match[0].length };
  }

  // A link, where the address is one of the web or of mail; else null.
  function linkTo(address) {
    if (!/^[a-z]+:/i.test(address)) return null;
    let url;
    try { url = new URL(address); } catch { return null; }
    if (!linkSchemes.includes(url.protocol)) return null;
    const made = element("a");
    made.href = url.href;
    made.target = "_blank";
    made.rel = "noopener noreferrer";
    return made;
  }

  function bracketed(text, at, depth) {
    const line = /^<br ?\/?>/i.exec(text.slice(at, at + 6));
    if (line) return { node: element("br"), next: at + line[0].length };
    const match = /^<([a-z]+:[^\s<>]*)>/i.exec(text.slice(at, at + 2000));
    const node = match && depth < deepest ? linkTo(match[1]) : null;
    if (!node) return null;
    node.textContent = match[1];
    return { node, next: at + match[0].length };
  }

  function bareLink(text, at) {
    if (isWord(text[at - 1])) return null;
    const match = /^https?:\/\/[^\s<>"'`*|\\]+/.exec(text.slice(at, at + 2000));
    if (!match) return null;
    let address = match[0].replace(/[.,;:!?\]]+$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.replace(/\)[.,;:!?)]*$/, "");
    const node = linkTo(address);
    if (!node) return null;
    node.textContent = address;
    return { node, next: at + address.length };
  }

  return { render };
})();
