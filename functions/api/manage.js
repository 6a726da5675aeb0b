"use strict";

// The login is kept here and nowhere else.
let token = "";
let me = null;
let groups = [];

const usersOnAPage = 50;
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const section = (id) => document.getElementById(id);

// make builds an element. All that comes from the server goes in as text.
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// row builds a row of a table, which its first cell names.
const row = (name, ...cells) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => (cell instanceof HTMLTableCellElement ? cell : make("td", {}, cell))));
const numeric = (n) => make("td", { className: "n" }, Number(n).toLocaleString());
const button = (text, of, onclick) => {
  const element = make("button", { type: "button", onclick }, text);
  if (of) element.setAttribute("aria-label", text + " " + of);
  return element;
};

// moment writes a time of the API, which is UTC.
const moment = (time) => make("td", { className: "m" }, time ? time.slice(0, 16).replace("T", " ") + " UTC" : "never");
const words = (text) => text.split(",").map((word) => word.trim()).filter(Boolean);

// codes are what the API answers a login with.
const codes = {
  LOGIN_BAD_CREDENTIALS: "The name or the password is wrong.",
  LOGIN_USER_NOT_VERIFIED: "The address of this account is not proven yet: follow the link in the invite.",
  Unauthorized: "The login is not valid, or it has ended.",
  Forbidden: "This login may not do that.",
};

// reason is what an answer says is wrong.
function reason(status, answer) {
  const detail = answer && answer.detail;
  if (typeof detail === "string") return codes[detail] || detail;
  if (Array.isArray(detail)) return detail.map((fault) => fault.loc.slice(1).join(".") + ": " + fault.msg).join("; ");
  if (detail && detail.reason) return detail.reason;
  return "The server answered " + status + ".";
}

// ask sends a request to a route of the API and returns what it answers.
async function ask(method, path, body, headers = {}) {
  if (token) headers.Authorization = "Bearer " + token;
  if (body !== undefined && !(body instanceof URLSearchParams)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let response, text;
  try {
    response = await fetch(path, { method, headers, body, credentials: "omit", redirect: "error", cache: "no-store" });
    text = await response.text();
  } catch {
    throw new Error("The server cannot be reached.");
  }
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    // It is not from the API: its status has to do.
  }
  if (response.status === 401 && me) signOut("The login has ended. Sign in again.");
  if (!response.ok) throw new Error(reason(response.status, answer));
  return answer;
}

// fill shows the rows that load returns, that there are none, or why not.
async function fill(where, load, none) {
  const said = find(".said", where), table = find("table", where), asker = token;
  said.textContent = "Loading…";
  try {
    const rows = await load();
    if (asker !== token) return;
    find("tbody", table).replaceChildren(...rows);
    table.hidden = rows.length === 0;
    said.textContent = rows.length === 0 ? none : "";
  } catch (error) {
    if (asker !== token) return;
    table.hidden = true;
    said.replaceChildren(error.message + " ", button("Try again", "", () => fill(where, load, none)));
  }
}

// say puts an outcome below a form.
function say(form, bad, ...parts) {
  const output = find("output", form);
  output.className = bad ? "bad" : "";
  output.replaceChildren(...parts);
}

// working keeps a form from being sent twice.
async function working(form, work) {
  const buttons = all("button", form);
  buttons.forEach((b) => (b.disabled = true));
  say(form, false, "Working…");
  try {
    say(form, false, ...((await work(new FormData(form))) || []));
  } catch (error) {
    say(form, true, error.message);
  } finally {
    buttons.forEach((b) => (b.disabled = false));
  }
}

const onSubmit = (form, work) =>
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    working(form, work);
  });

// act does what a button in a row asks for, and says there why it cannot.
async function act(where, work) {
  const said = find(".said", where);
  try {
    await work();
  } catch (error) {
    said.textContent = error.message;
    said.scrollIntoView({ block: "nearest" });
  }
}

// secret shows what is shown once.
function secret(label, text) {
  const field = make("input", { className: "secret", readOnly: true, value: text, onfocus: () => field.select() });
  field.setAttribute("aria-label", label);
  const copy = button("Copy", "", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Selected: copy it";
    }
  });
  return [field, copy];
}

// Signing in and out.

async function signIn(given) {
  token = given;
  try {
    me = await ask("GET", "whoami");
  } catch (error) {
    token = "";
    throw error;
  }
  for (const form of all("#signin form")) form.reset(), say(form, false);
  section("signin").hidden = true;
  for (const element of all("section:not(#signin), [data-admin]")) element.hidden = "admin" in element.dataset && !me.is_superuser;
  const who = section("who");
  who.hidden = false;
  who.replaceChildren("Signed in as ", make("b", {}, me.username), me.is_superuser ? ", an admin. " : ". ", button("Sign out", "", () => signOut("")));
  who.focus();
  loadTokens();
  loadTrees();
  if (me.is_superuser) {
    loadGroups();
    loadUsers(0);
    loadSubscriptions();
  }
}

// signOut forgets the login and all that it showed.
function signOut(why) {
  token = "";
  me = null;
  groups = [];
  find("#users dialog").close();
  for (const element of all("section:not(#signin), #who, table")) element.hidden = true;
  for (const element of all("tbody, .said, output, .groups, select, #who")) element.replaceChildren();
  for (const form of all("form")) form.reset();
  section("signin").hidden = false;
  say(find("#signin form"), true, why);
  find("#signin input").focus();
}

onSubmit(find("#signin form"), async (fields) => {
  token = "";
  const login = await ask("POST", "user/login", new URLSearchParams({ username: fields.get("username"), password: fields.get("password") }));
  await signIn(login.access_token);
});
onSubmit(section("bytoken"), (fields) => signIn(fields.get("token").trim()));

// Personal tokens.

const loadTokens = () =>
  fill(
    section("tokens"),
    async () => (await ask("GET", "user/tokens")).map(tokenRow),
    "There are none.",
  );

function tokenRow(t) {
  const lapsed = t.expires && new Date(t.expires + "Z") < new Date();
  const revoke = () => {
    if (!confirm(`Revoke the token ${t.name}? What uses it stops working at once.`)) return;
    act(section("tokens"), async () => {
      await ask("DELETE", "user/tokens/" + encodeURIComponent(t.id));
      await loadTokens();
    });
  };
  const ends = moment(t.expires);
  if (lapsed) ends.append(": over");
  return row(t.name, button("Revoke", t.name, revoke), t.scopes.join(", "), (t.prefixes || ["any"]).join(", "), moment(t.created), ends);
}

onSubmit(find("#tokens form"), async (fields) => {
  const scopes = fields.getAll("scopes"), prefixes = words(fields.get("prefixes"));
  if (scopes.length === 0) throw new Error("Tick one thing at least that it may do.");
  const asked = { name: fields.get("name"), scopes };
  if (prefixes.length > 0) asked.prefixes = prefixes;
  if (fields.get("expires")) asked.expires = fields.get("expires") + "T23:59:59";
  const made = await ask("POST", "user/tokens", asked);
  find("#tokens form").reset();
  loadTokens();
  return ["This is the token. Keep it now: it is not shown again.", ...secret("The new token", made.token)];
});

// Checkouts.

const treesOf = 7; // days
const mostPages = 10;

async function loadTrees() {
  const said = find("#checkout .said"), form = find("#checkout form"), asker = token;
  form.hidden = true;
  said.textContent = "Loading…";
  try {
    const trees = await recentTrees();
    if (asker !== token) return;
    form.hidden = trees.size === 0;
    said.textContent = trees.size === 0 ? `There was no checkout in the last ${treesOf} days whose tree could be chosen.` : "";
    find("select", form).replaceChildren(...[...trees].sort().map(([name, revision]) => make("option", { value: JSON.stringify(revision) }, name)));
  } catch (error) {
    if (asker === token) said.replaceChildren(error.message + " ", button("Try again", "", loadTrees));
  }
}

// recentTrees are the trees and branches of which there were checkouts lately.
async function recentTrees() {
  const since = new Date(Date.now() - treesOf * 24 * 3600 * 1000).toISOString().slice(0, 19);
  const trees = new Map();
  let after = "";
  for (let page = 0; page < mostPages && after !== null; page++) {
    const part = await ask("GET", "nodes?" + new URLSearchParams({ kind: "checkout", created__gte: since, limit: 1000, ...(after && { after }) }));
    for (const node of part.items) {
      const revision = node.data && node.data.kernel_revision;
      if (revision) trees.set(`${revision.tree}/${revision.branch}`, { tree: revision.tree, branch: revision.branch, url: revision.url });
    }
    after = part.next;
  }
  return trees;
}

// newTree names what will be below a checkout.
const newTree = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

onSubmit(find("#checkout form"), async (fields) => {
  const jobs = words(fields.get("jobs"));
  const node = await ask("POST", "node", {
    kind: "checkout", name: "checkout", path: ["checkout"], treeid: newTree(), jobfilter: jobs.length > 0 ? jobs : null,
    data: { kernel_revision: { ...JSON.parse(fields.get("tree")), commit: fields.get("commit") } },
  });
  return ["It is asked for: ", make("a", { href: "viewer?node_id=" + encodeURIComponent(node.id) }, "the checkout " + node.id), "."];
});

// Accounts.

let userOffset = 0;

const loadUsers = (offset) =>
  fill(
    section("users"),
    async () => {
      const page = await ask("GET", "users?" + new URLSearchParams({ limit: usersOnAPage, offset }));
      userOffset = offset;
      const pager = find("#users .pager"), last = offset + page.items.length;
      pager.hidden = page.total <= usersOnAPage;
      find("span", pager).textContent = `${offset + 1} to ${last} of ${page.total}`;
      find("[name=back]", pager).disabled = offset === 0;
      find("[name=on]", pager).disabled = last >= page.total;
      return page.items.map(userRow);
    },
    "There are none.",
  );

find("#users [name=back]").onclick = () => loadUsers(Math.max(0, userOffset - usersOnAPage));
find("#users [name=on]").onclick = () => loadUsers(userOffset + usersOnAPage);

function userRow(u) {
  const is = [u.is_superuser ? "admin" : "", u.is_active ? "active" : "not active", u.is_verified ? "verified" : "not verified"].filter(Boolean);
  return row(u.username, button("Change", u.username, () => edit(u)), u.email, u.groups.map((g) => g.name).join(", "), is.join(", "));
}

const flags = ["is_active", "is_verified", "is_superuser"];
let edited = null;

function edit(u) {
  const dialog = find("#users dialog"), form = find("form", dialog);
  edited = u;
  find("h3", dialog).textContent = u.username;
  for (const flag of flags) form.elements[flag].checked = u[flag];
  tickGroups(find(".groups", dialog), u.groups.map((g) => g.name));
  say(form, false);
  dialog.showModal();
}

onSubmit(find("#users form"), async (fields) => {
  const change = { groups: fields.getAll("groups") };
  for (const flag of flags) change[flag] = fields.has(flag);
  await ask("PATCH", "user/" + encodeURIComponent(edited.id), change);
  closeEdit();
});

function closeEdit() {
  find("#users dialog").close();
  loadUsers(userOffset);
}

find("#users [name=cancel]").onclick = () => find("#users dialog").close();
find("#users [name=delete]").onclick = () => {
  if (!confirm(`Delete the account ${edited.username} and its tokens? This cannot be taken back.`)) return;
  working(find("#users form"), async () => {
    await ask("DELETE", "user/" + encodeURIComponent(edited.id));
    closeEdit();
  });
};

// Invites.

onSubmit(find("#invites form"), async (fields) => {
  const invited = await ask("POST", "user/invite", {
    username: fields.get("username"), email: fields.get("email"), groups: fields.getAll("groups"), return_token: true,
    is_superuser: fields.has("is_superuser"), resend_if_exists: fields.has("resend_if_exists"),
  });
  find("#invites form").reset();
  loadUsers(userOffset);
  const mailed = invited.email_sent ? "The invite was mailed. Its link, which works for a week:" : "The invite was not mailed. Send this link, which works for a week:";
  return [mailed, ...secret("The link of the invite", invited.invite_url)];
});

// Groups.

const loadGroups = () =>
  fill(
    section("groups"),
    async () => {
      groups = (await ask("GET", "user-groups?limit=1000")).items;
      tickGroups(find("#invites .groups"), []);
      return groups.map(groupRow);
    },
    "There are none.",
  );

function groupRow(g) {
  const remove = () => {
    if (!confirm(`Delete the group ${g.name}?`)) return;
    act(section("groups"), async () => {
      await ask("DELETE", "user-groups/" + encodeURIComponent(g.id));
      await loadGroups();
    });
  };
  return row(g.name, button("Delete", g.name, remove));
}

// tickGroups offers all groups, those of the names ticked.
function tickGroups(where, names) {
  const ticks = groups.map((g) => make("label", { className: "tick" }, make("input", { type: "checkbox", name: "groups", value: g.name, checked: names.includes(g.name) }), g.name));
  where.replaceChildren(...(ticks.length > 0 ? ticks : ["There are no groups."]));
}

onSubmit(find("#groups form"), async (fields) => {
  const made = await ask("POST", "user-groups", { name: fields.get("name") });
  find("#groups form").reset();
  loadGroups();
  return [`There is a group ${made.name} now.`];
});

// Subscriptions.

const loadSubscriptions = () =>
  fill(
    section("subscriptions"),
    async () => (await ask("GET", "stats/subscriptions")).sort((a, b) => b.lag - a.lag || a.id - b.id).map(subscriptionRow),
    "Nobody is subscribed.",
  );

const subscriptionRow = (s) =>
  row(s.subscriber_id || `${s.id}, which keeps no place`, numeric(s.lag), numeric(s.position), moment(s.last_poll), s.user + (s.promiscuous ? ", hears all" : ""), s.channel);

find("#subscriptions [name=again]").onclick = loadSubscriptions;

section("signin").hidden = false;
find("#signin input").focus();
