'use strict';

const MAX_LOG_ENTRIES = 1000;
// Browsers hide the status of a denied handshake.
const DENIED = 1006;
const MEANINGS = {
  1000: 'The handler has returned.',
  1001: 'The server is going away, or received nothing for too long.',
  1002: 'The client or the server violated the protocol.',
  1003: 'Text where bytes were expected, or bytes where text was.',
  1005: 'The close has no code.',
  1006: 'No close was received: the handshake was denied, or the network failed.',
  1007: 'A message is not JSON, or not what the route declares.',
  1008: 'The client sends too fast, or does not read.',
  1009: 'A message is too large.',
  1011: 'The server has failed; its log has the traceback.',
  1012: 'The server restarts.',
  1013: 'The server cannot serve this client now: try again later.',
  4410: 'The position is lost: connect again without it.',
};
const STATUS = {400: 'BadRequest', 401: 'Unauthorized, or the connection has expired', 403: 'Forbidden', 404: 'NotFound', 408: 'Request Timeout', 409: 'Conflict', 429: 'Too Many Requests', 500: 'an error', 503: 'Service Unavailable'};

function meaning(code) {
  if (MEANINGS[code]) return MEANINGS[code];
  if (code >= 4100 && code < 5000) {
    const status = code - 4000;
    return `The handler raised what is ${status} over HTTP${STATUS[status] ? `: ${STATUS[status]}` : ''}.`;
  }
  return 'A code of the application.';
}

function element(tag, className, text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

const main = document.getElementById('main');
// The prefix that a proxy adds to the paths of the application.
const prefix = location.pathname.slice(0, location.pathname.length - main.dataset.page.length);

class Console {
  constructor(form) {
    this.form = form;
    this.data = JSON.parse(form.querySelector('script').textContent);
    this.entries = [];
    this.socket = null;
    this.wasOpen = false;
    form.hidden = false;
    form.addEventListener('submit', (event) => event.preventDefault());
    for (const kind of ['input', 'change']) form.addEventListener(kind, (event) => this.noteInput(event.target));
    form.addEventListener('keydown', (event) => this.noteKey(event));
    form.addEventListener('click', ({target}) => target.dataset.do && this[target.dataset.do]());
    this.makeURL();
    if (this.data.templates.length) {
      this.field('template').value = '0';
      this.fillIn();
    }
  }

  field(name) {
    return this.form.elements.namedItem(name);
  }

  find(selector) {
    return this.form.querySelector(selector);
  }

  noteInput(field) {
    if (field.name === 'template') this.fillIn();
    else if (field.name === 'filter') this.showLog();
    else if (field.name === 'text') this.check();
    else if (field.name !== 'url' && field.closest('.handshake')) this.makeURL();
  }

  noteKey(event) {
    if (event.key !== 'Enter') return;
    if (event.target.name === 'text' && (event.ctrlKey || event.metaKey)) this.send();
    if (event.target.closest('.handshake') && event.target.tagName === 'INPUT') {
      event.preventDefault();
      this.connect();
    }
  }

  // The handshake

  makeURL() {
    const query = new URLSearchParams();
    let path = this.form.dataset.url;
    for (const field of this.form.querySelectorAll('.handshake input')) {
      const [place, name] = field.name.split(':');
      if (place === 'path') {
        const value = encodeURIComponent(field.value);
        path = path.replace(`{${name}}`, value).replace(`{+${name}}`, value.replaceAll('%2F', '/'));
      }
      if (place === 'query' && field.value !== '') query.append(name, field.value);
    }
    const token = this.field('token').value;
    if (token && this.field('how').value === 'query') query.append('token', token);
    this.field('url').value = path + (query.size ? `?${query}` : '');
  }

  subprotocols() {
    const offered = this.field('subprotocols').value.split(',').map((name) => name.trim()).filter(Boolean);
    const token = this.field('token').value;
    if (token && this.field('how').value === 'subprotocol') offered.push(`token.${token}`);
    return offered;
  }

  connect() {
    if (this.socket) return;
    if (!this.form.reportValidity()) return;
    const url = new URL(prefix + this.field('url').value, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    this.offerExplanation(false);
    let socket;
    try {
      socket = new WebSocket(url, this.subprotocols());
    } catch (exc) {
      return this.log('close', 'cannot connect', exc.message);
    }
    this.socket = socket;
    this.wasOpen = false;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.noteOpen();
    socket.onmessage = ({data}) => this.log('in', '↓ received', this.readable(data), data);
    socket.onclose = (event) => this.noteClose(event);
    this.show('connecting', `Connecting to ${url.pathname} …`);
  }

  disconnect() {
    this.socket?.close(1000);
  }

  noteOpen() {
    this.wasOpen = true;
    this.openedAt = Date.now();
    this.timer = setInterval(() => this.showAge(), 1000);
    this.showAge();
    const subprotocol = this.socket.protocol;
    this.show('open', `Connected${subprotocol ? `, subprotocol ${subprotocol}` : ''}`);
    this.log('open', 'connected', subprotocol && `subprotocol ${subprotocol}`);
  }

  noteClose({code, reason}) {
    clearInterval(this.timer);
    this.socket = null;
    const wasDenied = !this.wasOpen && code === DENIED;
    const text = wasDenied ? 'The handshake was denied, or the server does not answer.' : meaning(code);
    this.log('close', `closed ${code}`, [reason, text].filter(Boolean).join(' – '));
    this.show('closed', `Closed with ${code}${reason ? `, ${reason}` : ''}: ${text}`);
    this.offerExplanation(wasDenied);
  }

  // The button exists only with websocket_docs_explain=True.
  offerExplanation(isOffered) {
    const button = this.find('[data-do=explain]');
    if (button) button.hidden = !isOffered;
  }

  // Runs the hooks and components of the handshake again, so only on request.
  async explain() {
    const request = {url: this.field('url').value, subprotocols: this.subprotocols()};
    const options = {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(request)};
    try {
      const response = await fetch(location.pathname, options);
      const answer = await response.json();
      if (!response.ok) this.log('close', `no answer (${response.status})`, String(answer));
      else if (answer.accepted) this.log('open', 'would be accepted', this.form.dataset.connect ? '' : 'if the handler accepts');
      else this.log('close', `denied ${answer.status}`, answer.body);
    } catch (exc) {
      this.log('close', 'no answer', exc.message);
    }
  }

  showAge() {
    const seconds = Math.floor((Date.now() - this.openedAt) / 1000);
    this.find('.age').textContent = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  }

  show(state, text) {
    const line = this.find('.state');
    line.dataset.state = state;
    line.textContent = text;
    if (state !== 'open') this.find('.age').textContent = '';
    this.find('[data-do=connect]').disabled = this.socket !== null;
    this.find('[data-do=connect]').textContent = state === 'closed' ? 'Connect again' : 'Connect';
    this.find('[data-do=disconnect]').disabled = this.socket === null;
    this.find('[data-do=send]').disabled = state !== 'open';
  }

  // Messages

  fillIn() {
    const template = this.data.templates[this.field('template').value];
    this.field('text').value = template ? template.text : '';
    this.check();
  }

  // Returns whether the text seems valid. The server checks it again; this avoids a close with 1007.
  check() {
    const problem = this.data.typed ? this.problem() : '';
    this.find('.compose .problem').textContent = problem;
    return !problem;
  }

  problem() {
    let value;
    try {
      value = JSON.parse(this.field('text').value);
    } catch (exc) {
      return `This is not JSON: ${exc.message}`;
    }
    const found = this.data.templates.map(({schema}) => findProblem(value, schema, this.data.schemas));
    if (found.includes('')) return '';
    const chosen = this.data.templates.findIndex(({schema}) => constantType(schema, this.data.schemas) === value?.type);
    return `This is not what the route receives: ${found[Math.max(chosen, 0)]}`;
  }

  send() {
    const text = this.field('text').value;
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    if (!this.check() && !this.field('anyway').checked) return;
    this.socket.send(text);
    this.log('out', '↑ sent', this.readable(text), text);
  }

  readable(data) {
    if (typeof data !== 'string') {
      return [...new Uint8Array(data)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    }
    try {
      return JSON.stringify(JSON.parse(data), null, 2);
    } catch {
      return data;
    }
  }

  // The log

  log(kind, title, text, data) {
    const size = data === undefined ? '' : `${typeof data === 'string' ? 'text' : 'binary'}, ${new Blob([data]).size} bytes`;
    this.entries.push({kind, title, text: text || '', size, at: new Date().toLocaleTimeString()});
    if (this.entries.length > MAX_LOG_ENTRIES) this.entries.shift();
    const shown = this.find('.log');
    const atEnd = shown.scrollHeight - shown.scrollTop - shown.clientHeight < 40;
    if (this.matches(this.entries.at(-1))) shown.append(this.item(this.entries.at(-1)));
    if (shown.children.length > MAX_LOG_ENTRIES) shown.firstChild.remove();
    if (atEnd) shown.scrollTop = shown.scrollHeight;
  }

  matches({title, text}) {
    return `${title} ${text}`.toLowerCase().includes(this.field('filter').value.toLowerCase());
  }

  item({kind, title, text, size, at}) {
    const item = element('li', kind);
    item.append(element('small', '', `${at} `), element('b', '', title), element('small', '', size && ` ${size}`), text && `\n${text}`);
    return item;
  }

  showLog() {
    this.find('.log').replaceChildren(...this.entries.filter((entry) => this.matches(entry)).map((entry) => this.item(entry)));
  }

  clear() {
    this.entries = [];
    this.showLog();
  }

  copy() {
    const lines = this.entries.map(({at, title, size, text}) => `${at} ${title} ${size}\n${text}`);
    return navigator.clipboard.writeText(lines.join('\n'));
  }
}

// Returns the first problem of a value, by the most common rules of its schema, or an empty string.

function resolved(schema, schemas) {
  return schema.$ref ? schemas[schema.$ref.split('/').at(-1)] : schema;
}

function constantType(schema, schemas) {
  return resolved(schema, schemas).properties?.type?.enum?.[0];
}

function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

// A pattern that JavaScript does not support is checked by the server only.
function matches(text, pattern) {
  try {
    return new RegExp(pattern, 'u').test(text);
  } catch {
    return true;
  }
}

function findProblem(value, reference, schemas, path = '') {
  const schema = resolved(reference, schemas);
  const at = (text) => `${path ? `${path}: ` : ''}${text}`;
  if (schema.anyOf) {
    const found = schema.anyOf.map((part) => findProblem(value, part, schemas, path));
    return found.includes('') ? '' : found[0];
  }
  const kinds = schema.type ? [schema.type].flat() : [];
  const kind = kindOf(value);
  if (kinds.length && !kinds.includes(kind) && !(kind === 'integer' && kinds.includes('number'))) return at(`has to be ${kinds.join(' or ')}`);
  if (schema.enum && !schema.enum.includes(value)) return at(`has to be one of ${JSON.stringify(schema.enum)}`);
  if (kind === 'string') {
    const length = [...value].length;
    if (length < schema.minLength) return at(`needs ${schema.minLength} characters`);
    if (length > schema.maxLength) return at(`may have ${schema.maxLength} characters`);
    if (schema.pattern && !matches(value, schema.pattern)) return at(`has to match ${schema.pattern}`);
  }
  if (typeof value === 'number') {
    if (value < schema.minimum || value <= schema.exclusiveMinimum) return at(`is too small`);
    if (value > schema.maximum || value >= schema.exclusiveMaximum) return at(`is too large`);
  }
  if (kind === 'object') {
    const missing = (schema.required || []).find((name) => !(name in value));
    if (missing) return at(`${missing} is missing`);
    return Object.entries(schema.properties || {}).filter(([name]) => name in value)
      .map(([name, part]) => findProblem(value[name], part, schemas, path ? `${path}.${name}` : name)).find(Boolean) || '';
  }
  if (kind === 'array') {
    if (value.length < schema.minItems || value.length > schema.maxItems) return at('has the wrong number of items');
    const parts = Array.isArray(schema.items) ? schema.items : value.map(() => schema.items || {});
    return value.slice(0, parts.length).map((item, index) => findProblem(item, parts[index], schemas, `${path}[${index}]`)).find(Boolean) || '';
  }
  return '';
}

for (const form of document.querySelectorAll('form.console')) new Console(form);
