// What every script is made of: a load of open arrivals, then a check of every message by the virtual users that sent it.

import exec from 'k6/execution';
import http from 'k6/http';
import { Rate, Trend } from 'k6/metrics';

import { Ledger } from './ledger.js';

// The answer to a send: from its first byte sent to the last one read, in milliseconds.
export const ingress = new Trend('ingress', true);
// Sends that were not answered 202.
const errors = new Rate('errors');

// The report shows the run in so many parts.
export const SLICES = 40;
// A request takes 10 s at most; one that is still open this long after the load is cut off and counts for nothing.
const GRACE_S = 5;
const ANSWER_MAX = '10s';
// What k6 may fail to send in time; beyond that the rate was not what was asked for.
const DROPPED_MOST = 0.01;

// k6 takes whole iterations for a unit of time: 12.46/s is 1,246 in 100 s.
export function arrivals(perSecond) {
  return { rate: Math.round(perSecond * 100), timeUnit: '100s' };
}

// A load whose rate does not change.
export function steady(settings) {
  return { executor: 'constant-arrival-rate', ...arrivals(settings.rate), duration: `${settings.durationS}s` };
}

// A load that goes through `[messages a second, seconds]`, each at once.
export function staged(stages) {
  const target = (perSecond) => Math.round(perSecond * 100);
  return {
    executor: 'ramping-arrival-rate',
    startRate: target(stages[0][0]),
    timeUnit: '100s',
    stages: stages.flatMap(([perSecond, seconds]) => [
      { target: target(perSecond), duration: '0s' },
      { target: target(perSecond), duration: `${seconds}s` },
    ]),
  };
}

// The options of a script: `load` is a scenario that sends `planned` messages, `thresholds` are added to those for all.
export function options(settings, load, planned, thresholds = {}) {
  const all = {
    ingress: [`p(99)<${settings.p99Ms}`],
    errors: ['rate==0'],
    loss: ['count==0'],
    order: ['count==0'],
    accepted: ['count>0'],
    dropped_iterations: [`count<=${Math.floor((planned / (settings.batch || 1)) * DROPPED_MOST)}`],
    ...thresholds,
  };
  // k6 keeps the figures of a part of the run only where a threshold asks for them: this one always holds.
  for (let slice = 0; slice < SLICES; slice += 1) {
    all[`ingress{slice:${slice}}`] = ['max>=0'];
    all[`errors{slice:${slice}}`] = ['rate>=0'];
  }
  const { vus } = settings;
  return {
    scenarios: {
      load: { ...load, preAllocatedVUs: vus, maxVUs: vus, gracefulStop: `${GRACE_S}s`, exec: 'send' },
      // As many as there are, so that each one checks what it has sent.
      check: {
        executor: 'per-vu-iterations',
        vus,
        iterations: 1,
        startTime: `${settings.durationS + GRACE_S + 0.5}s`,
        maxDuration: `${settings.settleS + 120}s`,
        exec: 'check',
      },
    },
    thresholds: all,
    summaryTrendStats: ['count', 'avg', 'min', 'med', 'p(95)', 'p(99)', 'p(99.9)', 'max'],
    setupTimeout: '30s',
    discardResponseBodies: false,
  };
}

function headers(settings) {
  const own = { 'Content-Type': 'application/json' };
  return settings.apiKey ? { ...own, Authorization: `Bearer ${settings.apiKey}` } : own;
}

// Looks whether everything is there. What it returns makes the names of this run unlike those of any other.
export function prepare(settings) {
  const ready = http.get(`${settings.baseUrl}/health/ready`, { tags: { name: 'check' } });
  if (ready.status !== 200) throw new Error(`BASE_URL: ${settings.baseUrl} is not ready: ${ready.status || ready.error}`);
  const channel = http.get(`${settings.baseUrl}/v1/channels/${settings.channel}`, { headers: headers(settings), tags: { name: 'check' } });
  if (channel.status === 401) throw new Error('API_KEY: the API does not take it');
  if (channel.status === 404) throw new Error(`CHANNEL: ${channel.json('detail')}`);
  if (settings.check === 'receiver') {
    const receiver = http.get(`${settings.receiver}/`, { tags: { name: 'check' } });
    if (receiver.status !== 200) throw new Error(`RECEIVER: no simulator at ${settings.receiver}: ${receiver.status || receiver.error}`);
  }
  return Date.now().toString(36) + Math.floor(Math.random() * 46656).toString(36);
}

// State of this virtual user: it outlives a scenario.
let ledger = null;
let sent = 0;
let hasWarned = false;
let filler = '';

// Sends `count` messages of one conversation: one by one, or as a batch. `tags` mark what is measured.
export function sendMessages(settings, run, planned, count = 1, tags = {}) {
  ledger = ledger || new Ledger(settings, run, planned);
  filler = filler || '.'.repeat(settings.sizeBytes);
  ledger.turnPageIfFull(count);
  const messages = [];
  for (let n = 0; n < count; n += 1) {
    sent += 1;
    const text = `message ${sent} of ${ledger.conversation()} ${filler}`.slice(0, settings.sizeBytes);
    messages.push({ to: [ledger.address()], conversation_id: ledger.conversation(), content: { type: 'text', text } });
  }
  const isBatch = settings.batch > 0;
  const answer = http.post(
    `${settings.baseUrl}/v1/messages${isBatch ? '/batch' : ''}`,
    JSON.stringify(isBatch ? { messages } : messages[0]),
    { headers: headers(settings), timeout: ANSWER_MAX, tags: { name: 'send' } },
  );
  const all = { slice: String(Math.min(SLICES - 1, Math.floor(exec.scenario.progress * SLICES))), ...tags };
  ingress.add(answer.timings.duration, all);
  const results = resultsOf(answer, isBatch, count);
  for (const result of results) {
    errors.add(result.status !== 202, all);
    if (result.status === 202) ledger.accept(result.message_id, result.accepted_at);
    else warn(result);
  }
}

// A result for each message, as a batch is answered.
function resultsOf(answer, isBatch, count) {
  if (isBatch && answer.status === 200) return answer.json('results');
  if (!isBatch && answer.status === 202) return [{ ...answer.json(), status: 202 }];
  const error = answer.body ? String(answer.body).slice(0, 200) : answer.error;
  return new Array(count).fill({ status: answer.status, error });
}

function warn(result) {
  if (hasWarned) return;
  hasWarned = true;
  const why = typeof result.error === 'string' ? result.error : JSON.stringify(result.error);
  console.warn(`a send was not answered 202: ${result.status || 'no answer'}: ${why}`);
}

// The check at the end, by each virtual user of what it sent itself.
export function checkMessages(settings) {
  if (ledger && settings.check !== 'none') ledger.close();
}
