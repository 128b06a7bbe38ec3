const FIRST_WAIT = 1000;
const LONGEST_WAIT = 10000;
const POSITION_LOST = 4410;
// Of those that say "not you, not this": a time-out and too many requests are worth another try.
const WORTH_A_TRY = [POSITION_LOST, 4408, 4429];

const isRefusal = (code) => code === 1008 || (code >= 4400 && code <= 4499 && !WORTH_A_TRY.includes(code));

/**
 * A WebSocket of JSON that comes back by itself and goes on where it was: it keeps the last `position` of what it
 * gets, and hands it in as `since`. `on` has three functions: `message(value)`, `lost()`, when messages were lost, and
 * `state(name, details)` with 'connecting', 'open', 'waiting' ({wait, code, reason}) or 'stopped' ({code, reason}).
 */
export class Reconnecting {
  constructor(url, on, position = null) {
    Object.assign(this, {url, on, position, attempts: 0});
    this.open();
  }

  open() {
    this.leave();
    const url = new URL(this.url, location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    if (this.position) url.searchParams.set('since', this.position);
    const socket = this.socket = new WebSocket(url);
    socket.onopen = () => this.on.state('open');
    socket.onmessage = ({data}) => this.take(JSON.parse(data));
    socket.onclose = ({code, reason}) => socket === this.socket && this.lose(code, reason);
    this.on.state('connecting');
  }

  send(value) {
    this.socket.send(JSON.stringify(value));
  }

  // Only a message shows that it is in: a server accepts, and then closes, while it cannot serve.
  take(value) {
    this.attempts = 0;
    this.on.message(value);
    this.position = value?.position ?? this.position;
  }

  // To be called too when the network is known to be gone: a browser may take minutes to notice.
  lose(code = 1006, reason = '') {
    this.leave();
    if (isRefusal(code)) return this.on.state('stopped', {code, reason});
    if (code === POSITION_LOST) {
      this.position = null;
      this.on.lost();
    }
    // Any part of it, also the first time: a server that restarts has closed thousands at once.
    const wait = Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.attempts++);
    this.timer = setTimeout(() => this.open(), wait);
    this.on.state('waiting', {wait, code, reason});
  }

  leave() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }
}
