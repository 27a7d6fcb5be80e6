// What one virtual user was answered 202, held against what arrived. Each has conversations of its own, one after the other
// and each under a name of its own (a chapter): so order can be judged, and a long run needs little memory on either side.

import http from 'k6/http';
import { sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';

// Accepted messages less those that were found delivered: 0 at the end, or something was lost.
const loss = new Counter('loss');
const order = new Counter('order');
const accepted = new Counter('accepted');
const repeats = new Counter('repeats');
const delivery = new Trend('delivery', true);

// A page of a listing of the API, and well below what an inbox of the simulator keeps.
const CHAPTER_MAX = 200;
// Half of what the simulator keeps in all; a message is shown with its head.
const KEPT_BYTES_MAX = 32 * 1024 * 1024;
const HEAD_BYTES = 1024;
const OLDEST_READ = 3;
const POLL_S = 0.25;
const SHOWN_MAX = 3;
const ARRIVED = ['sent', 'delivered', 'read'];
const FAILED = ['failed', 'expired', 'cancelled', 'unknown'];

export class Ledger {
  // Where the receiver can keep all that is planned, nothing is read before the load has ended.
  constructor(settings, run, planned) {
    this.settings = settings;
    this.run = run;
    const bytes = settings.sizeBytes + HEAD_BYTES;
    this.checksBetween = planned * bytes > KEPT_BYTES_MAX;
    // Two chapters of each virtual user may wait to be read.
    const fits = Math.floor(KEPT_BYTES_MAX / (2 * settings.vus * bytes));
    this.chapterMax = this.checksBetween ? Math.max(2, Math.min(CHAPTER_MAX, fits)) : CHAPTER_MAX;
    this.open = []; // chapters that have ended and were not found complete yet
    this.chapters = 0;
    this.headers = settings.apiKey ? { Authorization: `Bearer ${settings.apiKey}` } : {};
    this.current = this.nextChapter();
  }

  nextChapter() {
    this.chapters += 1;
    return { name: `k6-${this.run}-${__VU}-${this.chapters}`, accepted: new Map(), missing: [] };
  }

  conversation() {
    return this.current.name;
  }

  address() {
    const target = this.settings.target.replace(/\{conversation\}/g, this.current.name).replace(/\{vu\}/g, __VU);
    return `${this.settings.channel}:${target}`;
  }

  // A message of the current conversation was answered 202, in this order.
  accept(id, acceptedAt) {
    accepted.add(1);
    if (this.settings.check === 'none') return;
    loss.add(1);
    this.current.accepted.set(id, Date.parse(acceptedAt));
  }

  // To be called before `count` messages are sent.
  turnPageIfFull(count) {
    const size = this.current.accepted.size;
    if (size === 0 || size + count <= this.chapterMax) return;
    if (this.checksBetween) {
      // Not the one that has just ended, of which some may still be on its way. And few at a time: where much is lost, much
      // stays open.
      const oldest = this.open.splice(0, OLDEST_READ);
      this.open.unshift(...oldest.filter((chapter) => !this.settle(chapter)));
    }
    this.open.push(this.current);
    this.current = this.nextChapter();
  }

  // Waits until everything that was accepted has arrived, or `settleS` are over, and judges it. Once, after the load.
  close() {
    const deadline = Date.now() + this.settings.settleS * 1000;
    if (this.current.accepted.size > 0) this.open.push(this.current);
    for (;;) {
      this.open = this.open.filter((chapter) => !this.settle(chapter));
      if (this.open.length === 0) return;
      if (Date.now() > deadline || this.isHopeless()) break;
      sleep(POLL_S);
    }
    this.open.forEach((chapter) => {
      const arrivals = this.arrivals(chapter);
      this.judge(chapter, arrivals || []);
      this.complain(chapter);
    });
    this.open = [];
  }

  // Judges a chapter if all of it has arrived. Whether it has.
  settle(chapter) {
    const arrivals = this.arrivals(chapter);
    if (arrivals === null) return false;
    const came = new Set(arrivals.map((arrival) => arrival.id));
    chapter.missing = [...chapter.accepted.keys()].filter((id) => !came.has(id));
    if (chapter.missing.length > 0) return false;
    this.judge(chapter, arrivals);
    if (this.checksBetween && this.settings.check === 'receiver') {
      http.del(`${this.settings.receiver}/inbox/${chapter.name}`, null, { tags: { name: 'check' } });
    }
    return true;
  }

  // `arrivals` in the order of arrival. Order is that of the first arrival of each message.
  judge(chapter, arrivals) {
    const first = new Map();
    arrivals.forEach((arrival, place) => {
      if (!chapter.accepted.has(arrival.id)) return; // of a request that had no answer
      if (first.has(arrival.id)) repeats.add(1);
      else first.set(arrival.id, { place: arrival.place === undefined ? place : arrival.place, at: arrival.at });
    });
    // From the last to the first: whoever came after one that was accepted later was overtaken.
    let earliestLater = Infinity;
    for (const [id, acceptedAt] of [...chapter.accepted].reverse()) {
      const came = first.get(id);
      if (came === undefined) continue;
      loss.add(-1);
      if (came.place > earliestLater) order.add(1);
      earliestLater = Math.min(earliestLater, came.place);
      delivery.add(Math.max(0, came.at - acceptedAt));
    }
  }

  // What a chapter's receiver has answered 2xx, or null while that cannot be told.
  arrivals(chapter) {
    return this.settings.check === 'receiver' ? this.fromReceiver(chapter) : this.fromApi(chapter);
  }

  fromReceiver(chapter) {
    const answer = http.get(`${this.settings.receiver}/inbox/${chapter.name}`, { tags: { name: 'check' } });
    if (answer.status !== 200) return null;
    return JSON.parse(answer.body)
      .messages.filter((message) => message.status >= 200 && message.status < 300)
      .map((message) => ({ id: message.body.data.message_id, at: Date.parse(message.received_at) }));
  }

  // By what Chat4All says itself: the status of each, and the begin of the attempt that was accepted, in milliseconds.
  fromApi(chapter) {
    const arrivals = [];
    let cursor = '';
    do {
      const answer = this.ask(`/v1/conversations/${chapter.name}/messages?limit=200${cursor}`);
      if (answer.status !== 200) return null;
      const page = JSON.parse(answer.body);
      for (const message of page.messages.filter((one) => ARRIVED.includes(one.status))) {
        const delivered = message.deliveries[0];
        const taken = delivered.attempts.find((attempt) => attempt.outcome === 'accepted');
        const at = Date.parse(taken ? taken.started_at : delivered.updated_at);
        arrivals.push({ id: message.message_id, at, place: at });
      }
      cursor = page.next_cursor ? `&cursor=${page.next_cursor}` : '';
    } while (cursor);
    return arrivals;
  }

  // Whether what is missing is known to have failed, so that there is nothing to wait for.
  isHopeless() {
    return this.open.every((chapter) => {
      if (chapter.missing.length === 0) return false;
      return FAILED.includes(this.statusOf(chapter.missing[chapter.missing.length - 1]));
    });
  }

  complain(chapter) {
    const { missing, name } = chapter;
    missing.slice(0, SHOWN_MAX).forEach((id) => console.error(`lost: ${id} of ${name} did not arrive; its status: ${this.statusOf(id)}`));
    if (missing.length > SHOWN_MAX) console.error(`lost: ${missing.length - SHOWN_MAX} more of ${name}`);
  }

  statusOf(id) {
    const answer = this.ask(`/v1/messages/${id}`);
    return answer.status === 200 ? answer.json('status') : `not known: ${answer.status || answer.error}`;
  }

  ask(path) {
    return http.get(this.settings.baseUrl + path, { headers: this.headers, tags: { name: 'check' } });
  }
}
