// What a script is told by environment variables. Every value is read and checked before anything is sent; a bad one ends
// the run with the variable's name. Only this file reads the environment.

const URL = /^https?:\/\/([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(\/[^\s?#]*)?$/;
const DURATION = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/;
const CHECKS = ['receiver', 'api', 'none'];

function refuse(name, value, wanted) {
  throw new Error(`${name}: \`${value}\` is not ${wanted}`);
}

function given(name, fallback) {
  const value = __ENV[name];
  return value === undefined || value === '' ? fallback : value.trim();
}

// A number from `least` to `most`; whole unless `decimals` are allowed.
export function number(name, fallback, least, most, decimals = 0) {
  const value = String(given(name, fallback));
  const wanted = `a ${decimals ? '' : 'whole '}number from ${least} to ${most}${decimals ? `, at most ${decimals} decimals` : ''}`;
  const form = decimals ? new RegExp(`^\\d+(\\.\\d{1,${decimals}})?$`) : /^\d+$/;
  if (!form.test(value) || Number(value) < least || Number(value) > most) refuse(name, value, wanted);
  return Number(value);
}

// Seconds, of a text like `90s`, `10m`, `1h30m`.
export function seconds(name, fallback, least, most) {
  const value = String(given(name, fallback));
  const parts = DURATION.exec(value);
  const total = parts && value ? Number(parts[1] || 0) * 3600 + Number(parts[2] || 0) * 60 + Number(parts[3] || 0) : NaN;
  if (!(total >= least && total <= most)) refuse(name, value, `a duration from ${least}s to ${most}s, like \`90s\`, \`10m\` or \`1h30m\``);
  return total;
}

function url(name, fallback) {
  const value = String(given(name, fallback));
  if (!URL.test(value)) refuse(name, value, 'an address like `http://127.0.0.1:8080`');
  return value.replace(/\/+$/, '');
}

function word(name, fallback, wanted, form) {
  const value = String(given(name, fallback));
  if (!form.test(value)) refuse(name, value, wanted);
  return value;
}

// Everything that all scripts take. `defaults` may have `rate`, `duration` and `vus`.
export function common(defaults) {
  const receiver = url('RECEIVER', 'http://127.0.0.1:8090');
  const own = `${receiver}/inbox/{conversation}`;
  const target = word('TARGET', own, 'a target without white space', /^\S+$/);
  const check = word('CHECK', target === own ? 'receiver' : 'api', `one of ${CHECKS.join(', ')}`, new RegExp(`^(${CHECKS.join('|')})$`));
  if (check === 'receiver' && !target.startsWith(`${receiver}/inbox/`)) {
    refuse('CHECK', check, `possible: TARGET does not lead to an inbox of ${receiver}; take \`api\``);
  }
  const apiKey = given('API_KEY', '');
  if (/[^\x21-\x7e]/.test(apiKey)) throw new Error('API_KEY: holds white space, or what no header may hold');
  return {
    baseUrl: url('BASE_URL', 'http://127.0.0.1:8080'),
    apiKey,
    receiver,
    channel: word('CHANNEL', 'webhook', 'a channel\'s name', /^[A-Za-z0-9_-]+$/),
    target,
    check,
    rate: number('RATE', defaults.rate, 0.01, 100000, 2),
    durationS: seconds('DURATION', defaults.duration, 1, 7 * 86400),
    vus: number('VUS', defaults.vus, 1, 10000),
    sizeBytes: number('SIZE', 256, 64, 65536),
    p99Ms: number('P99_MS', 500, 1, 60000),
    settleS: seconds('SETTLE', '60s', 1, 3600),
    results: given('RESULTS', ''),
  };
}
