"use strict";
// Draws openapi.json. Texts go in as text nodes only, so that nothing in the description can run.

const METHODS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);
let api;

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return element;
}

/** Text with `code` in back-quotes, in paragraphs. */
function prose(text) {
  const paragraphs = (text || "").trim().split(/\n\s*\n/).filter(Boolean);
  return paragraphs.map((paragraph) => make("p", {}, inline(paragraph.replace(/\s*\n\s*/g, " "))));
}

function inline(text) {
  return (text || "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

const json = (value) => JSON.stringify(value, null, 2);
const block = (text) => make("pre", { tabindex: 0 }, make("code", {}, text));
const named = (reference) => reference.split("/").pop();

function copyButton(label, text) {
  const button = make("button", { type: "button", onclick: copy }, label);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "The browser refused; copy it from below";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  }
  return button;
}

/** A schema in a few words, with links to named ones. */
function typeOf(schema) {
  if (!schema) return [];
  if (schema.$ref) return [make("a", { href: `#schema-${named(schema.$ref)}` }, named(schema.$ref))];
  if (schema.const !== undefined) return [make("code", {}, json(schema.const))];
  if (schema.enum) return schema.enum.flatMap((each, i) => [i ? " | " : "", make("code", {}, String(each))]);
  const several = schema.anyOf || schema.oneOf;
  if (several) return several.flatMap((each, i) => [i ? " | " : "", ...typeOf(each)]);
  if (schema.allOf) return schema.allOf.flatMap((each, i) => [i ? " & " : "", ...typeOf(each)]);
  if (schema.type === "array") return ["array of ", ...typeOf(schema.items || {})];
  if (schema.type === "object" && schema.additionalProperties && schema.additionalProperties !== true) {
    return ["object of ", ...typeOf(schema.additionalProperties)];
  }
  return [[schema.type, schema.format].filter(Boolean).join(", ") || "any JSON"];
}

const LIMITS = { minimum: "≥", maximum: "≤", exclusiveMinimum: ">", minLength: "length ≥", maxLength: "length ≤", pattern: "matches", default: "default" };

function limitsOf(schema) {
  const sources = [schema, ...(schema.anyOf || [])];
  return Object.entries(LIMITS).flatMap(([key, words]) => sources
    .filter((each) => each[key] !== undefined && each[key] !== null && json(each[key]) !== "{}")
    .map((each) => `${words} ${typeof each[key] === "object" ? json(each[key]) : each[key]}`)).join(", ");
}

function table(headings, rows) {
  const head = make("tr", {}, headings.map((each) => make("th", { scope: "col" }, each)));
  const body = rows.map((row) => make("tr", {}, row.map((cell) => make("td", {}, cell))));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, body)));
}

function fieldRow(name, required, schema, description) {
  const limits = limitsOf(schema);
  const words = [...inline(description || schema.description), limits ? make("div", {}, make("small", {}, limits)) : ""];
  return [[make("code", {}, name), required ? make("span", { class: "required" }, "required") : ""], typeOf(schema), words];
}

function fields(schema) {
  const rows = Object.entries(schema.properties || {}).map(([name, each]) =>
    fieldRow(name, (schema.required || []).includes(name), each));
  return rows.length ? table(["field", "type", "meaning"], rows) : make("p", {}, typeOf(schema));
}

function examplesOf(media) {
  if (media.examples) return Object.entries(media.examples).map(([code, each]) => [code, each.summary, each.value]);
  return media.example === undefined ? [] : [["example", "", media.example]];
}

function response(status, found) {
  const parts = Object.entries(found.headers || {}).map(([name, each]) =>
    make("p", {}, make("code", {}, name), " ", inline(each.description)));
  for (const [type, media] of Object.entries(found.content || {})) {
    parts.push(make("p", {}, make("code", {}, type), " ", typeOf(media.schema)));
    for (const [code, summary, value] of examplesOf(media)) {
      if (summary) parts.push(make("p", {}, make("code", {}, code), " ", summary));
      parts.push(block(typeof value === "string" ? value : json(value)));
    }
  }
  const kind = Number(status) < 400 ? "ok" : "bad";
  const summary = make("summary", {}, make("span", { class: `status ${kind}` }, status), inline(found.description));
  return make("details", { open: Number(status) < 300 }, summary, parts);
}

const bodyOf = (operation) => operation.requestBody?.content?.["application/json"];

function urlOf(path, operation, values) {
  const query = new URLSearchParams();
  let url = path;
  for (const each of operation.parameters || []) {
    const value = values[each.name] ?? (each.in === "path" ? each.schema?.example : undefined);
    if (each.in === "path") url = url.replace(`{${each.name}}`, encodeURIComponent(value || "ID"));
    if (each.in === "query" && value) query.set(each.name, value);
  }
  return location.origin + url + (query.size ? `?${query}` : "");
}

function headersOf(operation, values) {
  const given = (operation.parameters || []).filter((each) => each.in === "header" && values[each.name]);
  const headers = Object.fromEntries(given.map((each) => [each.name, values[each.name]]));
  if (bodyOf(operation)) headers["Content-Type"] = "application/json";
  return headers;
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curl(method, path, operation, values, body) {
  const parts = ["curl -sS"];
  if (method !== "get" && method !== "post") parts.push(`-X ${method.toUpperCase()}`);
  for (const [name, value] of Object.entries(headersOf(operation, values))) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body) parts.push(`--data ${quoted(body)}`);
  return [...parts, quoted(urlOf(path, operation, values))].join(" \\\n  ");
}

function tryIt(method, path, operation) {
  const values = {};
  const example = bodyOf(operation)?.example;
  const body = example && make("textarea", { "aria-label": "Body", spellcheck: "false" });
  if (body) body.value = json(example);
  const inputs = (operation.parameters || []).map((each) => make("label", {}, make("code", {}, each.name),
    make("input", { placeholder: each.example ?? each.schema?.example ?? each.schema?.default ?? "", oninput: (event) => { values[each.name] = event.target.value; } })));
  const answer = make("div", { "aria-live": "polite" });
  async function send() {
    const began = performance.now();
    try {
      const found = await fetch(urlOf(path, operation, values), { method: method.toUpperCase(), headers: headersOf(operation, values), body: body?.value });
      const text = await found.text();
      const took = Math.round(performance.now() - began);
      const kind = found.ok ? "ok" : "bad";
      answer.replaceChildren(make("p", {}, make("span", { class: `status ${kind}` }, String(found.status)), `${found.statusText}, ${took} ms`), block(pretty(text)));
    } catch (error) {
      answer.replaceChildren(make("p", { class: "status bad" }, `No answer: ${error.message}`));
    }
  }
  const shown = () => curl(method, path, operation, values, body?.value);
  return make("details", { class: "try" }, make("summary", {}, "Try it"), inputs, body,
    make("div", { class: "bar" }, make("button", { type: "button", onclick: send }, "Send"), copyButton("Copy as curl", shown)), answer);
}

function pretty(text) {
  try {
    return json(JSON.parse(text));
  } catch {
    return text;
  }
}

function card(method, path, operation) {
  const parameters = operation.parameters || [];
  const body = bodyOf(operation);
  const command = () => curl(method, path, operation, {}, body?.example && JSON.stringify(body.example));
  const rows = parameters.map((each) => fieldRow(each.name, each.required, each.schema || {}, [each.description, each.in === "header" ? "(header)" : ""].filter(Boolean).join(" ")));
  const schema = body?.schema?.$ref && api.components.schemas[named(body.schema.$ref)];
  const statuses = Object.entries(operation.responses).sort(([a], [b]) => a - b);
  return make("article", { id: operation.operationId, "data-words": `${method} ${path} ${operation.summary}`.toLowerCase() },
    make("header", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), make("h3", {}, path), make("p", {}, operation.summary), copyButton("Copy as curl", command)),
    make("div", {}, prose(operation.description),
      rows.length ? [make("h4", {}, "Parameters"), table(["name", "type", "meaning"], rows)] : [],
      schema ? [make("h4", {}, "Body"), fields(schema)] : [],
      make("h4", {}, "Example"), block(command()),
      make("h4", {}, "Answers"), statuses.map((each) => response(...each)), tryIt(method, path, operation)));
}

function calls() {
  const found = [];
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS) if (item[method]) found.push({ method, path, operation: item[method], tag: item[method].tags?.[0] || "other" });
  }
  return found;
}

function errors(found) {
  const rows = new Map();
  for (const { operation } of found) {
    for (const [status, each] of Object.entries(operation.responses)) {
      const examples = each.content?.["application/problem+json"]?.examples || {};
      for (const [code, { summary, value }] of Object.entries(examples)) {
        rows.set(code, [[make("code", {}, code)], [status], [summary, make("div", {}, make("small", {}, value.detail))]]);
      }
    }
  }
  const sorted = [...rows.values()].sort((a, b) => a[1][0] - b[1][0]);
  return make("section", { id: "errors" }, make("h2", {}, "Errors"),
    make("p", {}, "Every error is ", make("code", {}, "application/problem+json"), ". Branch on ", make("code", {}, "code"), ": it is stable."),
    table(["code", "status", "meaning"], sorted));
}

function draw() {
  document.title = `${api.info.title} API`;
  byId("version").textContent = api.info.version;
  const found = calls();
  const tags = [...new Set(found.map((each) => each.tag))];
  const describe = Object.fromEntries((api.tags || []).map((each) => [each.name, each.description]));
  const sections = tags.map((tag) => make("section", {}, make("h2", {}, tag), prose(describe[tag]),
    found.filter((each) => each.tag === tag).map(({ method, path, operation }) => card(method, path, operation))));
  const schemas = Object.entries(api.components?.schemas || {}).sort().map(([name, schema]) => make("article", { id: `schema-${name}`, "data-words": name.toLowerCase() },
    make("header", {}, make("h3", {}, name)), make("div", {}, prose(schema.description), fields(schema))));
  byId("content").replaceChildren(make("h1", {}, api.info.title), ...prose(api.info.description), ...sections, errors(found),
    make("section", { id: "schemas" }, make("h2", {}, "Schemas"), schemas));
  byId("contents").replaceChildren(...tags.map((tag) => make("div", {}, make("h2", {}, tag), make("ul", {},
    found.filter((each) => each.tag === tag).map(({ method, path, operation }) => make("li", { "data-words": `${method} ${path} ${operation.summary}`.toLowerCase() },
      make("a", { href: `#${operation.operationId}`, title: operation.summary }, make("span", { class: `method ${method}` }, method.toUpperCase()), path)))))),
  make("h2", {}, "reference"), make("ul", {}, make("li", {}, make("a", { href: "#errors" }, "errors")), make("li", {}, make("a", { href: "#schemas" }, "schemas"))));
  if (location.hash) document.querySelector(`[id="${CSS.escape(location.hash.slice(1))}"]`)?.scrollIntoView();
}

byId("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  for (const each of document.querySelectorAll("[data-words]")) each.hidden = !words.every((word) => each.dataset.words.includes(word));
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || /^(INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
  event.preventDefault();
  byId("filter").focus();
});

(async () => {
  try {
    const found = await fetch("openapi.json");
    if (!found.ok) throw new Error(`openapi.json: ${found.status}`);
    api = await found.json();
    draw();
  } catch (error) {
    byId("loading").textContent = `The description could not be drawn: ${error.message}. Reload the page, or read openapi.json.`;
  }
})();
