// Shows the API's description: groups, rows, fields, examples, answers. Everything comes from openapi.json; nothing is
// written as HTML, so that no text of it can be more than text.

const METHODS = ["get", "post", "put", "patch", "delete"];
/** Nested objects in an example, at most. */
const DEPTH_MAX = 4;

/** An element with attributes and children; strings are text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

/** Text with `code` in it. */
function prose(text) {
  return text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
}

/** Paragraphs, which empty lines divide. */
function paragraphs(text) {
  return (text ?? "").split(/\n\s*\n/).filter(Boolean).map((part) => make("p", {}, prose(part.replaceAll("\n", " "))));
}

class Reader {
  constructor(whole) {
    this.whole = whole;
  }

  /** What a reference leads to, or the thing itself. */
  resolve(thing) {
    let found = thing;
    while (found?.$ref) {
      found = found.$ref.slice(2).split("/").reduce((at, key) => at?.[key], this.whole);
    }
    return found ?? {};
  }

  /** Without the `null` that a lenient field may be. */
  core(schema) {
    const choices = schema?.oneOf ?? schema?.anyOf;
    const kept = choices?.filter((choice) => choice.type !== "null");
    return kept?.length === 1 ? kept[0] : (schema ?? {});
  }

  /** The kind of a value in a word or two; names of types lead to them. */
  type(schema) {
    const core = this.core(schema);
    if (core.$ref) {
      const name = core.$ref.split("/").pop();
      return [make("a", { href: `#type-${name}` }, name)];
    }
    if (core.type === "array") return ["list of ", ...this.type(core.items)];
    const kind = [core.type].flat().filter((one) => one && one !== "null")[0];
    return [kind ?? "any"];
  }

  /** What else is said of a value's bounds. */
  bounds(schema) {
    const core = this.core(schema);
    const said = [];
    if (core.enum) said.push(core.enum.join(", "));
    if (core.minLength !== undefined) said.push(`at least ${core.minLength} characters`);
    if (core.maxLength !== undefined) said.push(`at most ${core.maxLength} characters`);
    if (core.maxItems !== undefined) said.push(`at most ${core.maxItems} items`);
    return said.join("; ");
  }

  /** An example of a value. `asked`: of a request, where what may be left out is left out. */
  example(schema, asked, name = "", depth = 0) {
    const core = this.core(schema);
    if (core.example !== undefined) return core.example;
    if (core.examples?.length) return core.examples[0];
    if (core.$ref) return this.example(this.resolve(core), asked, name, depth);
    if (core.enum) return core.enum[0];
    const kind = [core.type].flat().filter((one) => one !== "null")[0];
    if (kind === "array") return depth > DEPTH_MAX ? [] : [this.example(core.items, asked, name, depth + 1)];
    if (kind === "integer") {
      if (name.endsWith("_ms")) return 1700000000000;
      return name.endsWith("file_id") ? 0 : 7;
    }
    if (kind === "boolean") return false;
    if (kind === "string") return name === "client_id" ? "a1" : name === "text" ? "Good morning" : "";
    if (kind !== "object" || depth > DEPTH_MAX) return {};
    const fields = Object.entries(core.properties ?? {});
    const telling = fields.filter(([field, of]) => core.required?.includes(field) || this.core(of).example !== undefined
      || ["client_id", "text"].includes(field));
    const shown = asked && telling.length ? telling : fields;
    return Object.fromEntries(shown.map(([field, of]) => [field, this.example(of, asked, field, depth + 1)]));
  }

  /** The fields of an object, as a list; `null` where it has none. `asked`: of a request. */
  fields(schema, asked) {
    const core = this.resolve(this.core(schema));
    const isNeeded = ([name]) => (core.required?.includes(name) ? 0 : 1);
    const sorted = Object.entries(core.properties ?? {}).sort((one, other) => isNeeded(one) - isNeeded(other));
    const rows = sorted.map(([name, field]) => {
      const required = core.required?.includes(name);
      const mark = asked ? required && "needed" : !required && "may be absent";
      return this.field(name, field, mark, field.description ?? this.core(field).description);
    });
    return rows.length ? make("dl", { class: "fields" }, rows) : null;
  }

  field(name, schema, mark, description, where) {
    const bounds = this.bounds(schema);
    return make("div", {},
      make("dt", {}, make("span", { class: "name" }, name), mark ? make("span", { class: mark === "needed" ? "needed" : "absent" }, mark) : null,
        make("div", { class: "type" }, this.type(schema), where ? ` in the ${where}` : "")),
      make("dd", {}, prose(description ?? ""), bounds ? make("div", { class: "bounds" }, bounds) : null));
  }
}

function json(value) {
  return make("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));
}

/** The call as a command. */
function command(reader, path, method, operation) {
  const query = (operation.parameters ?? []).filter((one) => one.in === "query" && one.required)
    .map((one) => `${one.name}=${encodeURIComponent(one.example ?? reader.example(one.schema, true, one.name))}`);
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => {
    const parameter = operation.parameters?.find((one) => one.in === "path" && one.name === name);
    return encodeURIComponent(parameter?.example ?? reader.example(parameter?.schema, true, name));
  });
  const target = `${location.origin}${filled}${query.length ? `?${query.join("&")}` : ""}`;
  const parts = [`curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} '${target}'`];
  if (operation.security === undefined) parts.push(`-H "Authorization: Bearer $TOKEN"`);
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) parts.push(`-d '${JSON.stringify(reader.example(body, true))}'`);
  return parts.join(" \\\n  ");
}

function answer(reader, status, response) {
  const [kind, content] = Object.entries(response.content ?? {})[0] ?? [];
  const of = content?.schema;
  const example = of && status < "400" && kind === "application/json" && (of.$ref || of.properties)
    ? make("details", {}, make("summary", {}, "Example"), json(reader.example(of, false)))
    : null;
  const type = of ? make("span", { class: "type" }, " ", kind === "application/json" ? reader.type(of) : kind) : null;
  return make("div", { class: "answer" }, make("span", { class: `status ${status < "400" ? "good" : "bad"}` }, status),
    prose(response.description ?? ""), type, example);
}

function row(reader, path, method, operation) {
  const title = make("summary", {},
    make("span", { class: `method ${method}` }, method.toUpperCase()), make("span", { class: "path" }, path),
    operation.security ? make("span", { class: "open-to-all" }, "no token") : null,
    make("span", { class: "says" }, prose(operation.summary ?? "")));
  const inside = make("div", { class: "inside" });
  const element = make("details", { class: "row", id: operation.operationId }, title, inside);
  // Filled when it is opened first: all of them at once would be thousands of elements.
  element.addEventListener("toggle", () => {
    if (element.open && !inside.hasChildNodes()) inside.append(...content(reader, path, method, operation));
  });
  return element;
}

function content(reader, path, method, operation) {
  const parts = [...paragraphs(operation.description)];
  const section = (name, ...children) => parts.push(make("h3", {}, name), ...children);
  if (operation.parameters?.length) {
    const rows = operation.parameters.map((one) =>
      reader.field(one.name, one.schema, one.required && "needed", one.description, one.in));
    section("Parameters", make("dl", { class: "fields" }, rows));
  }
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) {
    section("Body", ...paragraphs(reader.resolve(body).description), reader.fields(body, true) ?? "", json(reader.example(body, true)));
  }
  section("Call", make("pre", { tabindex: "0" }, command(reader, path, method, operation)));
  const answers = Object.entries(operation.responses);
  const own = answers.filter(([, response]) => !response.$ref);
  const common = answers.filter(([, response]) => response.$ref);
  const names = common.flatMap(([status, response]) => [
    ", ", make("a", { href: `#answer-${response.$ref.split("/").pop()}` }, status)]).slice(1);
  section("Answers", ...own.map(([status, response]) => answer(reader, status, response)),
    common.length ? make("p", { class: "everywhere" }, "And, as everywhere: ", names, ".") : "");
  return parts;
}

/** All words that a row can be found by. */
function words(reader, path, method, operation) {
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  const fields = Object.keys(reader.resolve(body).properties ?? {});
  const parameters = (operation.parameters ?? []).map((one) => one.name);
  return [path, method, operation.summary, operation.description, operation.tags, fields, parameters].flat().join(" ").toLowerCase();
}

function types(reader) {
  const { schemas = {}, responses = {} } = reader.whole.components ?? {};
  const everywhere = Object.entries(responses).map(([name, response]) => {
    const used = Object.values(reader.whole.paths).flatMap((item) => Object.values(item))
      .flatMap((operation) => Object.entries(operation.responses));
    const status = used.find(([, one]) => one.$ref?.endsWith(`/${name}`))?.[0] ?? "";
    const row = make("div", { class: "answer", id: `answer-${name}` },
      make("span", { class: "status bad" }, status), prose(response.description));
    return { status, row };
  }).sort((one, other) => one.status.localeCompare(other.status)).map((one) => one.row);
  const bodies = Object.values(reader.whole.paths).flatMap((item) => Object.values(item))
    .map((operation) => operation.requestBody?.content?.["application/json"]?.schema.$ref?.split("/").pop());
  const described = Object.entries(schemas).map(([name, schema]) => {
    const values = schema.enum ? make("p", {}, prose(schema.enum.map((value) => `\`${value}\``).join(", "))) : null;
    const inside = make("div", { class: "inside" }, paragraphs(schema.description), reader.fields(schema, bodies.includes(name)), values);
    return make("details", { class: "row", id: `type-${name}` }, make("summary", {}, make("span", { class: "path" }, name)), inside);
  });
  return [make("h2", { id: "everywhere" }, "Refusals of any row"), everywhere, make("h2", { id: "all-types" }, "Types"), described];
}

function show(whole) {
  const reader = new Reader(whole);
  const at = (id) => document.getElementById(id);
  at("version").textContent = whole.info.version;
  at("about").append(...paragraphs(whole.info.description));
  const rows = [];
  const groups = whole.tags.map(({ name }) => {
    const own = [];
    for (const [path, item] of Object.entries(whole.paths)) {
      for (const method of METHODS.filter((one) => item[one]?.tags.includes(name))) {
        const element = row(reader, path, method, item[method]);
        own.push({ element, words: words(reader, path, method, item[method]) });
      }
    }
    rows.push(...own);
    const id = `group-${name.toLowerCase().replaceAll(" ", "-")}`;
    at("groups").append(make("a", { href: `#${id}` }, name, " ", make("span", {}, String(own.length))));
    const section = make("section", { id }, make("h2", {}, name), own.map((one) => one.element));
    return { section, own };
  });
  at("rows").append(...groups.map(({ section }) => section));
  at("groups").append(make("a", { href: "#everywhere" }, "Refusals"), make("a", { href: "#all-types" }, "Types"));
  at("types").append(...types(reader).flat());

  const filter = () => {
    const wanted = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { section, own } of groups) {
      let any = false;
      for (const one of own) {
        one.element.hidden = !wanted.every((word) => one.words.includes(word));
        any ||= !one.element.hidden;
        found += one.element.hidden ? 0 : 1;
      }
      section.hidden = !any;
    }
    at("about").hidden = at("types").hidden = wanted.length > 0;
    at("none").hidden = found > 0;
    at("count").textContent = found === rows.length ? `${found} rows` : `${found} of ${rows.length} rows`;
  };
  at("filter").addEventListener("input", filter);
  filter();

  at("all").addEventListener("click", () => {
    const open = at("all").textContent === "Open all";
    for (const { element } of rows) element.open = open && !element.hidden;
    at("all").textContent = open ? "Close all" : "Open all";
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target === at("filter")) return;
    event.preventDefault();
    at("filter").focus();
  });
  const follow = () => {
    const target = location.hash.length > 1 && at(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    // A link may lead to what the filter hides.
    if (target.hidden || target.closest("[hidden]")) {
      at("filter").value = "";
      filter();
    }
    if (target.tagName === "DETAILS") target.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  follow();
}

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`the node answered ${response.status}`);
  show(await response.json());
} catch (error) {
  document.getElementById("about").append(make("p", {}, `The description could not be read: ${error.message}.`));
}
