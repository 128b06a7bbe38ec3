// Of those that say "not you, not this", a time-out and too many requests are worth a try too.
const POSITION_LOST = 4410, ANOTHER_TRY = [4408, POSITION_LOST, 4429];
const isRefusal = (code) => code === 1008 || (code >= 4400 && code < 4500 && !ANOTHER_TRY.includes(code));

/**
 * A WebSocket of JSON that comes back by itself and goes on where it was: it keeps the last
 * `position` of what it gets, and hands it in as `since`. `on` has two functions:
 * `message(value)`, and `state(name, details)` with 'connecting', 'waiting' ({code, reason,
 * wait}; messages were lost where `code` is 4410), and 'stopped' ({code, reason}).
 */
export class Reconnecting {
  constructor(url, on, position = null) { Object.assign(this, {url, on, position, attempts: 0}).open(); }

  send(value) { this.socket.send(JSON.stringify(value)); }

  open() {
    this.leave();
    const url = new URL(this.url, location.href.replace('http', 'ws'));
    if (this.position) url.searchParams.set('since', this.position);
    const socket = this.socket = new WebSocket(url);
    socket.onmessage = ({data}) => socket === this.socket && this.take(JSON.parse(data));
    socket.onclose = ({code, reason}) => socket === this.socket && this.lose(code, reason);
    this.on.state('connecting');
  }

  // Only a message shows that it is in: a server accepts, and then closes, while it cannot serve.
  take(value) {
    this.on.message(value);
    Object.assign(this, {position: value?.position ?? this.position, attempts: 0});
  }

  // To be called too when the network is known to be gone: a browser may take minutes to notice.
  lose(code = 1006, reason = '') {
    this.leave();
    if (isRefusal(code)) return this.on.state('stopped', {code, reason});
    if (code === POSITION_LOST) this.position = null;
    // Any part of it, also the first time: a server that restarts has closed thousands at once.
    const wait = Math.random() * Math.min(10000, 1000 * 2 ** this.attempts++);
    this.timer = setTimeout(() => this.open(), wait);
    this.on.state('waiting', {code, reason, wait});
  }

  leave() {
    clearTimeout(this.timer);
    this.socket?.close();
    this.socket = null;
  }
}
