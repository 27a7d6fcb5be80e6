// What do clients and receivers notice of killed workers? `dev/failover` starts the stack, runs this and does the killing.

import http from 'k6/http';
import { Gauge } from 'k6/metrics';

import { checkMessages, options as of, prepare, sendMessages, steady } from './lib/run.js';
import { common, number } from './lib/settings.js';
import { figure, summary } from './lib/summary.js';

const settings = common({ rate: 200, duration: '30s', vus: 100 });
const kills = number('KILLS', 0, 0, 1000); // how many there will be: only to be printed
const planned = settings.rate * settings.durationS;
const longestGap = new Gauge('longest_gap', true);

export const options = of(settings, steady(settings), planned, { dropped_iterations: ['count>=0'] });

export const setup = () => prepare(settings);
export const send = (run) => sendMessages(settings, run, planned);
export const check = () => checkMessages(settings);

// The longest time in which nothing arrived anywhere.
export function teardown(run) {
  if (settings.check !== 'receiver') return;
  const times = [];
  for (const { name } of http.get(`${settings.receiver}/inbox`).json('inboxes')) {
    if (!name.startsWith(`k6-${run}-`)) continue;
    for (const message of JSON.parse(http.get(`${settings.receiver}/inbox/${name}`).body).messages) times.push(Date.parse(message.received_at));
  }
  times.sort((one, other) => one - other);
  longestGap.add(times.reduce((longest, at, place) => Math.max(longest, place ? at - times[place - 1] : 0), 0));
}

export function handleSummary(data) {
  const more = [['kills', String(kills)], ['longest gap', `${figure(data, 'longest_gap', 'value')} ms without an arrival`]];
  const load = `${settings.rate}/s for ${settings.durationS} s`;
  return summary(data, { name: 'failover', load, settings, reference: true, more });
}
